package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/natstest"
	"settled/settlement"
)

// sealedLedger is a ledger of eight entries of four sessions, of which six are sealed, by a
// service that was stopped.
type sealedLedger struct {
	*deployment
	restore        func(*server.Server) *server.Server // of the ledger with its first two entries
	file, key, own string                              // manifest, key file and address of its signer
}

func newSealedLedger(t *testing.T) *sealedLedger {
	t.Helper()
	d := deploy(t)
	l := &sealedLedger{deployment: d, file: filepath.Join(d.dir, "manifest.jsonl"), key: filepath.Join(d.dir, "seal.key")}
	l.own = addressOf(d.key("seal"))
	l.settle("first")
	d.server, l.restore = natstest.Backup(t, d.server)
	l.settle("second", "third", "fourth")
	if status, r := l.seal("--segment", "3", "--sign-key", l.key); status != exitDone || len(r.Sealed) != 2 || r.SealedUntil != 6 || r.NotSealed != 2 {
		t.Fatalf("%d %+v", status, r)
	}
	return l
}

// settle has a service close a session for each of these outcomes.
func (l *sealedLedger) settle(ids ...string) {
	l.t.Helper()
	_, stop := l.serve()
	defer stop()
	for _, id := range ids {
		session := l.open()
		if e := l.result(session, l.publish("partial_service", id, session, l.partial())); e.State != settlement.EntryClosed {
			l.t.Fatalf("%+v", e.Error)
		}
	}
}

func (l *sealedLedger) seal(args ...string) (int, sealResult) {
	l.t.Helper()
	status, out, stderr := l.command(append([]string{"ledger", "seal", "-o", "json", "--manifest", l.file}, args...)...)
	var r sealResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		l.t.Fatalf("%v: %d %s %s", err, status, out, stderr)
	}
	if status == exitDone {
		l.checkManifest()
	}
	return status, r
}

// checkManifest validates every line of the manifest.
func (l *sealedLedger) checkManifest() {
	l.t.Helper()
	text, err := os.ReadFile(l.file)
	l.must(err)
	schema := "manifest.header"
	for line := range strings.Lines(string(text)) {
		l.must(contract.Check(schema, []byte(line)))
		schema = "manifest.segment"
	}
}

// verifySealed verifies by the manifest, and demands a finding with that text; empty: none.
func (l *sealedLedger) verifySealed(want string, args ...string) verifyResult {
	l.t.Helper()
	status, r := l.verifyLedger(append([]string{"--no-node", "--manifest", l.file, "--signer", l.own}, args...)...)
	found := ""
	for _, f := range r.Findings {
		found += f.Kind + ": " + f.Problem + "\n"
	}
	if (status == exitDone) != (want == "") || r.OK != (want == "") || !strings.Contains(found, want) {
		l.t.Errorf("%v: status %d, want %q in:\n%s", args, status, want, found)
	}
	return r
}

// messages returns the ledger's messages from the third one on.
func (l *sealedLedger) messages() (all []ledger.Message) {
	l.t.Helper()
	_, err := l.ledger().Walk(l.t.Context(), 3, func(s ledger.Stored) error {
		all = append(all, s.Message)
		return nil
	})
	l.must(err)
	return all
}

// replace replaces the messages of the ledger from the third one on: it restores an older
// copy of the store, and publishes others.
func (l *sealedLedger) replace(messages []ledger.Message) {
	l.t.Helper()
	l.server = l.restore(l.server)
	natstest.Eventually(l.t, func() error { _, err := l.nats.JS.Stream(l.t.Context(), "SETTLEMENTS"); return err })
	for i, m := range messages {
		ack, err := l.nats.JS.Publish(l.t.Context(), m.Subject, m.Payload)
		l.must(err)
		if ack.Sequence != uint64(i)+3 { // #nosec G115 -- few
			l.t.Fatalf("message %d is stored as %d", i+3, ack.Sequence)
		}
	}
}

// A manifest saves reading what it seals, and the result says what was read.
func TestVerifyBySealedSegments(t *testing.T) {
	t.Parallel()
	l := newSealedLedger(t)
	for _, c := range []struct {
		args                                  []string
		entries, sealedRead, notRead, sampled int
	}{
		{nil, 2, 6, 0, 2}, {[]string{"--sample", "1"}, 2, 3, 3, 1}, {[]string{"--sample", "0"}, 2, 0, 6, 0}, {[]string{"--full"}, 8, 6, 0, 0},
	} {
		r := l.verifySealed("", c.args...)
		m := r.Manifest
		if int(r.Entries) != c.entries || int(m.SealedRead) != c.sealedRead || int(m.SealedNotRead) != c.notRead || len(m.Sampled) != c.sampled || m.ReadAfterThose != 2 || // #nosec G115 -- few
			m.SealedUntil != 6 || !m.SignerChecked || fmt.Sprint(m.SignedBy) != fmt.Sprint([]string{l.own}) || !strings.HasPrefix(r.Anchor, "8:") {
			t.Errorf("%v: %+v %+v", c.args, r, m)
		}
	}
	before, err := os.ReadFile(l.file)
	l.must(err)
	if status, r := l.seal("--sign-key", l.key, "--signer", l.own); status != exitDone || len(r.Sealed) != 0 || r.NotSealed != 2 || r.Size != 3 {
		t.Errorf("sealed again: %d %+v", status, r)
	}
	if after, _ := os.ReadFile(l.file); string(after) != string(before) {
		t.Errorf("the manifest was changed: %s", after)
	}
	l.settle("fifth")
	if status, r := l.seal("--sign-key", l.key); status != exitDone || len(r.Sealed) != 1 || r.Sealed[0].First != 7 || r.NotSealed != 1 {
		t.Errorf("sealed more: %d %+v", status, r)
	}
	if after, _ := os.ReadFile(l.file); !strings.HasPrefix(string(after), string(before)) {
		t.Errorf("sealed segments were changed: %s", after)
	}
	if r := l.verifySealed(""); r.Entries != 1 || r.Sessions != 1 || r.Closed != 1 {
		t.Errorf("a session that began in a sealed segment: %+v", r)
	}
}

// Every change of a sealed ledger is reported, and nothing is sealed over one.
func TestVerifyFindsChangesOfTheSealed(t *testing.T) {
	t.Parallel()
	l := newSealedLedger(t)
	sealed, err := os.ReadFile(l.file)
	l.must(err)
	all := l.messages()
	refuses := func(want string) {
		t.Helper()
		status, r := l.seal("--sign-key", l.key)
		if status != exitFailed || r.OK || len(r.Sealed) > 0 || !strings.Contains(fmt.Sprint(r.Findings), want) {
			t.Errorf("sealed: %d %+v, want %q", status, r, want)
		}
		if is, _ := os.ReadFile(l.file); string(is) != string(sealed) {
			t.Errorf("the manifest was changed: %s", is)
		}
	}

	flipped := slices.Clone(all)
	flipped[0].Payload = []byte(strings.Replace(string(all[0].Payload), `"attempt":1`, `"attempt":2`, 1))
	l.replace(flipped)
	l.verifySealed("sealed segment 1 (entries 1 to 3) is not what was sealed")
	l.verifySealed("sealed segment 1 (entries 1 to 3) is not what was sealed", "--full")
	if r := l.verifySealed("", "--sample", "0"); r.Manifest.SealedNotRead != 6 {
		t.Errorf("%+v", r.Manifest)
	}

	flipped[3].Payload = append(slices.Clone(all[3].Payload), ' ')
	l.replace(flipped)
	l.verifySealed("by the manifest it was", "--sample", "0")
	refuses("by the manifest it was")

	l.replace(append(slices.Clone(all), all[0])) // a copy, of another client
	l.verifySealed("not an entry of this ledger", "--sample", "0")
	l.verifySealed("not an entry of this ledger", "--full")
	refuses("not an entry of this ledger")

	l.replace(all)
	l.verifySealed("")
	l.removeFirst()
	l.verifySealed("1 of the sealed entries are missing from the stream", "--sample", "0")
	l.verifySealed("entry 1 is missing")
	l.verifySealed("entries 1 to 1 are missing from the stream", "--full")
	refuses("1 of the sealed entries are missing")

	l.replace(all[:2])
	for _, args := range [][]string{nil, {"--sample", "0"}} {
		if r := l.verifySealed("the ledger ends here, and by the manifest it went on to entry 6: its tail was removed", args...); r.Anchor != "" {
			t.Errorf("anchor %s", r.Anchor)
		}
	}
	l.verifySealed("segments 2 to 2 are not complete", "--full")
	refuses("its tail was removed")
}

// removeFirst removes the ledger's first entry by a limit that is set and put back.
func (l *sealedLedger) removeFirst() {
	l.t.Helper()
	stream, err := l.nats.JS.Stream(l.t.Context(), "SETTLEMENTS")
	l.must(err)
	was := stream.CachedInfo()
	limited := was.Config
	limited.MaxMsgs, limited.Discard = int64(was.State.Msgs)-1, jetstream.DiscardOld // #nosec G115 -- few
	for _, c := range []jetstream.StreamConfig{limited, was.Config} {
		_, err = l.nats.JS.UpdateStream(l.t.Context(), c)
		l.must(err)
	}
}

// A manifest that is not what was written, or not of this ledger, is not used.
func TestVerifyRefusesManifests(t *testing.T) {
	t.Parallel()
	l := newSealedLedger(t)
	text, err := os.ReadFile(l.file)
	l.must(err)
	parsed, err := ledger.ParseManifest(text)
	l.must(err)
	other, err := ledger.NewManifest(parsed.Stream, parsed.Created.Add(1), 3)
	l.must(err)
	elsewhere, err := ledger.NewManifest("OTHER_SETTLEMENTS", parsed.Created, 3)
	l.must(err)
	lines := strings.SplitAfter(string(text), "\n")
	unsigned := lines[0] + strings.Split(lines[1], `,"signer"`)[0] + "}\n"
	for it, c := range map[string]struct{ text, want string }{
		"an edited segment":       {strings.Replace(string(text), `"closing":`, `"closing":0`, 1), "edited or damaged"},
		"an edited last segment":  {lines[0] + lines[1] + strings.Replace(lines[2], parsed.Segments[1].MerkleRoot, parsed.Segments[0].MerkleRoot, 1), "the line was changed after it was signed"},
		"a removed segment":       {lines[0] + lines[2], "edited or damaged"},
		"half a line":             {string(text[:len(text)-5]), "does not end with a line feed"},
		"an edited header":        {strings.Replace(string(text), `"segment_entries":3`, `"segment_entries":2`, 1), "edited or damaged"},
		"of a recreated ledger":   {string(other.Text()), "the ledger was deleted and created again"},
		"of another ledger":       {string(elsewhere.Text()), "it is of the stream OTHER_SETTLEMENTS"},
		"not signed":              {unsigned, "segment 1 is not signed"},
		"signed in part":          {lines[0], ""},
		"without a last segment":  {lines[0] + lines[1], ""},
		"as it was":               {string(text), ""},
		"with something after it": {string(text) + "x\n", "edited or damaged"},
	} {
		l.must(os.WriteFile(l.file, []byte(c.text), 0o600))
		if r := l.verifySealed(c.want); c.want != "" && (r.Entries != 0 || r.Manifest == nil || r.Findings[0].Kind != manifestKind) {
			t.Errorf("%s: %+v", it, r)
		}
		if status, r := l.seal("--signer", l.own); c.want != "" && (status != exitFailed || !strings.Contains(fmt.Sprint(r.Findings), c.want)) {
			t.Errorf("%s: sealed: %d %+v", it, status, r)
		}
	}
	l.must(os.WriteFile(l.file, text, 0o600))
	status, r := l.verifyLedger("--no-node", "--manifest", l.file, "--signer", addressOf(l.judge))
	if status != exitFailed || !strings.Contains(fmt.Sprint(r.Findings), "whom --signer does not name") {
		t.Errorf("another signer: %d %+v", status, r)
	}
	if status, r := l.verifyLedger("--no-node", "--manifest", l.file); status != exitDone || r.Manifest.SignerChecked || len(r.Manifest.SignedBy) != 1 {
		t.Errorf("without --signer: %d %+v", status, r)
	}
	l.must(os.WriteFile(l.file, []byte(unsigned), 0o600))
	if status, out, _ := l.command("ledger", "verify", "--no-node", "--manifest", l.file); status != exitDone || !strings.Contains(out, "not signed: whoever can write the file can change it") || !strings.Contains(out, "Read: 5 entries after the sealed ones, and 3 sealed entries (segments 1). Not read: 0 sealed entries.") {
		t.Errorf("not signed: %d %s", status, out)
	}
	for _, args := range [][]string{
		{"verify", "--no-node", "--signer", l.own}, {"verify", "--no-node", "--manifest", l.file, "--signer", "x"}, {"verify", "--no-node", "--manifest", l.file, "--sample", "-1"},
		{"verify", "--no-node", "--manifest", l.file, "0x" + strings.Repeat("1", 64)}, {"seal"}, {"seal", "--manifest", l.file + ".new", "--segment", "0"},
	} {
		if status, _, stderr := l.command(append([]string{"ledger"}, args...)...); status != exitMisused {
			t.Errorf("%v: %d %s", args, status, stderr)
		}
	}
	if status, _, stderr := l.command("ledger", "verify", "--no-node", "--manifest", l.file+".none"); status != exitFailed || !strings.Contains(stderr, "settled ledger seal") {
		t.Errorf("no manifest: %d %s", status, stderr)
	}
}
