package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// snapshot is a copy of a stream as `nats stream backup` takes it.
type snapshot struct {
	stream        string
	config, state json.RawMessage
	chunks        [][]byte
}

func askServer(t *testing.T, nc *nats.Conn, subject string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	must(t, err)
	m, err := nc.Request(subject, body, 5*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var failed struct{ Error any }
	if err := json.Unmarshal(m.Data, &failed); err != nil || failed.Error != nil {
		t.Fatalf("%s: %v %s", subject, err, m.Data)
	}
	must(t, json.Unmarshal(m.Data, answer))
}

// takeSnapshot does what `nats stream backup` does.
func takeSnapshot(t *testing.T, nc *nats.Conn, stream string) snapshot {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	s := snapshot{stream: stream}
	var answer struct{ Config, State json.RawMessage }
	askServer(t, nc, "$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox, "chunk_size": 64 << 10}, &answer)
	s.config, s.state = answer.Config, answer.State
	for {
		m, err := sub.NextMsg(5 * time.Second)
		must(t, err)
		if len(m.Data) == 0 {
			return s
		}
		s.chunks = append(s.chunks, m.Data)
		if m.Reply != "" {
			must(t, m.Respond(nil))
		}
	}
}

// restore does what `nats stream restore` does.
func (s snapshot) restore(t *testing.T, nc *nats.Conn) {
	t.Helper()
	var answer struct {
		Subject string `json:"deliver_subject"`
	}
	askServer(t, nc, "$JS.API.STREAM.RESTORE."+s.stream, map[string]any{"config": s.config, "state": s.state}, &answer)
	for _, chunk := range append(s.chunks, nil) {
		if _, err := nc.Request(answer.Subject, chunk, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}
