package main

import (
	"regexp"
	"strings"

	shipped "settled/deploy"
	"settled/settlement"
)

// advice is what the runbook says about an error code.
type advice struct {
	Means string `json:"means"`
	Look  string `json:"look_at,omitempty"`
	Do    string `json:"do"`
}

var markdownLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// runbook is the advice on every code, read from the runbook itself, so that program and
// document can't differ.
func runbook() map[settlement.Code]advice {
	all := map[settlement.Code]advice{}
	for _, section := range strings.Split(shipped.Runbook, "\n### `")[1:] {
		code, rest, _ := strings.Cut(section, "`\n")
		body, _, _ := strings.Cut(rest, "\n#")
		all[settlement.Code(code)] = parseAdvice(body)
	}
	return all
}

func parseAdvice(body string) advice {
	var a advice
	parts := map[string]*string{"Means": &a.Means, "Look at": &a.Look, "Do": &a.Do}
	for _, part := range strings.Split("\n"+body, "\n**")[1:] {
		name, text, _ := strings.Cut(part, "**: ")
		if to := parts[name]; to != nil {
			*to = strings.ReplaceAll(strings.Join(strings.Fields(markdownLink.ReplaceAllString(text, "$1")), " "), "**", "")
		}
	}
	return a
}

func (a advice) text() string {
	if a.Do == "" {
		return "this version's runbook has no section for this code"
	}
	lines := []string{a.Means}
	if a.Look != "" {
		lines = append(lines, "Look at: "+a.Look)
	}
	return strings.Join(append(lines, "Do: "+a.Do), "\n")
}
