// Package deploy contains the files of a deployment. The program embeds two of them: the
// runbook, whose advice `settled deadletter show` prints, and the accounts of the NATS
// servers, which the embedded server uses too.
package deploy

import (
	"embed"
	"regexp"
	"strings"
)

// Runbook is RUNBOOK.md. It has a section for each error code: what it means, what to look
// at and what to do.
//
//go:embed RUNBOOK.md
var Runbook string

// AsyncAPI is asyncapi.json: the channels of settled, who may use them, and their messages.
// `make docs` writes it.
//
//go:embed asyncapi.json
var AsyncAPI []byte

//go:embed nats/accounts.conf nats/cosign-accounts.conf nats/settled.conf nats/roles.conf
var natsFiles embed.FS

var (
	confInclude = regexp.MustCompile(`(?m)^\s*include "([a-z-]+\.conf)"$`)
	confSubject = regexp.MustCompile(`"(outcome|settlement|deadletter|operation|cosign|settled)\.`)
	confStream  = regexp.MustCompile(`\b(OUTCOMES|SETTLEMENTS|DEADLETTERS|OPERATIONS)\b`)
)

// Accounts returns nats/accounts.conf with its includes, or nats/cosign-accounts.conf if
// co-signers connect too, with nats.prefix and consumer.durable inserted as
// nats/settled.conf describes.
func Accounts(cosign bool, prefix, durable string) (string, error) {
	name := "accounts.conf"
	if cosign {
		name = "cosign-accounts.conf"
	}
	text, err := natsFile(name)
	if err != nil {
		return "", err
	}
	text = strings.ReplaceAll(text, "OUTCOMES.settled", "OUTCOMES."+durable)
	text = confSubject.ReplaceAllString(text, `"`+prefix+`${1}.`)
	return confStream.ReplaceAllString(text, strings.ToUpper(strings.ReplaceAll(prefix, ".", "_"))+"${1}"), nil
}

// natsFile returns a file of nats/ with its includes expanded.
func natsFile(name string) (string, error) {
	text, err := natsFiles.ReadFile("nats/" + name)
	if err != nil {
		return "", err
	}
	whole := confInclude.ReplaceAllStringFunc(string(text), func(line string) string {
		part, partErr := natsFile(confInclude.FindStringSubmatch(line)[1])
		if partErr != nil {
			err = partErr
		}
		return part
	})
	return whole, err
}
