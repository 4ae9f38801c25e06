package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edit replaces Go tokens of a function, or a text of a file that is in no function.
type edit struct {
	in  string // a function, as internal/callback.(*delivery).deliver, or a file
	old string // which is there once; white space and comments between a function's tokens do not count
	new string
}

// sources are the files of a module, and the names of their functions.
type sources struct {
	root  string
	files map[string]map[string][]string // by package directory and function
}

func newSources(t *testing.T) *sources {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return &sources{root: root, files: make(map[string]map[string][]string)}
}

// edited returns the copies with the edits made as well. The names of files are their keys.
func (s *sources) edited(copies map[string]string, edits []edit) (map[string]string, error) {
	changed := maps.Clone(copies)
	if changed == nil {
		changed = make(map[string]string)
	}
	for _, e := range edits {
		file, function := e.in, ""
		if info, err := os.Stat(filepath.Join(s.root, e.in)); err != nil || info.IsDir() {
			if file, function, err = s.find(e.in); err != nil {
				return nil, err
			}
		}
		text, known := changed[file]
		if !known {
			source, err := os.ReadFile(filepath.Join(s.root, file))
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		start, end, err := e.match(text, function)
		if err != nil {
			return nil, err
		}
		text = text[:start] + e.new + text[end:]
		if strings.HasSuffix(file, ".go") {
			if _, err := parse(text); err != nil {
				return nil, fmt.Errorf("%s with %q does not parse: %w", e.in, e.new, err)
			}
		}
		changed[file] = text
	}
	return changed, nil
}

// find returns the file that declares a function, and the function's name in its package.
func (s *sources) find(in string) (file, function string, err error) {
	base := strings.LastIndex(in, "/") + 1
	name, function, ok := strings.Cut(in[base:], ".")
	if !ok {
		return "", "", fmt.Errorf("%s is neither a file nor a function", in)
	}
	folder := in[:base] + name
	functions, known := s.files[folder]
	if !known {
		if functions, err = s.functions(folder); err != nil {
			return "", "", err
		}
		s.files[folder] = functions
	}
	files := functions[function]
	if len(files) != 1 {
		return "", "", fmt.Errorf("%s declares a function %s %d times, want once", folder, function, len(files))
	}
	return files[0], function, nil
}

// functions returns the files of a package's functions.
func (s *sources) functions(folder string) (map[string][]string, error) {
	names, err := filepath.Glob(filepath.Join(s.root, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	functions := make(map[string][]string)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		declarations, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, d := range declarations {
			functions[d.name] = append(functions[d.name], folder+"/"+filepath.Base(name))
		}
	}
	return functions, nil
}

// match returns where the text, which is that of a file, contains the old one. The name
// of the function is empty if the edit names the file.
func (e edit) match(text, function string) (start, end int, err error) {
	if function == "" {
		if n := strings.Count(text, e.old); n != 1 {
			return 0, 0, fmt.Errorf("%s contains %q %d times, want once", e.in, e.old, n)
		}
		start = strings.Index(text, e.old)
		end = start + len(e.old)
		if !strings.HasSuffix(e.in, ".go") {
			return start, end, nil
		}
		declarations, err := parse(text)
		for _, d := range declarations {
			if d.start < end && start < d.end {
				return 0, 0, fmt.Errorf("%q of %s is in the function %s; name this in place of the file",
					e.old, e.in, d.name)
			}
		}
		return start, end, err
	}
	declarations, err := parse(text)
	if err != nil {
		return 0, 0, err
	}
	at := slices.IndexFunc(declarations, func(d declaration) bool { return d.name == function })
	if at < 0 {
		return 0, 0, fmt.Errorf("an earlier edit removed the function %s", e.in)
	}
	d := declarations[at]
	all, err := tokens(text[d.start:d.end])
	if err != nil {
		return 0, 0, err
	}
	old, err := tokens(e.old)
	if err != nil {
		return 0, 0, fmt.Errorf("%q, for the function %s: %w", e.old, e.in, err)
	}
	if len(old) == 0 {
		return 0, 0, fmt.Errorf("no tokens to replace in the function %s", e.in)
	}
	n := 0
	for i := range len(all) - len(old) + 1 {
		found := all[i : i+len(old)]
		if slices.EqualFunc(found, old, func(a, b lexeme) bool { return a.text == b.text }) {
			start, end = d.start+found[0].start, d.start+found[len(found)-1].end
			n++
		}
	}
	if n != 1 {
		return 0, 0, fmt.Errorf("the function %s contains %q %d times, want once", e.in, e.old, n)
	}
	return start, end, nil
}

// declaration is a function in a file.
type declaration struct {
	name       string // as render, or as (*call).end
	start, end int    // without the doc comment
}

func parse(text string) ([]declaration, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []declaration
	for _, d := range file.Decls {
		d, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := d.Name.Name
		if d.Recv != nil {
			receiver, _, _ := strings.Cut(types.ExprString(d.Recv.List[0].Type), "[")
			if strings.HasPrefix(receiver, "*") {
				receiver = "(" + receiver + ")"
			}
			name = receiver + "." + name
		}
		found = append(found, declaration{name, set.Position(d.Pos()).Offset, set.Position(d.End()).Offset})
	}
	return found, nil
}

// lexeme is a Go token in a text.
type lexeme struct {
	text       string
	start, end int
}

// tokens returns the tokens of a text that its author wrote: no comments, and no
// semicolons for the ends of lines.
func tokens(text string) ([]lexeme, error) {
	set := token.NewFileSet()
	file := set.AddFile("", set.Base(), len(text))
	var found []lexeme
	var errs []error
	var s scanner.Scanner
	s.Init(file, []byte(text), func(_ token.Position, message string) { errs = append(errs, errors.New(message)) }, 0)
	for {
		at, kind, literal := s.Scan()
		if kind == token.EOF {
			return found, errors.Join(errs...)
		}
		if kind == token.SEMICOLON && literal != ";" {
			continue
		}
		if !kind.IsLiteral() {
			literal = kind.String()
		}
		start := file.Offset(at)
		found = append(found, lexeme{literal, start, start + len(literal)})
	}
}

// plant writes copies of files, and returns an overlay that replaces the files with them.
func (s *sources) plant(t *testing.T, copies map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	replaced := make(map[string]string)
	for name, text := range copies {
		at := filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[filepath.Join(s.root, name)] = at
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestEdits edits a file as an author may have formatted it.
func TestEdits(t *testing.T) {
	const text = `package kettle

// limit is in degrees.
const limit = 100

// heat heats the water: it is on until it boils.
func heat(t int) (on bool) {
	on = t <
		limit // water
	return on
}

func (k *kettle[T]) heat() bool { return heat(k.t) && k.lid && k.lid }
`
	const heats = "on = t <\n\t\tlimit"
	s := &sources{root: t.TempDir(), files: make(map[string]map[string][]string)}
	for name, text := range map[string]string{
		"kettle/kettle.go":      text,
		"kettle/kettle_test.go": "package kettle\n\nfunc heat() {}\n",
		"kettle/a.yaml":         "limit: 100\n",
	} {
		name = filepath.Join(s.root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		edit     edit
		old, new string // of kettle.go
		want     string // the error
	}{
		{"a semicolon", edit{"kettle.heat", "t < limit; return", "return !"}, "", "",
			`the function kettle.heat contains "t < limit; return" 0 times, want once`},
		{"line breaks", edit{"kettle.heat", "on=t<limit\nreturn", "return !"}, heats + " // water\n\treturn", "return !", ""},
		{"a comment", edit{"kettle.heat", "t < /* C */ limit", "true"}, "t <\n\t\tlimit", "true", ""},
		{"a method", edit{"kettle.(*kettle).heat", "heat(k.t)", "true"}, "heat(k.t)", "true", ""},
		{"in no function", edit{"kettle/kettle.go", "limit = 100", "limit = 10"}, "limit = 100", "limit = 10", ""},
		{"part of a word", edit{"kettle.heat", "lim", "x"}, "", "",
			`the function kettle.heat contains "lim" 0 times, want once`},
		{"only a comment", edit{"kettle.heat", "// water", ""}, "", "", "no tokens to replace in the function kettle.heat"},
		{"in another function", edit{"kettle.heat", "heat(k.t)", "true"}, "", "",
			`the function kettle.heat contains "heat(k.t)" 0 times, want once`},
		{"twice", edit{"kettle.(*kettle).heat", "k.lid", "true"}, "", "",
			`the function kettle.(*kettle).heat contains "k.lid" 2 times, want once`},
		{"no such function", edit{"kettle.cool", "on", "off"}, "", "", "kettle declares a function cool 0 times, want once"},
		{"not parsed", edit{"kettle.heat", "return on", "return ("}, "", "", `kettle.heat with "return (" does not parse: `},
		{"the file of a function", edit{"kettle/kettle.go", "return on", "return true"}, "", "",
			`"return on" of kettle/kettle.go is in the function heat; name this in place of the file`},
		{"not in the file", edit{"kettle/a.yaml", "limit: 90", ""}, "", "",
			`kettle/a.yaml contains "limit: 90" 0 times, want once`},
	} {
		t.Run(c.name, func(t *testing.T) {
			copies, err := s.edited(nil, []edit{c.edit})
			if c.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("error %v, want %s", err, c.want)
				}
				return
			}
			if want := strings.Replace(text, c.old, c.new, 1); err != nil || copies["kettle/kettle.go"] != want {
				t.Errorf("got %s, error %v, want %s", copies["kettle/kettle.go"], err, want)
			}
		})
	}
}
