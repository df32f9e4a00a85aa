package clearnode_test

import (
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestCloseAnswers: each generation of NitroRPC, with each form of the answer to a close
// that the public guides show; and forms that are no answer, which leave the close in
// doubt.
func TestCloseAnswers(t *testing.T) {
	const other = "0x7fc7f015f3dbf30147909d5a4e47876736bbc4cc9ad3643cce527b8104f220ff"
	type params = map[string]any
	for name, form := range map[string]struct {
		params func(id string) any
		closed bool
	}{
		"app_session_id":           {func(id string) any { return params{"app_session_id": id, "status": "closed"} }, true},
		"app_id":                   {func(id string) any { return params{"app_id": id, "status": "closed"} }, true},
		"no status":                {func(id string) any { return params{"app_session_id": id} }, true},
		"app_id, no status":        {func(id string) any { return params{"app_id": id} }, true},
		"status null":              {func(id string) any { return params{"app_session_id": id, "status": nil} }, true},
		"both names":               {func(id string) any { return params{"app_session_id": id, "app_id": id, "status": "closed"} }, true},
		"open":                     {func(id string) any { return params{"app_session_id": id, "status": "open"} }, false},
		"Closed":                   {func(id string) any { return params{"app_id": id, "status": "Closed"} }, false},
		"status empty":             {func(id string) any { return params{"app_id": id, "status": ""} }, false},
		"status a number":          {func(id string) any { return params{"app_id": id, "status": 1} }, false},
		"another session":          {func(string) any { return params{"app_session_id": other, "status": "closed"} }, false},
		"another session's app_id": {func(string) any { return params{"app_id": other} }, false},
		"two sessions":             {func(id string) any { return params{"app_session_id": id, "app_id": other} }, false},
		"no session":               {func(string) any { return params{"status": "closed"} }, false},
		"two answers":              {func(id string) any { return []any{params{"app_id": id}, params{"app_id": id}} }, false},
		"null":                     {func(string) any { return nil }, false},
	} {
		for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.Legacy} {
			for method, fits := range map[string]bool{"close_app_session": true, "app_session_closed": true, "get_app_sessions": false} {
				t.Run(protocol+"/"+method+"/"+name, func(t *testing.T) {
					n := startNode(t, clearnodetest.Config{Protocol: protocol, CloseAnswer: func(id string) (string, any) { return method, form.params(id) }})
					c := one(t, n.URL())
					def := gameDefinition()
					if protocol == clearnodetest.Nitro04 {
						def.Protocol = "NitroRPC/0.4"
					}
					id := open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"), put(judge, "usdc", "0"))
					s := readSession(t, c, id, settlement.ReadOptions{})
					r := prepare(t, c, settlement.Outcome{}, gamePlan(t, s), s)
					a, err := c.Send(t.Context(), r)
					if form.closed && fits {
						if err != nil || a.Evidence.RequestID != r.Ref.ID {
							t.Errorf("%+v %v", a, err)
						}
						return
					}
					wantInDoubt(t, err)
				})
			}
		}
	}
}
