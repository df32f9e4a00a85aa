package consumer

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// readBinary reads an event whose attributes are headers and whose payload is
// the data.
func readBinary(h foldedHeader, payload []byte) *event {
	ev := newEvent()
	if len(payload) > 0 {
		ev.data = payload
	}
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(h.spelled)) {
		name, isAttribute := strings.CutPrefix(strings.ToLower(key), "ce-")
		if !isAttribute || seen[name] {
			continue
		}
		seen[name] = true
		ev.header(name, h)
	}
	if contentType, found, err := h.one("content-type"); found && err == nil {
		ev.attributes["datacontenttype"] = strings.Trim(contentType, " \t")
	}
	return ev
}

func (ev *event) header(name string, h foldedHeader) {
	if !isAttributeName(name) || name == "data" {
		ev.fail("header %s: no attribute has that name", brief("ce-"+name))
		return
	}
	value, found, err := h.one("ce-" + name)
	if err != nil {
		ev.fail("%w", err)
		return
	}
	if !found {
		return
	}
	decoded, err := url.PathUnescape(strings.Trim(value, " \t"))
	if err != nil {
		ev.fail("header ce-%s: %s is not percent-encoded; a %% itself is written %%25", name, brief(value))
		return
	}
	ev.attributes[name] = decoded
}
