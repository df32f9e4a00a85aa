package sim

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/settlement/spelling"
)

// faultKind is a kind of fault and the generations that have it.
type faultKind struct {
	name  string
	kind  clearnodetest.FaultKind
	timed bool
	never func(protocol string) bool // it can't happen there; nil: it can happen everywhere
}

var (
	isNitronode  = func(protocol string) bool { return protocol == clearnodetest.NitronodeV1 }
	notNitronode = func(protocol string) bool { return protocol != clearnodetest.NitronodeV1 }
)

// faultKinds is the table of faults by name. deploy/SIM.md explains them.
var faultKinds = []faultKind{
	{name: "lose-request", kind: clearnodetest.LoseRequest},
	{name: "lose-answer", kind: clearnodetest.LoseAnswer},
	{name: "drop-connection", kind: clearnodetest.CutAfter},
	{name: "delay", kind: clearnodetest.Delay, timed: true},
	{name: "delay-answer", kind: clearnodetest.DelayAnswer, timed: true},
	{name: "stall", kind: clearnodetest.Stall, timed: true},
	{name: "stall-read", kind: clearnodetest.StallRead, timed: true, never: notNitronode},
	{name: "refuse", kind: clearnodetest.Error},
	{name: "refuse-applied", kind: clearnodetest.ErrorApplied},
	{name: "garbage", kind: clearnodetest.Garbage},
	{name: "wrong-signature", kind: clearnodetest.WrongSignature, never: isNitronode},
	{name: "expire-login", kind: clearnodetest.ExpireAuth, never: isNitronode},
}

// refusal is what the real nodes answer when they fail for a reason of their own.
const refusal = "an error occurred while processing the request"

const longestFault = time.Hour

var percentage = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,6})?%$`)

// parseFaults reads a list of NAME[:METHOD]=PERCENT%, or for a fault that takes time,
// NAME[:METHOD]=DURATION[@PERCENT%]. Which of the requests that a fault matches it strikes
// depends on the seed alone, so that the same requests in the same order have the same faults.
func parseFaults(list string, seed uint64, protocol string, methods []string) ([]clearnodetest.Fault, error) {
	var faults []clearnodetest.Fault
	var seen []string
	for item := range strings.SplitSeq(list, ",") {
		if list == "" {
			break
		}
		what, value, _ := strings.Cut(item, "=")
		name, method, filtered := strings.Cut(what, ":")
		kind, err := findFault(name, protocol)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(seen, what):
			return nil, fmt.Errorf("%s is given twice", what)
		case filtered && !slices.Contains(methods, method):
			return nil, fmt.Errorf("%s: a node of %s has no method %q: did you mean %q?", item, protocol, method, spelling.Nearest(method, methods))
		}
		seen = append(seen, what)
		f := clearnodetest.Fault{Method: method, Times: -1, Kind: kind.kind, Text: refusal}
		chance, always := value, false
		if kind.timed {
			duration, share, found := strings.Cut(value, "@")
			if f.Delay, err = time.ParseDuration(duration); err != nil || f.Delay <= 0 || f.Delay > longestFault {
				return nil, fmt.Errorf("%q: want a duration up to 1h, as in %s=2s or %s=2s@10%%", item, what, what)
			}
			chance, always = share, !found
		}
		if !always {
			percent, err := strconv.ParseFloat(strings.TrimSuffix(chance, "%"), 64)
			if err != nil || !percentage.MatchString(chance) || percent > 100 {
				return nil, fmt.Errorf("%q: want a percentage of the requests, 0%% to 100%%, as in %s%s", item, what, map[bool]string{true: "=2s@10%", false: "=10%"}[kind.timed])
			}
			random := rand.New(rand.NewPCG(seed, uint64(len(faults)))) // #nosec G115 G404 -- not negative; must be repeatable
			f.If = func() bool { return random.Float64()*100 < percent }
		}
		faults = append(faults, f)
	}
	return faults, nil
}

func findFault(name, protocol string) (faultKind, error) {
	var names []string
	for _, k := range faultKinds {
		if k.name == name && k.never != nil && k.never(protocol) {
			return k, fmt.Errorf("a node of %s has no fault %s", protocol, name)
		}
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return faultKind{}, fmt.Errorf("unknown fault %q: did you mean %q? The faults are %s", name, spelling.Nearest(name, names), strings.Join(names, ", "))
}
