package main

import (
	"encoding/json"
	"strings"
)

// fixed is much like what settled reads, and takes about a millisecond to go through.
var fixed = []byte("[" + strings.Repeat(`{"participant":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","asset":"usdc","amount":"6.666667"},`, 1500) + "{}]")

// fixedWork is how many seconds of processor time the same piece of work takes now: a
// second of it does less while others use the same core, on this machine or, where it
// is a virtual one, on its host. 0 where the system doesn't say. The caller must keep
// its thread.
func fixedWork() float64 {
	began := threadTime()
	json.Valid(fixed)
	return threadTime() - began
}

// atPaceOf is the processor time of a settlement as it would have been at the pace that
// the processor had in the other tenth. On a busy or a virtual machine the pace changes
// by a fifth within minutes, whoever is measured.
func (t tenth) atPaceOf(other tenth) float64 {
	if t.Pace == 0 || other.Pace == 0 {
		return t.CPU
	}
	return round(t.CPU*other.Pace/t.Pace, 1)
}
