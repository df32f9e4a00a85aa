package main

import (
	"fmt"
	"reflect"
)

// rules are what the loop and the ledger keep to. All are on; a case switches one off
// to show what it prevents.
type rules struct {
	Standing      bool `rule:"standing" off:"the last entry's kind is taken for the session's state, not the standing that it carries"`
	IntentPerSend bool `rule:"intent-per-send" off:"after the fence the standing intent is taken for the right to send, without an append of one's own"`
	FenceFirst    bool `rule:"fence-before-read" off:"the clock is looked at after the session was read, not before"`
	FailFenced    bool `rule:"fail-after-fence" off:"an outcome fails although a request of it may take effect"`
	NewestFirst   bool `rule:"newest-first" off:"what was paid is compared with the oldest recorded plan first"`
	NotFoundWaits bool `rule:"not-found-waits" off:"\"not found\" fails an outcome that has an intent"`
	FailedFrees   bool `rule:"failed-frees" off:"the failure of the outcome that holds the session does not free it"`
	History       bool `rule:"history" off:"whether an outcome ended is read from the last entry alone"`
	BasePinned    bool `rule:"base-pinned" off:"some replicas drive a versioned plan on at whatever version the session is"`
	Quiet         bool `rule:"quiet" off:"after a doubt one slow read of the session is believed"`
	HeadAgain     bool `rule:"head-again" off:"the head is not read again before a failure is recorded"`
	BehindBase    bool `rule:"behind-base" off:"a version below the intent's base_version is taken for one beyond it"`
	OtherNode     bool `rule:"other-generation" off:"an intent of another generation of node is judged by this one's session"`
	OwnRefusal    bool `rule:"own-refusal" off:"a refusal is taken to be of whatever intent holds the session"`
	InDoubt       bool `rule:"errors-in-doubt" off:"an error that does not prove that nothing happened is taken for a refusal"`

	Genuine      bool `rule:"foreign-skipped" off:"a foreign message that is the last on the session's filter is its head"`
	ExpectLast   bool `rule:"expect-last-message" off:"an append expects the sequence of the last genuine entry"`
	FirstExpects bool `rule:"first-expects-none" off:"an append from the assumption that the session has no entry expects nothing"`
	SameHead     bool `rule:"retry-on-same-head" off:"after a conflict an append is tried again with the new last sequence, without a look at the last genuine entry"`

	Hold         bool `rule:"hold" off:"after a ledger was restored from an older copy, sending goes on at once"`
	AllHold      bool `rule:"all-hold" off:"only who had read a lost entry holds"`
	HoldFails    bool `rule:"hold-no-failure" off:"while sending is held, outcomes fail all the same"`
	AfterRestore bool `rule:"after-restore" off:"sending is not held after the ledger was restored from an older copy while settled was stopped"`
	NodeClock    bool `rule:"node-clock" off:"the fence is compared with the wall clock of settled's host"`
	SteadyClock  bool `rule:"steady-clock" off:"the hold is measured by the wall clock of settled's host"`
	SignedTime   bool `rule:"signed-time" off:"the request's timestamp is the wall clock's, its valid_until is computed from the node's"`

	NamesStream bool `rule:"append-names-stream" off:"an append decided from the stream of an old epoch is stored in the new one"`
	CarryOver   bool `rule:"carry-over" off:"the entries of sessions that are not closed are dropped with their stream"`
	Tombstone   bool `rule:"tombstone" off:"a session whose entries were dropped is taken for one without entries"`

	StoredLater bool `rule:"stored-later" off:"a message is new where its sequence is above the failed one's"`
	ServerTime  bool `rule:"server-time" off:"the time of a failed entry is that of settled's host, the message's is the server's"`
	Replays     bool `rule:"recorded-replay" off:"with signed outcomes, any message stored after the failure settles the outcome again"`
}

var ruleFields = reflect.VisibleFields(reflect.TypeFor[rules]())

// allBut returns all rules, with one of them off; "" for none.
func allBut(off string) (r rules, err error) {
	v, found := reflect.ValueOf(&r).Elem(), off == ""
	for i, f := range ruleFields {
		name := f.Tag.Get("rule")
		v.Field(i).SetBool(name != off)
		found = found || name == off
	}
	if !found {
		return r, fmt.Errorf("no rule is named %q: -rules lists them", off)
	}
	return r, nil
}
