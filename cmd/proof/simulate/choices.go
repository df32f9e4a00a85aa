package simulate

import (
	"math/rand/v2"
	"time"
)

// choices is where the decisions of a schedule come from: a seed, or bytes of a
// fuzzer. Bytes that ran out choose 0, which everywhere means that all goes well.
type choices struct {
	rng   *rand.Rand // nil: bytes
	bytes []byte
}

func seeded(seed uint64) *choices {
	return &choices{rng: rand.New(rand.NewPCG(seed, 0x5e771ed))} // #nosec G404 -- a schedule has to be repeatable
}

// below draws from [0, n).
func (c *choices) below(n int64) int64 {
	switch {
	case n <= 1:
		return 0
	case c.rng != nil:
		return c.rng.Int64N(n)
	case len(c.bytes) < 2:
		c.bytes = nil
		return 0
	}
	v := int64(c.bytes[0])<<8 | int64(c.bytes[1])
	c.bytes = c.bytes[2:]
	if n <= 1<<16 {
		return v % n
	}
	return n / (1 << 16) * v
}

func (c *choices) pick(n int) int { return int(c.below(int64(n))) }

// chance is true so many times in a thousand.
func (c *choices) chance(perMille int) bool {
	return perMille > 0 && c.below(1000) >= int64(1000-perMille)
}

// between draws a duration, in steps of a thousandth of the difference.
func (c *choices) between(least, most time.Duration) time.Duration {
	return least + (most-least)/1000*time.Duration(c.below(1001))
}

// fill makes random bits.
func (c *choices) fill(b []byte) {
	for i := range b {
		b[i] = byte(c.below(256)) // #nosec G115 -- below 256
	}
}
