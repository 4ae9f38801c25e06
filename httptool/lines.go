package httptool

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileError is an error in a file of declarations, with its line. 0 means that the line is unknown.
type fileError struct {
	line int
	err  error
}

func (e *fileError) Error() string {
	if e.line == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.line, e.err)
}

func (e *fileError) Unwrap() error { return e.err }

// in returns the error with the name of its file, as editors read it: http.yaml:12.
func (e *fileError) in(name string) error {
	if e.line == 0 {
		return fmt.Errorf("%s: %w", name, e.err)
	}
	return fmt.Errorf("%s:%d: %w", name, e.line, e.err)
}

// fieldError is an error in a field of a declaration.
type fieldError struct {
	path []string
	line int // 0: that of the path
	err  error
}

func (e *fieldError) Error() string { return e.err.Error() }

func (e *fieldError) Unwrap() error { return e.err }

// at returns an error of the field that the names lead to.
func at(err error, path ...string) error {
	if inner, ok := errors.AsType[*fieldError](err); ok {
		path = append(path, inner.path...)
	}
	return &fieldError{path: path, err: err}
}

// yamlLine matches the line in an error of the YAML parser.
var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// syntaxError returns an error of the YAML parser with its line.
func syntaxError(root *yaml.Node, err error) *fileError {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &fileError{line, errors.New(m[2])}
	}
	err = decodeError(err)
	return &fileError{lineOf(root, err), err}
}

// decodeError returns an error of the JSON decoder in the words of the file.
func decodeError(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return fmt.Errorf("it has the wrong type (%s)", wrong.Value)
		}
		return at(fmt.Errorf("the field %s has the wrong type (%s)", wrong.Field, wrong.Value),
			strings.Split(wrong.Field, ".")...)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // the decoder's own error, without those of the YAML package
	}
	return err
}

// lines returns the root of a file, and the declarations of its tools, with their lines. Both are nil if
// they cannot be found, which costs only the lines.
func lines(file []byte) (root *yaml.Node, tools []*yaml.Node) {
	var document yaml.Node
	if yaml.Unmarshal(file, &document) != nil || len(document.Content) == 0 {
		return nil, nil
	}
	root = document.Content[0]
	if _, list := memberNode(root, "tools"); list != nil && list.Kind == yaml.SequenceNode {
		tools = list.Content
	}
	return root, tools
}

// lineOf returns the line of an error in a declaration: that of its field, or of the innermost one around it
// that is there. It returns 0 for a node that is nil.
func lineOf(node *yaml.Node, err error) int {
	if node == nil {
		return 0
	}
	line := node.Line
	wrong, ok := errors.AsType[*fieldError](err)
	if !ok {
		return line
	}
	if wrong.line > 0 {
		return wrong.line
	}
	for _, name := range wrong.path {
		key, value := memberNode(node, name)
		if key == nil {
			break
		}
		line, node = key.Line, value
	}
	return line
}

// memberNode returns the key and the value of a field of an object.
func memberNode(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if strings.EqualFold(node.Content[i].Value, name) {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

// unknownField returns the first field that a struct does not have.
func unknownField(node *yaml.Node, s reflect.Type) *yaml.Node {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		field, ok := s.FieldByNameFunc(func(name string) bool {
			field, _ := s.FieldByName(name)
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			return tag != "" && strings.EqualFold(tag, key.Value)
		})
		if !ok && key.Value != "<<" {
			return key
		}
		if t := field.Type; ok && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == s.PkgPath() {
			if inner := unknownField(node.Content[i+1], t.Elem()); inner != nil {
				return inner
			}
		}
	}
	return nil
}
