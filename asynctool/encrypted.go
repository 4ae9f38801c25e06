package asynctool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxEncrypted bounds the encrypted arguments of a tool. Each costs a request to a key
// before the tool starts.
const maxEncrypted = 10

// prepareEncrypted checks the paths of the encrypted arguments, and prepares the check
// of the arguments that are still encrypted. Vapi documents paths through objects, and
// none through lists.
func (e *Entry) prepareEncrypted() (err error) {
	if len(e.Encrypted) == 0 {
		e.encrypted = e.arguments
		return nil
	}
	if len(e.Encrypted) > maxEncrypted {
		return fmt.Errorf("it has %d encrypted arguments; there can be %d", len(e.Encrypted), maxEncrypted)
	}
	stillEncrypted := e.Schema.CloneSchemas()
	for i, path := range e.Encrypted {
		parent, name := find(stillEncrypted, path)
		if parent == nil {
			return fmt.Errorf("the encrypted argument %s is not an argument of the tool, or not one that a path of "+
				"objects leads to; add it to the input struct", path)
		}
		if first, _, _ := strings.Cut(path, "."); e.isStatic(first) {
			return fmt.Errorf("the encrypted argument %s is a static parameter, which Vapi has in plain text; remove it "+
				"from Encrypted or Static", path)
		}
		if slices.Contains(e.Encrypted[:i], path) {
			return fmt.Errorf("the encrypted argument %s is named twice", path)
		}
		property := parent.Properties[name]
		if property.Type != "string" && !slices.Equal(withoutNull(property.Types), []string{"string"}) {
			return fmt.Errorf("the encrypted argument %s must be a string in the input struct", path)
		}
		parent.Properties[name] = &jsonschema.Schema{Type: property.Type, Types: property.Types}
	}
	if e.encrypted, err = stillEncrypted.Resolve(nil); err != nil {
		return fmt.Errorf("the JSON schema is not valid: %w", err)
	}
	return nil
}

// find returns the schema of the object that an argument is in, and the argument's name
// there. It returns nil if there is no such argument.
func find(s *jsonschema.Schema, path string) (parent *jsonschema.Schema, name string) {
	for part := range strings.SplitSeq(path, ".") {
		if s == nil || s.Properties[part] == nil {
			return nil, ""
		}
		parent, name, s = s, part, s.Properties[part]
	}
	return parent, name
}

func withoutNull(types []string) []string {
	return slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "null" })
}
