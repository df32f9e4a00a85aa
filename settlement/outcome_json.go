package settlement

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"settled/settlement/spelling"
)

// ParseOutcome reads an outcome from its envelope. It always returns an Outcome with as
// much of its identity as could be read. If the message breaks the contract, Invalid says
// how, and the same Failure (code invalid_outcome) is returned as the error.
func ParseOutcome(e Envelope) (Outcome, error) {
	o := Outcome{Envelope: e, Ref: OutcomeRef{Source: e.Source, ID: e.ID, Type: e.Type, Stream: e.Stream, Sequence: e.Sequence, Stored: storedText(e.Stored)}}
	data, parseErr := parseJSON(e.Data)
	o.Ref.Digest = data.digest(parseErr, e.Payload)
	o.Session = data.session()
	err := o.read(e, data, parseErr)
	if err != nil {
		o.Invalid = Fail(InvalidOutcome, "%s", err)
		return o, o.Invalid
	}
	return o, nil
}

const storedLayout = "2006-01-02T15:04:05.000000000Z"

func storedText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(storedLayout)
}

func (o *Outcome) read(e Envelope, data jsonValue, parseErr error) error {
	scenario, scenarioErr := ParseScenario(strings.TrimPrefix(e.Subject, "outcome."))
	if scenarioErr == nil {
		o.Scenario = scenario
	}
	if e.Malformed != nil {
		return e.Malformed
	}
	if scenarioErr != nil {
		return scenarioErr
	}
	if want := "outcome." + string(scenario); e.Type != want {
		return fmt.Errorf("type %s does not match the subject: want %q", Quote(e.Type), want)
	}
	if parseErr != nil {
		return fmt.Errorf("data: %w", parseErr)
	}
	return o.readData(data)
}

func (o *Outcome) readData(data jsonValue) error {
	members, ok := data.v.(map[string]any)
	if !ok {
		return errors.New("data: want a JSON object")
	}
	if err := checkSpelling(members); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	for name := range members {
		if !slices.Contains(dataMembers, name) {
			o.unknown = append(o.unknown, name)
		}
	}
	r := reader{members: members}
	if o.Session == "" {
		_, err := ParseSessionID(r.text("session_id", 1<<10))
		return cmp.Or(r.err, err)
	}
	o.Parties = r.parties()
	o.Completion = r.fraction("completion")
	o.Awards = r.awards()
	o.Expect = r.expect()
	o.Reference = r.text("reference", MaxReference)
	o.Reason = r.text("reason", MaxReason)
	o.Evidence = r.texts("evidence", MaxEvidence, MaxProof)
	o.SessionData = r.optional("session_data", MaxSessionData)
	o.Signatures = r.texts("signatures", MaxSignatures, MaxSignature)
	return r.err
}

// dataMembers are the known members of an outcome's data. Others are ignored, unless they
// resemble one of these: a misspelt expectation must not go unnoticed.
var dataMembers = []string{"session_id", "parties", "completion", "awards", "expect", "reference", "reason", "evidence", "session_data", "signatures"}

func checkSpelling(members map[string]any) error {
	if name, meant := misspelt(members, dataMembers); name != "" {
		return didYouMean(name, meant)
	}
	if _, present := members["session_id"]; present {
		return nil
	}
	for _, name := range []string{"session", "Session", "SESSION"} {
		if _, present := members[name]; present {
			return didYouMean(name, "session_id")
		}
	}
	return nil
}

func didYouMean(name, meant string) error {
	return fmt.Errorf("unknown member %s: did you mean %q?", Quote(name), meant)
}

// misspelt returns the first member, by name, that is unknown and resembles a known one, and
// the one that it resembles. Both are empty if there is none.
func misspelt[T any](members map[string]T, known []string) (name, meant string) {
	for member := range members {
		if name != "" && member > name || slices.Contains(known, member) {
			continue
		}
		if m := spelling.Meant(member, known); m != "" {
			name, meant = member, m
		}
	}
	return name, meant
}

// reader reads an outcome's members and keeps the first error. A member that is absent reads
// as its zero value.
type reader struct {
	members map[string]any
	err     error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// member returns a member of a type, which the error calls what.
func member[T any](r *reader, name, what string) (v T, present bool) {
	value, present := r.members[name]
	if !present {
		return v, false
	}
	v, ok := value.(T)
	if !ok {
		r.fail("%s: want %s", name, what)
	}
	return v, ok
}

func (r *reader) text(name string, most int) string {
	s, _ := member[string](r, name, "a string")
	if len(s) > most {
		r.fail("%s: %d bytes, at most %d are allowed", name, len(s), most)
		return "" // it would be copied into the ledger
	}
	return s
}

// optional reads a text whose absence means something else than an empty one.
func (r *reader) optional(name string, most int) *string {
	if _, present := r.members[name]; !present {
		return nil
	}
	s := r.text(name, most)
	if r.err != nil {
		return nil
	}
	return &s
}

func (r *reader) list(name string, most int) []any {
	list, _ := member[[]any](r, name, "a list")
	if len(list) > most {
		r.fail("%s: %d elements, at most %d are allowed", name, len(list), most)
		return nil
	}
	return list
}

func (r *reader) texts(name string, most, bytes int) []string {
	var texts []string
	for i, v := range r.list(name, most) {
		s, ok := v.(string)
		if !ok || len(s) > bytes {
			r.fail("%s[%d]: want a string of at most %d bytes", name, i, bytes)
			return nil
		}
		texts = append(texts, s)
	}
	return texts
}

// fraction reads a decimal string from 0 to 1.
func (r *reader) fraction(name string) *big.Rat {
	v, present := r.members[name]
	if !present {
		return nil
	}
	f, err := parseFraction(v)
	if err != nil {
		r.fail("%s: %w", name, err)
	}
	return f
}

func parseFraction(v any) (*big.Rat, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New(`want a decimal string such as "0.75"`)
	}
	if err := checkDecimal(s); err != nil {
		return nil, err
	}
	f, ok := new(big.Rat).SetString(s)
	if !ok || f.Cmp(one) > 0 {
		return nil, fmt.Errorf("%s is above 1", Quote(s))
	}
	return f, nil
}

// one is the whole. It is never modified.
var one = big.NewRat(1, 1)

// parties reads role -> address, or list of addresses. A role that can't be read is kept
// with its error, which counts only if the policy names that role: unknown roles are
// ignored.
func (r *reader) parties() map[string]Party {
	roles, ok := member[map[string]any](r, "parties", "an object of role and address")
	if !ok {
		return nil
	}
	parties := make(map[string]Party, len(roles))
	for role, v := range roles {
		addresses, err := partyAddresses(v)
		parties[role] = Party{Addresses: addresses, err: err}
	}
	return parties
}

func partyAddresses(v any) ([]Address, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var addresses []Address
	seen := map[Address]bool{}
	for _, v := range list {
		a, err := addressOf(v)
		if err != nil {
			return nil, err
		}
		if seen[a] {
			return nil, fmt.Errorf("address %s is listed twice", a)
		}
		seen[a] = true
		addresses = append(addresses, a)
	}
	if len(addresses) == 0 {
		return nil, errors.New("an empty list: name at least one address")
	}
	return addresses, nil
}

func addressOf(v any) (Address, error) {
	s, ok := v.(string)
	if !ok {
		return Address{}, errors.New("want an address as a string")
	}
	return ParseChecksummed(s)
}

func (r *reader) expect() *Expect {
	members, ok := member[map[string]any](r, "expect", "an object")
	if !ok {
		return nil
	}
	if err := onlyMembers(members, "totals", "version"); err != nil {
		r.fail("expect: %w", err)
	}
	sub := reader{members: members}
	e := &Expect{Totals: sub.totals(), Version: sub.version()}
	if sub.err != nil {
		r.fail("expect.%w", sub.err)
	}
	return e
}

func (r *reader) totals() []Total {
	if _, present := r.members["totals"]; !present {
		return nil
	}
	totals := []Total{}
	seen := map[Asset]bool{}
	for i, v := range r.list("totals", MaxAwards) {
		members, ok := v.(map[string]any)
		if !ok {
			r.fail("totals[%d]: want an object", i)
			return nil
		}
		t, err := readTotal(members)
		if err = cmp.Or(onlyMembers(members, "asset", "amount"), err); err != nil {
			r.fail("totals[%d]: %w", i, err)
			return nil
		}
		if seen[t.Asset] {
			r.fail("totals[%d]: asset %s is listed twice", i, Quote(string(t.Asset)))
		}
		seen[t.Asset] = true
		totals = append(totals, t)
	}
	return totals
}

func (r *reader) version() *uint64 {
	n, ok := member[json.Number](r, "version", "a whole number")
	if !ok {
		return nil
	}
	version, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil {
		r.fail("version: want a whole number")
		return nil
	}
	return &version
}

func readTotal(members map[string]any) (Total, error) {
	name, _ := members["asset"].(string)
	asset, err := ParseAsset(name)
	if err != nil {
		return Total{}, err
	}
	text, ok := members["amount"].(string)
	if !ok {
		return Total{}, errors.New(`amount: want a decimal string such as "12.5"`)
	}
	amount, err := ParseAmount(text)
	return Total{Asset: asset, Amount: amount}, err
}

func onlyMembers(members map[string]any, known ...string) error {
	left := len(members)
	for _, name := range known {
		if _, present := members[name]; present {
			left--
		}
	}
	if left == 0 {
		return nil
	}
	if name, meant := misspelt(members, known); name != "" {
		return didYouMean(name, meant)
	}
	return fmt.Errorf("unknown member; known are %q", known)
}

// ratString formats an exact number, as a decimal if it has a finite one.
func ratString(r *big.Rat) string {
	if n, exact := r.FloatPrec(); exact {
		return r.FloatString(n)
	}
	return r.RatString()
}

func (r *reader) awards() []Award {
	list := r.list("awards", MaxAwards)
	awards := make([]Award, 0, len(list))
	for i, v := range list {
		a, err := readAward(v)
		if err != nil {
			r.fail("awards[%d]: %w", i, err)
			return nil
		}
		if i > 0 && (a.Share == nil) != (awards[0].Share == nil) {
			r.fail("awards[%d]: shares and amounts may not be mixed", i)
			return nil
		}
		awards = append(awards, a)
	}
	r.checkShares(awards)
	return awards
}

// checkShares: awards by share must sum to exactly one.
func (r *reader) checkShares(awards []Award) {
	if len(awards) == 0 || awards[0].Share == nil {
		return
	}
	sum := new(big.Rat)
	for _, a := range awards {
		sum.Add(sum, a.Share)
	}
	if sum.Cmp(one) != 0 {
		r.fail("awards: the shares sum to %s, want exactly 1", ratString(sum))
	}
}

func readAward(v any) (Award, error) {
	members, ok := v.(map[string]any)
	if !ok {
		return Award{}, errors.New("want an object")
	}
	if err := onlyMembers(members, "participant", "share", "asset", "amount"); err != nil {
		return Award{}, err
	}
	participant, err := addressOf(members["participant"])
	if err != nil {
		return Award{}, fmt.Errorf("participant: %w", err)
	}
	a := Award{Participant: participant}
	if share, present := members["share"]; present {
		if len(members) != 2 {
			return Award{}, errors.New("want either share, or asset and amount")
		}
		if a.Share, err = parseFraction(share); err != nil {
			return a, fmt.Errorf("share: %w", err)
		}
		return a, nil
	}
	t, err := readTotal(members)
	a.Asset, a.Amount = t.Asset, t.Amount
	return a, err
}
