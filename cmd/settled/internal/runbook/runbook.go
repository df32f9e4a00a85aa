// Package runbook reads the advice on error codes from deploy/RUNBOOK.md.
package runbook

import (
	"regexp"
	"strings"

	shipped "settled/deploy"
	"settled/settlement"
)

// Advice is what the runbook says about an error code.
type Advice struct {
	Means string `json:"means"`
	Look  string `json:"look_at,omitempty"`
	Do    string `json:"do"`
}

var markdownLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// Codes is the advice on every code, read from the runbook itself, so that program and
// document can't differ.
func Codes() map[settlement.Code]Advice {
	all := map[settlement.Code]Advice{}
	for _, section := range strings.Split(shipped.Runbook, "\n### `")[1:] {
		code, rest, _ := strings.Cut(section, "`\n")
		body, _, _ := strings.Cut(rest, "\n#")
		all[settlement.Code(code)] = parseAdvice(body)
	}
	return all
}

func parseAdvice(body string) Advice {
	var a Advice
	parts := map[string]*string{"Means": &a.Means, "Look at": &a.Look, "Do": &a.Do}
	for _, part := range strings.Split("\n"+body, "\n**")[1:] {
		name, text, _ := strings.Cut(part, "**: ")
		if to := parts[name]; to != nil {
			*to = strings.ReplaceAll(strings.Join(strings.Fields(markdownLink.ReplaceAllString(text, "$1")), " "), "**", "")
		}
	}
	return a
}

// Text is the advice for people.
func (a Advice) Text() string {
	if a.Do == "" {
		return "this version's runbook has no section for this code"
	}
	lines := []string{a.Means}
	if a.Look != "" {
		lines = append(lines, "Look at: "+a.Look)
	}
	return strings.Join(append(lines, "Do: "+a.Do), "\n")
}
