package main

import (
	"fmt"
	"strings"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// The stories that others have a part in: one who signs too, and an operator.
var (
	shared  = twinStory{members: (*twinScene).settling, open: (*twinScene).openWithPartner}
	replays = twinStory{code: settlement.NotAParticipant, publish: (*twinScene).publishAndReplay}
)

// partyTwins are the requests that settled and its operators make over NATS in
// those stories.
func partyTwins() []twinOp {
	ops := []twinOp{
		{name: "ask for a signature", protocol: clearnodetest.Nitro04, story: shared},
		{name: "ask for a signature", protocol: clearnodetest.NitronodeV1, story: shared},
	}
	for i := range ops {
		ops[i].begin = (*twinScene).startPartner
		ops[i].arm = struckBy(3*time.Second, under("cosign."))
	}
	for name, hits := range map[string]func(settlement.SessionID) func(natsFrame) bool{
		"replay: publish again":   about("outcome.", "Settled-Replay"),
		"replay: record it":       under("operation.replay"),
		"replay: remove a letter": under("$JS.API.STREAM.MSG.DELETE.DEADLETTERS"),
	} {
		ops = append(ops, twinOp{name: name, protocol: clearnodetest.Nitro04, story: replays, slow: true, arm: struckBy(11*time.Second, hits)})
	}
	for i := range ops {
		ops[i].faults = allFaults
	}
	return ops
}

func struckBy(hold time.Duration, hits func(settlement.SessionID) func(natsFrame) bool) func(*twinScene, twinFault, settlement.SessionID) <-chan struct{} {
	return func(d *twinScene, wrong twinFault, session settlement.SessionID) <-chan struct{} {
		return d.proxy.add(wrong, hold, hits(session))
	}
}

// startPartner runs the co-signer whose signature the sessions need beside ours.
func (d *twinScene) startPartner() {
	quickCosign(d.deployment)
	d.partner = d.key("partner")
	d.start(d.cosignerOf("partner"))
}

func (d *twinScene) openWithPartner() settlement.SessionID {
	return d.openSharedBy(d.scene.Definition, []string{"10", "5.000001"}, 100, share{d.judge, 50}, share{d.partner, 50})
}

// publishAndReplay publishes what fails, and repeats `settled deadletter replay` until
// its dead letter is gone, as an operator would. It answers where the message stands
// now, which fails once more: with one dead letter, and published again only once.
func (d *twinScene) publishAndReplay(session settlement.SessionID) uint64 {
	first := d.publish("partial_service", d.id("replayed"), session, fails.members(d))
	d.result(session, first)
	d.until("it is answered", d.answered)
	letter := d.letterOf(first)
	if letter == 0 {
		d.t.Fatal("no dead letter")
	}
	d.until("the dead letter is gone", func() bool {
		d.command("deadletter", "replay", fmt.Sprint(letter))
		return d.letterOf(first) == 0
	})
	stream, err := d.nats.JS.Stream(d.t.Context(), "OUTCOMES")
	d.must(err)
	info, err := stream.Info(d.t.Context())
	d.must(err)
	if info.State.LastSeq != first+1 {
		d.t.Errorf("published again %d times", info.State.LastSeq-first)
	}
	return info.State.LastSeq
}

func (d *twinScene) letterOf(sequence uint64) uint64 {
	for _, l := range d.letters() {
		if strings.HasSuffix(l.Origin, fmt.Sprintf("/%d", sequence)) {
			return l.Sequence
		}
	}
	return 0
}
