// Package schematest generates JSON Schemas from Go types, keeps them in files, and checks
// documents against them. Only tests import it.
//
// The schemas use only keywords that draft 7 and draft 2020-12 have in common, and contain
// no references, so that the AsyncAPI document can contain them too.
package schematest

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/shopspring/decimal"

	"settled/settlement"
)

// Schema is a JSON Schema.
type Schema = jsonschema.Schema

// Patterns of the texts that have a parser of their own.
const (
	SessionPattern  = "^0x[0-9a-fA-F]{64}$"
	AddressPattern  = "^0x[0-9a-fA-F]{40}$"
	DecimalPattern  = `^(0|[1-9][0-9]*)(\.[0-9]+)?$`
	FractionPattern = `^(0(\.[0-9]+)?|1(\.0+)?)$`
	ScenarioPattern = "^[a-z0-9_]{1,64}$"
	SHA256Pattern   = "^[0-9a-f]{64}$"
)

// types are the schemas of types that have an encoding of their own, or few values.
var types = map[reflect.Type]*Schema{
	reflect.TypeFor[settlement.SessionID]():     {Type: "string", Pattern: "^(0x[0-9a-f]{64}|" + settlement.UnknownSession + ")$"},
	reflect.TypeFor[settlement.Amount]():        {Type: "string", Pattern: DecimalPattern},
	reflect.TypeFor[map[uint64]uint64]():        {Type: "object", PropertyNames: &Schema{Pattern: "^[0-9]+$"}, AdditionalProperties: &Schema{Type: "integer", Minimum: jsonschema.Ptr(0.)}},
	reflect.TypeFor[decimal.Decimal]():          {Type: "string", Pattern: `^-?[0-9]+(\.[0-9]+)?$`},
	reflect.TypeFor[settlement.Asset]():         {Type: "string", MinLength: jsonschema.Ptr(1), MaxLength: jsonschema.Ptr(64)},
	reflect.TypeFor[settlement.Scenario]():      {Type: "string", Pattern: "^[a-z0-9_]{0,64}$"},
	reflect.TypeFor[settlement.Class]():         {Type: "string", Enum: []any{settlement.Rejected, settlement.Conflict, settlement.Exhausted}},
	reflect.TypeFor[settlement.EntryState]():    {Type: "string", Enum: []any{settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed}},
	reflect.TypeFor[settlement.StandingState](): {Type: "string", Enum: []any{settlement.Free, settlement.Closing, settlement.Closed}},
	reflect.TypeFor[settlement.Code]():          {Type: "string", Enum: codes()},
}

func codes() (codes []any) {
	for _, c := range settlement.Codes() {
		codes = append(codes, c)
	}
	return codes
}

// Of returns the schema of what encoding/json writes for the type of a value; of several
// values, of any of their types. Members are described by the comments of their fields.
func Of(values ...any) *Schema {
	if len(values) > 1 {
		any := &Schema{}
		for _, v := range values {
			any.AnyOf = append(any.AnyOf, Of(v))
		}
		return any
	}
	t := reflect.TypeOf(values[0])
	dateTime := &Schema{Type: "string", Format: "date-time"}
	options := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*Schema{timeType: dateTime, rawType: {}}}
	for known, s := range types {
		options.TypeSchemas[known] = s
	}
	s, err := jsonschema.ForType(t, options)
	if err != nil {
		panic(err) // a type that has no JSON
	}
	describe(s, t)
	return s
}

// Nothing returns the schema that refuses everything.
func Nothing() *Schema { return &Schema{Not: &Schema{}} }

// At returns a member of a schema: At(s, "standing", "digest"). It continues in the elements
// of a list.
func At(s *Schema, path ...string) *Schema {
	for _, name := range path {
		if s.Items != nil {
			s = s.Items
		}
		if s = s.Properties[name]; s == nil {
			panic("no member " + name)
		}
	}
	return s
}

// describe adds the comments of a type's fields to its schema, and removes the null that no
// printed list is.
func describe(s *Schema, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if types[t] != nil || t == timeType || t == rawType {
		return
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		s.Type, s.Types = "array", nil
		describe(s.Items, t.Elem())
	case reflect.Map:
		describe(s.AdditionalProperties, t.Elem())
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(t) {
			if isHidden(t, field) {
				remove(s, field.Name)
				continue
			}
			name, flags, _ := strings.Cut(field.Tag.Get("json"), ",")
			member := s.Properties[name]
			if field.Anonymous || member == nil {
				continue
			}
			if field.Type.Kind() == reflect.Pointer && strings.Contains(flags, "omitempty") && len(member.Types) == 2 {
				member.Type, member.Types = member.Types[1], nil
			}
			describe(member, field.Type)
			owner := t
			if parents := field.Index[:len(field.Index)-1]; len(parents) > 0 {
				owner = t.FieldByIndex(parents).Type
			}
			if text := comment(owner, field.Name); text != "" {
				member.Description = text
			}
		}
	}
}

// isHidden reports whether a field is promoted from an embedded struct that has no JSON.
func isHidden(t reflect.Type, field reflect.StructField) bool {
	for i := range len(field.Index) - 1 {
		if t.FieldByIndex(field.Index[:i+1]).Tag.Get("json") == "-" {
			return true
		}
	}
	return false
}

func remove(s *Schema, name string) {
	is := func(n string) bool { return n == name }
	delete(s.Properties, name)
	s.Required, s.PropertyOrder = slices.DeleteFunc(s.Required, is), slices.DeleteFunc(s.PropertyOrder, is)
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// comment returns the comment of a struct's field in the source.
func comment(owner reflect.Type, field string) string {
	folder, ours := strings.CutPrefix(owner.PkgPath(), "settled/")
	if !ours {
		return ""
	}
	sourcesMu.Lock()
	defer sourcesMu.Unlock()
	if sources[folder] == nil {
		sources[folder] = fieldComments(filepath.Join(ModuleRoot(), folder))
	}
	return sources[folder][owner.Name()+"."+field]
}

var (
	sourcesMu sync.Mutex
	sources   = map[string]map[string]string{} // by folder: the comments by Type.Field
)

func fieldComments(folder string) map[string]string {
	comments := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(folder, "*.go"))
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			panic(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, isType := n.(*ast.TypeSpec)
			if !isType {
				return true
			}
			if body, isStruct := spec.Type.(*ast.StructType); isStruct {
				for _, f := range body.Fields.List {
					text := strings.TrimSpace(f.Comment.Text() + f.Doc.Text())
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = strings.ReplaceAll(text, "\n", " ")
					}
				}
			}
			return true
		})
	}
	return comments
}

// ModuleRoot returns the folder of go.mod.
func ModuleRoot() string {
	folder, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for folder != filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	panic("no go.mod in this folder or above it")
}
