package clearnode

import (
	"errors"
	"fmt"

	"settled/settlement"
)

// closedMethod is the method under which some builds answer a close.
const closedMethod = "app_session_closed"

// closedVersion reads the answer to a close on NitroRPC, of any version, and returns
// the session's version where the answer tells it, else 0. The public guides show more
// forms than one build uses: the method is close_app_session or app_session_closed, the
// session is named app_session_id or app_id, and there may be no status. An error says that the answer does not show
// the session closed: it is about another one, or has another status.
func closedVersion(a answer, session settlement.SessionID) (uint64, error) {
	method := closeMethod
	if a.method == closedMethod {
		method = closedMethod
	}
	var p struct {
		Session *string `json:"app_session_id"`
		App     *string `json:"app_id"`
		Status  *string `json:"status"`
		Version uint64  `json:"version"`
	}
	if err := a.into(method, &p); err != nil {
		return 0, err
	}
	if p.Session == nil && p.App == nil {
		return 0, errors.New("the answer names no session")
	}
	for _, id := range []*string{p.Session, p.App} {
		if id != nil && *id != string(session) {
			return 0, fmt.Errorf("the answer is about session %s", quote(*id))
		}
	}
	if p.Status != nil && *p.Status != "closed" {
		return 0, fmt.Errorf("the node answers that the session is %s", quote(*p.Status))
	}
	return p.Version, nil
}
