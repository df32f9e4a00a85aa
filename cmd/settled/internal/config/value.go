package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// listsOrText are the keys whose value is text that may also be written as a list.
var listsOrText = []string{"nats.url"}

// checkNode refuses a value in the file that is not of its key's kind. Without it a list
// position one value is wanted, or an empty value, would read as nothing configured, and
// what the key protects would be off in silence.
func (k Key) checkNode(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	_, list := k.value.(*[]string)
	switch n.Kind {
	case yaml.ScalarNode:
		return k.checkScalar(n)
	case yaml.SequenceNode:
		if !list && !slices.Contains(listsOrText, k.Name) {
			return fmt.Errorf("a list is not possible here: want %s", k.describeKind())
		}
		return k.checkItems(n)
	default:
		return fmt.Errorf("keys and values are not possible here: want %s", k.describeKind())
	}
}

// checkItems rejects list items that are not text.
func (k Key) checkItems(n *yaml.Node) error {
	for i, item := range n.Content {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		switch {
		case item.Kind != yaml.ScalarNode:
			return fmt.Errorf("item %d is a list or a section: want text", i+1)
		case item.Tag == "!!null" || strings.TrimSpace(item.Value) == "":
			return fmt.Errorf("item %d is empty: remove it, or write its value", i+1)
		case item.Tag != "!!str":
			return fmt.Errorf("item %d, %s, is not text: put it in quotes", i+1, item.Value)
		case slices.Contains(listsOrText, k.Name) && strings.Contains(item.Value, ","):
			return fmt.Errorf("item %d, %q, holds a comma: write each value as an item of its own", i+1, item.Value)
		}
	}
	return nil
}

// checkScalar verifies that a single value is of its key's kind.
func (k Key) checkScalar(n *yaml.Node) error {
	if n.Tag == "!!null" {
		return fmt.Errorf("no value: remove the line, or write %s", k.describeKind())
	}
	var allowed []string
	switch k.value.(type) {
	case *string, *[]string:
		if n.Tag != "!!str" {
			return fmt.Errorf("%s is not text: put it in quotes", n.Value)
		}
		allowed = []string{"!!str"}
	case *bool:
		allowed = []string{"!!bool"}
	case *int, *AutoInt:
		allowed = []string{"!!int", "!!str"}
	case *float64:
		allowed = []string{"!!int", "!!float", "!!str"}
	case *time.Duration:
		allowed = []string{"!!str"}
		if n.Tag == "!!int" && n.Value == "0" {
			return nil
		}
	}
	if !slices.Contains(allowed, n.Tag) {
		return fmt.Errorf("%s is not possible here: want %s", n.Value, k.describeKind())
	}
	return nil
}

// describeKind describes the values of the key, for a message.
func (k Key) describeKind() string {
	switch k.value.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *AutoInt:
		return "auto or a whole number"
	case *float64:
		return "a number"
	case *time.Duration:
		return "a time with its unit, such as 20s"
	case *[]string:
		return "a list of texts, or several in one text, separated by commas"
	}
	if slices.Contains(listsOrText, k.Name) {
		return "one text, or a list of texts"
	}
	return `one text in quotes ("" for none)`
}

// Set sets the value of a key from a text or a YAML value.
func (k Key) Set(raw any) error {
	text, list, err := rawTexts(raw)
	if err != nil {
		return err
	}
	switch value := k.value.(type) {
	case *string:
		if list, err = splitList("", list); err != nil {
			return err
		}
		if list != nil {
			text = strings.Join(list, ",")
		}
		if text == "" && k.Default != "" {
			return fmt.Errorf("it is empty: leave it out for %s, or give it a value", k.Default)
		}
		*value = text
	case *[]string:
		*value, err = splitList(text, list)
	case *bool:
		if *value, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q: want true or false", text)
		}
	case *int:
		if *value, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%q: want a whole number", text)
		}
	case *AutoInt:
		err = value.set(text)
	case *float64: // a rate; no amount of money is ever configured as one
		if *value, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(*value) || math.IsInf(*value, 0) {
			err = fmt.Errorf("%q: want a number", text)
		}
	case *time.Duration:
		*value, err = k.duration(text)
	default:
		return fmt.Errorf("no such kind of key: %T", k.value)
	}
	return err
}

// AutoInt is a whole number of at least 1; 0 is auto.
type AutoInt int

func (a *AutoInt) set(text string) error {
	n, err := strconv.Atoi(text)
	if text != "auto" && (err != nil || n < 1) {
		return fmt.Errorf("%q: want auto, or a whole number of at least 1", text)
	}
	*a = AutoInt(n)
	return nil
}

func (a AutoInt) String() string {
	if a == 0 {
		return "auto"
	}
	return strconv.Itoa(int(a))
}

// zeroAllowed are the durations that may be 0.
var zeroAllowed = []string{"cosign.patience"}

func (k Key) duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d == 0 && slices.Contains(zeroAllowed, k.Name):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("%q: want a time with its unit, such as 20s", text)
	case d <= 0:
		return 0, fmt.Errorf("%q: want a time above 0, such as 20s", text)
	}
	return d, nil
}

// splitList returns the list, or splits a text at commas. An empty item is an error.
func splitList(text string, list []string) ([]string, error) {
	if list == nil && text != "" {
		list = strings.Split(text, ",")
	}
	for i := range list {
		if list[i] = strings.TrimSpace(list[i]); list[i] == "" {
			return nil, fmt.Errorf("item %d of %d is empty: remove the comma or the item", i+1, len(list))
		}
	}
	return list, nil
}

// rawTexts is a value as one text, or as a list of them, from the environment, a flag, or
// YAML.
func rawTexts(raw any) (text string, list []string, err error) {
	switch v := raw.(type) {
	case nil:
		return "", nil, nil
	case string:
		if text = strings.TrimSpace(v); text == "" && v != "" {
			return "", nil, errors.New("it is blank: leave it unset, or give it a value")
		}
		return text, nil, nil
	case int, int64, uint64, bool:
		return fmt.Sprint(v), nil, nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil, nil
	case []string:
		return "", slices.Clone(v), nil
	case []any:
		list = []string{}
		for _, element := range v {
			s, ok := element.(string)
			if !ok {
				return "", nil, fmt.Errorf("%v: want a list of texts", element)
			}
			list = append(list, s)
		}
		return "", list, nil
	default:
		return "", nil, errors.New("a section can't stand here")
	}
}
