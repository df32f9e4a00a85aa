package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// rateFlag reads a rate such as 50/s, 600/m or 10, which is a second; empty: no limit.
func rateFlag(text string) (*rate.Limiter, error) {
	if text == "" {
		return limiter(0), nil
	}
	count, unit, _ := strings.Cut(text, "/")
	per, known := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseFloat(count, 64)
	if err != nil || !known || !(n > 0) || n > 1e6 {
		return nil, misuse{fmt.Errorf("--rate %q: want a number and what it is per, such as 50/s, 600/m or 100/h", text)}
	}
	return limiter(n / per.Seconds()), nil
}
