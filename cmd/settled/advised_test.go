package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// deniedNATS is a server whose user may publish nothing but what JetStream's own
// look-up of the account needs.
func deniedNATS(t *testing.T) string {
	t.Helper()
	s := startNATS(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*server.User{{
		Username: "reader", Password: "test", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"$JS.API.INFO"}}},
	}}})
	return strings.Replace(s.ClientURL(), "nats://", "nats://reader:test@", 1)
}

// A command that NATS doesn't let do its work says so, not that it ran out of time.
func TestDeniedCommandsSayWhatIsDenied(t *testing.T) {
	t.Parallel()
	url := deniedNATS(t)
	deniedTo := func(url string) *deployment { return &deployment{t: t, cfg: config.Config{NATSURL: url}} }
	for _, args := range [][]string{
		{"publish", "cancellation", "--session", "0x" + zeros(63) + "1"},
		{"deadletter", "list"},
		{"stop", "--reason", "test"},
	} {
		status, _, stderr := deniedTo(url).command(args...)
		if status != exitFailed || !strings.Contains(stderr, "NATS denies the user of nats.url a permission") || !strings.Contains(stderr, `Permissions Violation for Publish to "`) {
			t.Errorf("%q: %d, %s", args, status, stderr)
		}
	}
	status, _, stderr := deniedTo(strings.Replace(url, "reader:test", "reader:wrong", 1)).command("deadletter", "list")
	if status != exitFailed || !strings.Contains(stderr, "doesn't know this user") || strings.Contains(stderr, "wrong") {
		t.Errorf("a wrong password: %d, %s", status, stderr)
	}
}

// What NATS doesn't answer sends to the doctor; a misuse and a plain failure don't.
func TestErrorsSendToTheDoctor(t *testing.T) {
	var p program
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("read: %w", &jetstream.APIError{Code: 503, ErrorCode: 10008}), true},
		{fmt.Errorf("read: %w", nats.ErrTimeout), true},
		{errors.New("the ledger does not verify"), false},
		{terminal.UsageError(nats.ErrTimeout), false},
	} {
		if got := p.explain(tc.err); strings.Contains(got.Error(), "settled doctor") != tc.want || !errors.Is(got, tc.err) {
			t.Errorf("%v becomes %v", tc.err, got)
		}
	}
}

// A publisher that got no answer is told the id under which it may try again, for
// the id was drawn by the command itself.
func TestPublishNamesTheIDToTryAgain(t *testing.T) {
	d := deploy(t) // without a service nobody has made the stream
	status, _, stderr := d.command("publish", "cancellation", "--session", "0x"+zeros(63)+"1")
	if status != exitFailed || !strings.Contains(stderr, `publish it again with --source "/settled/publish" --id "`) {
		t.Errorf("%d, %s", status, stderr)
	}
}

// Where the command has no node, what a replay would come to isn't known; that the
// service would wait is not true.
func TestForecastWithoutANodeIsUnknown(t *testing.T) {
	f := status.Forecast{Would: "unknown", Message: "the node is not asked: clearnode.url is not set"}
	if text := f.Text(); text != "unknown: the node is not asked: clearnode.url is not set" {
		t.Error(text)
	}
	_, err := unavailableNode{errors.New("x")}.Session(t.Context(), "", settlement.ReadOptions{})
	if !errors.Is(err, errNodeNotAsked) {
		t.Error(err)
	}
}

// Prose is wrapped below its own beginning; what has no spaces stays beside its name.
func TestIndented(t *testing.T) {
	long := strings.Repeat("x", 150)
	text := indented("        error  " + strings.Repeat("word ", 40) + "\n        answer " + long + ", the node's\n")
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, "            ") {
			t.Errorf("not set off: %q", l)
		}
	}
	if !strings.Contains(text, "answer "+long) || strings.Count(text, "\n") != 3 {
		t.Error(text)
	}
}
