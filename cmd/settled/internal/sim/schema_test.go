package sim

import (
	"flag"
	"strings"
	"testing"

	"settled/cmd/settled/internal/schematest"
)

var update = flag.Bool("update", false, "write generated files again")

// contract is the schemas of the control API.
var contract = schematest.Load(Schemas)

// TestSchemas compares the schemas of the control API with the code.
func TestSchemas(t *testing.T) {
	schemas := map[string]*schematest.Schema{}
	for name, document := range map[string]struct {
		title string
		value any
	}{
		"node":     {"Answer of GET / and POST /reset of the simulated node's control API", NodeInfo{}},
		"opening":  {"Request of POST /sessions: which sessions to open", Opening{}},
		"opened":   {"Answer of POST /sessions", SessionList{}},
		"sessions": {"Answer of GET /sessions", SessionLines{}},
		"session":  {"Answer of GET /sessions/{id}", SessionAnswer{}},
		"faults":   {"Answer of GET, PUT and DELETE /faults, and request of PUT", FaultSetting{}},
		"clock":    {"Answer of GET and POST /clock", ClockAnswer{}},
		"check":    {"Answer of GET /check", CheckAnswer{}},
		"error":    {"Answer of a request that failed", ErrorAnswer{}},
	} {
		schemas["sim."+name] = schematest.Of(document.value)
		schemas["sim."+name].Title = document.title
	}
	schematest.Files(t, *update, "schema", schemas)
}

// answerSchema names the schema of an answer of the control API.
func answerSchema(call string, status int) string {
	switch {
	case status != 200:
		return "sim.error"
	case call == "GET /", call == "POST /reset":
		return "sim.node"
	case call == "POST /sessions":
		return "sim.opened"
	case strings.HasPrefix(call, "GET /sessions/"):
		return "sim.session"
	case strings.HasPrefix(call, "GET /sessions"):
		return "sim.sessions"
	case call == "GET /check":
		return "sim.check"
	case call == "GET /clock", call == "POST /clock":
		return "sim.clock"
	default:
		return "sim.faults"
	}
}
