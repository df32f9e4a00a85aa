package main

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"
)

// natsFrame is one protocol message of either side.
type natsFrame struct {
	verb           string
	fields         []string
	subject, reply string // of PUB, HPUB, MSG and HMSG
	body           []byte // headers included
	raw            []byte
}

func (f natsFrame) asksForMessages() bool {
	return strings.HasPrefix(f.subject, "$JS.API.CONSUMER.MSG.NEXT.")
}

func (f natsFrame) holds(text string) bool { return bytes.Contains(f.body, []byte(text)) }

func readNATS(r *bufio.Reader) (natsFrame, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return natsFrame{}, err
	}
	f := natsFrame{raw: line, fields: strings.Fields(string(line))}
	if len(f.fields) == 0 {
		return f, nil
	}
	f.verb = strings.ToUpper(f.fields[0])
	before := map[string]int{"PUB": 3, "HPUB": 4, "MSG": 4, "HMSG": 5}[f.verb] // fields, without a reply
	if before == 0 {
		return f, nil
	}
	f.subject = f.fields[1]
	if len(f.fields) > before {
		sizes := 1 + strings.Count(f.verb, "H") // HPUB and HMSG say two
		f.reply = f.fields[len(f.fields)-1-sizes]
	}
	size, err := strconv.Atoi(f.fields[len(f.fields)-1])
	if err != nil {
		return f, err
	}
	f.body = make([]byte, size+2)
	_, err = io.ReadFull(r, f.body)
	f.raw = append(line, f.body...)
	return f, err
}
