// Package spelling finds the known name that a misspelt one was meant to be.
package spelling

import "strings"

// Nearest returns the known name with the least edit distance, however large that is.
func Nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, candidate := range known {
		if d := distance(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// Meant returns the known name that a name resembles, or "" if it resembles none. A name
// resembles one that differs from it
//   - in case, underscores and hyphens alone,
//   - in being singular or plural, or
//   - by one letter that is missing, added, wrong or exchanged with its neighbour; by two
//     such letters if the known name has eight or more.
//
// Two words of which only the first letter differs, such as season and reason, don't
// resemble each other, nor do names with fewer than four letters, nor, by two letters, names
// of which one is two letters longer, such as referee and reference. The time that this
// takes is bounded, however long the name is.
func Meant(name string, known []string) string {
	const shortest, longest = 4, 32
	if len(name) < shortest || len(name) > longest {
		return ""
	}
	plain := fold(name)
	for _, k := range known {
		if stem(plain) == stem(fold(k)) {
			return k
		}
	}
	for _, k := range known {
		if len(k) >= shortest && isTypo(plain, fold(k)) {
			return k
		}
	}
	return ""
}

// fold removes what differs between the ways to write one name: sessionId, session-id.
func fold(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), "_", ""), "-", "")
}

// stem removes the ending of a plural.
func stem(name string) string {
	if word, plural := strings.CutSuffix(name, "ies"); plural {
		return word + "y"
	}
	return strings.TrimSuffix(name, "s")
}

func isTypo(name, known string) bool {
	if len(name) < 2 || len(known) < 2 || max(len(name)-len(known), len(known)-len(name)) > 1 {
		return false
	}
	if name[0] != known[0] && name[0] != known[1] && name[1] != known[0] || name[1:] == known[1:] {
		return false
	}
	d := distance(name, known)
	return d == 1 || d == 2 && len(known) >= 8
}

// distance is the number of letters to insert, remove, replace, or exchange with their
// neighbour to get from a to b; none is changed twice (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := last[j]
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
