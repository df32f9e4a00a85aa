package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// checkNames holds valid JSON text to the names of the Go type that it is about to
// be read into: encoding/json alone takes names in any case and the last of two
// equal ones, and reads null as nothing.
func checkNames(text []byte, t reflect.Type) error {
	n := names{dec: json.NewDecoder(bytes.NewReader(text))}
	n.dec.UseNumber()
	return n.value(t)
}

type names struct{ dec *json.Decoder }

// value walks one value. t is nil where the reader will ignore it, or reads it by
// its own rules.
func (n names) value(t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := n.dec.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return n.members(known(t))
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		return n.elements(elem)
	case nil:
		if t != nil {
			return fmt.Errorf("null at byte %d: want a value, or no member", n.dec.InputOffset())
		}
	}
	return nil
}

func (n names) members(known map[string]reflect.Type) error {
	seen := map[string]bool{}
	for n.dec.More() {
		token, err := n.dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return fmt.Errorf("the name %.80q stands twice in one object", name)
		}
		seen[name] = true
		t, ok := known[name]
		if !ok {
			for want := range known {
				if strings.EqualFold(want, name) {
					return fmt.Errorf("the name %.80q: want %q", name, want)
				}
			}
		}
		if err := n.value(t); err != nil {
			return err
		}
	}
	_, err := n.dec.Token()
	return err
}

func (n names) elements(t reflect.Type) error {
	for n.dec.More() {
		if err := n.value(t); err != nil {
			return err
		}
	}
	_, err := n.dec.Token()
	return err
}

// known are the members of a struct type by their JSON names.
func known(t reflect.Type) map[string]reflect.Type {
	if t == nil || t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" && name != "" {
			m[name] = t.Field(i).Type
		}
	}
	return m
}
