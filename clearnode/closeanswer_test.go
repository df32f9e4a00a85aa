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
					cfg := config(n.URL())
					cfg.Connections = 1
					c := ready(t, cfg)
					def := duel()
					if protocol == clearnodetest.Nitro04 {
						def.Protocol = "NitroRPC/0.4"
					}
					id := open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"), put(judge, "usdc", "0"))
					s := look(t, c, id, settlement.ReadOptions{})
					r, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
					if err != nil {
						t.Fatal(err)
					}
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

// TestCloseAnswerUnsigned: no form is an answer with another signature than the node's.
func TestCloseAnswerUnsigned(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.Legacy} {
		n := startNode(t, clearnodetest.Config{Protocol: protocol, CloseAnswer: func(id string) (string, any) {
			return "app_session_closed", map[string]any{"app_id": id}
		}})
		c := ready(t, config(n.URL()))
		s := look(t, c, open(t, n, duel(), put(playerA, "usdc", "10"), put(judge, "usdc", "0")), settlement.ReadOptions{})
		r, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "10"), s)
		if err != nil {
			t.Fatal(err)
		}
		n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.WrongSignature})
		_, err = c.Send(t.Context(), r)
		wantInDoubt(t, err)
	}
}
