package dashboard

import (
	"flag"
	"strings"
	"testing"

	"settled/cmd/settled/internal/schematest"
	"settled/cmd/settled/internal/status"
	"settled/consumer/deadletter"
)

var update = flag.Bool("update", false, "write generated files again")

// contract is the schemas of the API.
var contract = schematest.Load(Schemas)

// TestSchemas compares the schemas of the HTTP API with the code.
func TestSchemas(t *testing.T) {
	schematest.Files(t, *update, "schema", apiSchemas())
}

func apiSchemas() map[string]*schematest.Schema {
	schemas := map[string]*schematest.Schema{}
	add := func(name, title string, v any) *schematest.Schema {
		s := schematest.Of(v)
		s.Title = title
		schemas["api."+name] = s
		return s
	}
	add("health", "Answer of GET /healthz and /readyz", healthResult{})
	add("error", "Answer of a request under /api/ that failed", errorResult{})
	codes := schematest.At(add("overview", "Answer of GET /api/overview", overview{}), "codes")
	codes.Items.Properties["code"].Enum = append(codes.Items.Properties["code"].Enum, otherName)
	add("settlements", "Answer of GET /api/settlements", feedPage{})
	add("session", "Answer of GET /api/session/{id}", sessionPage{})
	answer := add("outcome", "Answer of GET /api/outcome", status.Answer{})
	answer.Properties["state"].Enum = []any{status.Waiting, status.Closing, status.Closed, status.Failed, status.Lost}
	add("search", "Answer of GET /api/search", searchPage{})
	letters := add("deadletters", "Answer of GET /api/deadletters", deadLetterPage{})
	letter := add("deadletter", "Answer of GET /api/deadletters/{sequence}", deadLetterView{})
	for _, s := range []*schematest.Schema{schematest.At(letters, "letters").Items, letter} { // an older version's, or somebody else's
		s.Properties["code"].Enum, s.Properties["class"].Enum = nil, nil
	}
	add("replay", "Answer of POST /api/deadletters/{sequence}/replay", deadletter.ReplayResult{})
	add("discard", "Answer of POST /api/deadletters/{sequence}/discard", discardResult{})
	add("events", "Data of a server-sent event of GET /api/events", entriesEvent{})
	return schemas
}

// answerSchema names the schema of the answer to a request; empty if the answer is not JSON.
func answerSchema(path string, status int) string {
	path, _, _ = strings.Cut(path, "?")
	token := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/healthz" || path == "/readyz":
		return "api.health"
	case token[0] != "api":
		return ""
	case status >= 400:
		return "api.error"
	case token[1] == "deadletters" && len(token) == 3:
		return "api.deadletter"
	case token[1] == "deadletters" && len(token) == 4:
		return "api." + token[3]
	default:
		return "api." + token[1]
	}
}
