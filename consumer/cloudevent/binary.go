package cloudevent

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"settled/settlement"
)

// readBinary reads an event whose attributes are headers and whose payload is the data.
func (ev *event) readBinary(h foldedHeader, payload []byte) {
	if len(payload) > 0 {
		ev.data = payload
	}
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(h.original)) {
		name, isAttribute := strings.CutPrefix(strings.ToLower(key), "ce-")
		if isAttribute && !seen[name] {
			seen[name] = true
			ev.readHeader(name, h)
		}
	}
	if contentType, found, err := h.get("content-type"); found && err == nil {
		ev.attributes["datacontenttype"] = strings.Trim(contentType, " \t")
	}
}

func (ev *event) readHeader(name string, h foldedHeader) {
	if !isAttributeName(name) || name == "data" {
		ev.fail("header %s: no attribute has that name", settlement.Quote("ce-"+name))
		return
	}
	value, found, err := h.get("ce-" + name)
	if err != nil {
		ev.fail("%w", err)
	}
	if err != nil || !found {
		return
	}
	decoded, err := url.PathUnescape(strings.Trim(value, " \t"))
	if err != nil {
		ev.fail("header ce-%s: %s is not percent-encoded; a %% itself is written %%25", name, settlement.Quote(value))
		return
	}
	ev.attributes[name] = decoded
}
