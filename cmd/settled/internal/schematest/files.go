package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// Files compares a folder's schemas, by name, with those that it must hold, or writes them.
func Files(t *testing.T, update bool, folder string, schemas map[string]*Schema) {
	t.Helper()
	if update {
		if err := os.MkdirAll(folder, 0o755); err != nil { // #nosec G301 -- documentation
			t.Fatal(err)
		}
	}
	for name, s := range schemas {
		if s.Title == "" {
			t.Errorf("%s has no title", name)
		}
		text := render(t, name, *s)
		file := filepath.Join(folder, name+".json")
		if update {
			if err := os.WriteFile(file, text, 0o644); err != nil { // #nosec G306 -- documentation
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, text) { // #nosec G304 -- a file of the module
			t.Errorf("%s is not what the code says: run make docs (%v)", file, err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*.json"))
	for _, file := range files {
		if schemas[strings.TrimSuffix(filepath.Base(file), ".json")] == nil {
			t.Errorf("%s describes nothing: remove it", file)
		}
	}
}

// render returns the text of a schema, which says first what it describes.
func render(t *testing.T, name string, s Schema) []byte {
	head := struct {
		Schema      string `json:"$schema"`
		ID          string `json:"$id"`
		Title       string `json:"title"`
		Description string `json:"description,omitempty"`
	}{"https://json-schema.org/draft/2020-12/schema", "urn:settled:" + name, s.Title, s.Description}
	s.Title, s.Description = "", ""
	begin, err := json.Marshal(head)
	rest, restErr := json.Marshal(s)
	if err != nil || restErr != nil {
		t.Fatal(name, err, restErr)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, slices.Concat(begin[:len(begin)-1], []byte(","), rest[1:], []byte("\n")), "", "  "); err != nil {
		t.Fatal(name, err)
	}
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
	return []byte(plain.Replace(text.String()))
}

// Set is the schemas of some folders, by name, as a validator reads them.
type Set struct {
	files    map[string][]byte
	mu       sync.Mutex
	compiled map[string]*validator.Schema
}

// Load reads all schemas below the roots.
func Load(roots ...fs.FS) *Set {
	set := &Set{files: map[string][]byte{}, compiled: map[string]*validator.Schema{}}
	for _, root := range roots {
		files, err := fs.Glob(root, "schema/*.json")
		if err != nil {
			panic(err)
		}
		for _, file := range files {
			text, err := fs.ReadFile(root, file)
			if err != nil {
				panic(err)
			}
			set.files[strings.TrimSuffix(filepath.Base(file), ".json")] = text
		}
	}
	return set
}

// Has reports whether there is a schema of that name.
func (s *Set) Has(name string) bool { return s.files[name] != nil }

// Check returns nil if a JSON document is as the schema of that name describes it.
func (s *Set) Check(name string, document []byte) error {
	schema, err := s.schema(name)
	if err != nil {
		return err
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return schema.Validate(value)
}

func (s *Set) schema(name string) (*validator.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if schema := s.compiled[name]; schema != nil {
		return schema, nil
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(s.files[name]))
	if err != nil {
		return nil, fmt.Errorf("there is no schema %s: %w", name, err)
	}
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("urn:settled:"+name, value); err != nil {
		return nil, err
	}
	schema, err := c.Compile("urn:settled:" + name)
	s.compiled[name] = schema
	return schema, err
}
