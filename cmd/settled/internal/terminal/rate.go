package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Rate parses a rate such as 50/s, 600/m or 10 (per second); empty: no limit.
func ParseRate(text string) (*rate.Limiter, error) {
	if text == "" {
		return NewLimiter(0), nil
	}
	count, unit, _ := strings.Cut(text, "/")
	per, known := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseFloat(count, 64)
	if err != nil || !known || !(n > 0) || n > 1e6 {
		return nil, UsageError(fmt.Errorf("--rate %q: want a number and what it is per, such as 50/s, 600/m or 100/h", text))
	}
	return NewLimiter(n / per.Seconds()), nil
}

// NewLimiter returns a limiter to events per second; 0: no limit.
func NewLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 1)
}
