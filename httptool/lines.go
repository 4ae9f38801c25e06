package httptool

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	sigs "sigs.k8s.io/yaml"
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

// place is a place in a file. The zero value of each field means that it is unknown.
type place struct {
	line int
	tool int    // its position in the list, counted from 1
	name string // of the tool
}

// wrong returns the error of a file at a place.
func (p place) wrong(err error) *fileError {
	if p.tool > 0 {
		err = fmt.Errorf("tool %d, %q: %w", p.tool, p.name, err)
	}
	return &fileError{p.line, err}
}

// placeOf returns the place of a node in the declaration of a tool, counted from 0.
func placeOf(tools []*yaml.Node, tool int, node *yaml.Node) place {
	p := place{line: node.Line, tool: tool + 1}
	if _, name := memberNode(tools[tool], "name"); name != nil {
		p.name = name.Value
	}
	return p
}

// parserError returns the line in an error of the YAML parser, and what it says.
func parserError(err error) (line int, problem string) {
	if m := regexp.MustCompile(`line (\d+): (.*)`).FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		return line, m[2]
	}
	_, problem, _ = strings.Cut(err.Error(), "yaml: ")
	return 0, cmp.Or(problem, err.Error())
}

// syntaxError returns an error of a file that is not YAML. noticed and begun are those of the versions 2 and 3 of the
// parser: the first has the line in which it noticed the mistake, and the second the line in which begins what it was
// reading.
func syntaxError(file []byte, noticed, begun error) *fileError {
	if p, err := jsonError(file); err != nil && p.tool > 0 {
		return p.wrong(err)
	}
	text := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(file), "\r\n", "\n"), "\n"), "\n")
	line, problem := parserError(noticed)
	start, _ := parserError(begun)
	anchor, unknown := unknownAnchor(problem)
	switch {
	case unknown:
		reference := regexp.MustCompile(`\*` + regexp.QuoteMeta(anchor) + `($|[\s,}\]])`)
		line = 1 + slices.IndexFunc(text, reference.MatchString)
		start = line
	case strings.Contains(problem, "control character"), strings.Contains(problem, "UTF-8"),
		strings.Contains(problem, "Unicode"):
		line = 1 + slices.IndexFunc(text, isUnreadable)
		start = line
	case strings.HasPrefix(problem, "could not find expected"), strings.HasSuffix(problem, "end of stream"):
		line = start
	case !strings.HasPrefix(problem, "did not find expected"): // of the scanner
		start = line
	// The parser counts from 0.
	case strings.HasSuffix(problem, "'-' indicator"):
		line++
		start = line
	case strings.HasSuffix(problem, "key"):
		line, start = line+1, start+1
	default:
		line, start = start+1, start+1
	}
	within := func(line int) int { return min(max(line, 1), len(text)) }
	p := toolAt(text, within(start))
	p.line = within(line)
	return p.wrong(errors.New(problem))
}

// unknownAnchor returns the anchor in an error of the YAML parser that has no line.
func unknownAnchor(problem string) (anchor string, found bool) {
	_, anchor, _ = strings.Cut(problem, "unknown anchor '")
	return strings.CutSuffix(anchor, "' referenced")
}

// isUnreadable reports whether a line has what YAML cannot contain.
func isUnreadable(line string) bool {
	return strings.ContainsFunc(line, func(r rune) bool {
		return r == utf8.RuneError || unicode.IsControl(r) && !strings.ContainsRune("\t\r\u0085", r)
	})
}

// toolAt returns the tool to which a line of a file belongs. The file need not be YAML, so the tool is found by the
// indentation of the list.
func toolAt(text []string, line int) (p place) {
	// The key of the list, if its items are on lines of their own, and the name of a tool in the first column of its
	// fields.
	toolList := regexp.MustCompile(`^["']?tools["']?\s*:\s*(#.*)?$`)
	nameIn := regexp.MustCompile(`(?:^|[{,]\s*)["']?name["']?\s*:\s*["']?([A-Za-z0-9_-]+)`)
	list := slices.IndexFunc(text, toolList.MatchString)
	if list < 0 || line <= list+1 {
		return place{}
	}
	item, fields := -1, 0 // the columns of the dashes, and of the fields of a tool
	for n, l := range text[list+1:] {
		content := strings.TrimLeft(l, " ")
		column := len(l) - len(content)
		if strings.TrimSpace(content) == "" || content[0] == '#' {
			continue
		}
		isItem := content == "-" || strings.HasPrefix(content, "- ")
		if item < 0 {
			item = column
		}
		if item == column && isItem {
			if list+1+n >= line {
				break
			}
			content = strings.TrimLeft(content[1:], " ")
			fields = len(l) - len(content)
			column, p = fields, place{tool: p.tool + 1}
		}
		if column < item && content[0] != '\t' {
			if list+1+n < line {
				p = place{} // the list has ended
			}
			break
		}
		if name := nameIn.FindStringSubmatch(content); name != nil && column == fields && p.tool > 0 && p.name == "" {
			p.name = name[1]
		}
	}
	return p
}

// jsonError returns the syntax error of a file in JSON, and its place. It returns nil if there is none.
func jsonError(file []byte) (p place, err error) {
	d := json.NewDecoder(bytes.NewReader(file))
	err = p.read(d, "")
	if err == nil {
		return place{}, nil
	}
	offset := d.InputOffset()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, err = int64(len(bytes.TrimSpace(file))), errors.New("the end of the file is missing")
	}
	p.line = 1 + bytes.Count(file[:min(offset, int64(len(file)))], []byte("\n"))
	return p, err
}

// read reads a value at a path, such as /tools/*/name, and remembers the tool in which it is.
func (p *place) read(d *json.Decoder, path string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if text, ok := token.(string); ok && path == "/tools/*/name" {
		p.name = text
	}
	if token != json.Delim('{') && token != json.Delim('[') {
		return nil
	}
	for d.More() {
		member := "*"
		if token == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return err
			}
			member, _ = key.(string)
		} else if path == "/tools" {
			p.tool, p.name = p.tool+1, ""
		}
		if err := p.read(d, path+"/"+member); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// valueError returns an error of a file that is YAML, but cannot be decoded.
func valueError(root *yaml.Node, tools []*yaml.Node, err error) *fileError {
	line, problem := parserError(err)
	for i, node := range tools {
		if line > 0 {
			if node.Line <= line && (i+1 == len(tools) || tools[i+1].Line > line) {
				p := placeOf(tools, i, node)
				p.line = line
				return p.wrong(errors.New(problem))
			}
		} else if wrong := undecodable(node); wrong != nil {
			return placeOf(tools, i, wrong).wrong(decodeError(err))
		}
	}
	if line > 0 {
		return &fileError{line, errors.New(problem)}
	}
	err = decodeError(err)
	return &fileError{max(1, lineOf(root, err)), err}
}

// undecodable returns the innermost value that JSON cannot have, or nil.
func undecodable(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return nil // its anchor is elsewhere
	}
	for _, inner := range node.Content {
		if wrong := undecodable(inner); wrong != nil {
			return wrong
		}
	}
	text, err := yaml.Marshal(node)
	if err != nil {
		return node
	}
	if _, err = sigs.YAMLToJSON(text); err != nil {
		if _, unknown := unknownAnchor(err.Error()); !unknown {
			return node
		}
	}
	return nil
}

// repeatedKey returns the first key that an object has twice, or nil.
func repeatedKey(node *yaml.Node) *yaml.Node {
	if node == nil {
		return nil
	}
	seen := map[string]bool{}
	for i, inner := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && inner.Kind == yaml.ScalarNode {
			if seen[inner.Value] {
				return inner
			}
			seen[inner.Value] = true
		}
		if found := repeatedKey(inner); found != nil {
			return found
		}
	}
	return nil
}

// decodeError returns an error of the JSON decoder in the words of the file.
func decodeError(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return fmt.Errorf("it has the wrong type (%s)", wrong.Value)
		}
		// The package of the schemas decodes them with a type of its own.
		field := strings.ReplaceAll(wrong.Field, ".schemaWithoutMethods", "")
		return at(fmt.Errorf("the field %s has the wrong type (%s)", field, wrong.Value), strings.Split(field, ".")...)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // the decoder's own error, without those of the YAML package
	}
	return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "json: "), "yaml: "))
}

// declarationError returns the error of decoding a declaration.
func declarationError(err error) error {
	decoded := decodeError(err)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok && !strings.HasPrefix(decoded.Error(), "unknown field") {
		// No other field decodes itself.
		return at(fmt.Errorf("schema: %w", decoded), "schema")
	}
	return decoded
}

// lines returns the root of a file, and the declarations of its tools, with their lines. Both are nil if
// they cannot be found, which costs only the lines. The error is that of the parser.
func lines(file []byte) (root *yaml.Node, tools []*yaml.Node, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal(file, &document); err != nil || len(document.Content) == 0 {
		return nil, nil, err
	}
	root = document.Content[0]
	if _, list := memberNode(root, "tools"); list != nil && list.Kind == yaml.SequenceNode {
		tools = list.Content
	}
	return root, tools, nil
}

// secondDocument returns the line of a second YAML document, which the parser of the declarations ignores. It returns 0
// if there is none, and if the first document is not YAML.
func secondDocument(file []byte) int {
	var first, second yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(file))
	if documents.Decode(&first) != nil || documents.Decode(&second) != nil {
		return 0
	}
	return second.Line
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
