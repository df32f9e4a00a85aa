package clearnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// maxStrays is how many frames may come before the one that tells the node's
// generation: a ClearNode 0.5.2 greets with its assets.
const maxStrays = 64

// identify finds out of which generation the node is, by one question that each
// answers in its own way (recorded from all three): a ping of NitroRPC, its
// params an empty list.
//
//	0.2, 0.4   pong
//	legacy     an error: nothing is answered before sign-in, a ping neither
//	v1         an error in a frame of another shape
//
// What answers is not verified here. It chooses how we speak, and nothing else.
func (c *Client) identify(ctx context.Context, ws *websocket.Conn) (string, error) {
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	id := nextID()
	req, err := body(id, "ping", []any{}, millis(c.nodeTime()))
	if err != nil {
		return "", err
	}
	until := time.Now().Add(c.cfg.RequestTimeout)
	if err := errors.Join(ws.SetWriteDeadline(until), ws.SetReadDeadline(until)); err != nil {
		return "", err
	}
	if err := ws.WriteMessage(websocket.TextMessage, envelope(req)); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	for range maxStrays {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			return "", fmt.Errorf("the node does not say which protocol it speaks: %w", err)
		}
		if found := spokenIn(raw, id); found != "" {
			return found, ws.SetReadDeadline(time.Time{})
		}
	}
	return "", errors.New("the node does not say which protocol it speaks")
}

// spokenIn is the generation that a frame shows, where it is an answer to the
// question.
func spokenIn(raw []byte, id uint64) string {
	var frame struct {
		Res []json.RawMessage `json:"res"`
		Err json.RawMessage   `json:"err"`
	}
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		return spokenInV1(raw, id)
	}
	if json.Unmarshal(raw, &frame) != nil {
		return ""
	}
	if bytes.Contains(frame.Err, []byte(legacyUnknownText)) {
		return protocolLegacy // of a build that has its own frames for errors
	}
	if len(frame.Res) != 4 {
		return ""
	}
	var answered uint64
	var method string
	if json.Unmarshal(frame.Res[0], &answered) != nil || json.Unmarshal(frame.Res[1], &method) != nil {
		return ""
	}
	switch {
	case bytes.Contains(frame.Res[2], []byte(legacyUnknownText)):
		return protocolLegacy
	case answered == id:
		return protocol04
	}
	return ""
}

// spokenInV1: the question is no frame to this generation, so that its answer is an
// error without an id; or it has the question's. Any other frame is nobody's.
func spokenInV1(raw []byte, id uint64) string {
	f, err := readV1Frame(raw)
	switch {
	case err != nil:
	case f.kind == v1KindError && f.id == 0, f.kind == v1KindError && f.id == id, f.kind == v1KindAnswer && f.id == id:
		return protocolV1
	}
	return ""
}

// legacyUnknownText is what a legacy node answers to everything before sign-in.
const legacyUnknownText = "Authentication required. Please send auth_request first."
