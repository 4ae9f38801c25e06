package scaffold_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block matches a block of Go or YAML in a page, and the file that the line before names, if there is one.
var block = regexp.MustCompile("(?ms)(?:`(tools/\\w+\\.go)`:?\n\n)?^([ \t]*)```(go|yaml|yml)\n(.*?)^[ \t]*```$")

// fragments are the blocks that no project can contain, by their first line, with the reason.
var fragments = map[string]string{
	`r, err := ringback.NewRingback(stack, "Ringback", ringback.Props{`:                "a part of a CDK app",
	`tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("example.com/shop")`: "two statements of a tool",
}

// libraries are the packages that the blocks use without an import.
var libraries = map[string]string{
	"context": "context", "json": "encoding/json", "errors": "errors", "fmt": "fmt", "http": "net/http",
	"httptest": "net/http/httptest", "url": "net/url", "os": "os", "strings": "strings", "testing": "testing",
	"synctest": "testing/synctest", "time": "time", "jsonschema": "github.com/google/jsonschema-go/jsonschema",
	"asynctool": "github.com/ringback/ringback/asynctool", "httptool": "github.com/ringback/ringback/httptool",
	"asynctooltest": "github.com/ringback/ringback/asynctooltest",
}

// arguments are what the list passes to a function that makes a tool, by the type of its parameter.
var arguments = map[string]string{
	"string": `"https://shop.example.com"`, "*url.URL": `&url.URL{Scheme: "https", Host: "shop.example.com"}`,
}

// documented collects the blocks of the pages.
type documented struct {
	files    map[string]string // of the project, by name
	declared string            // what tools/http.yaml has after its first line
	list     []string          // the Go tools that no block adds to the list
	tools    []string          // the names of all tools
	used     map[string]bool   // the fragments that exist
}

// addsDocumented writes every block of Go and YAML of README and docs into the project, and all tools in them into
// its list.
func (p project) addsDocumented() {
	p.t.Helper()
	pages, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(pages) < 10 {
		p.t.Fatalf("found %d pages: %v", len(pages), err)
	}
	d := documented{files: map[string]string{}, used: map[string]bool{}}
	for _, page := range append([]string{"../../../README.md"}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			p.t.Fatal(err)
		}
		for i, found := range block.FindAllStringSubmatch(string(text), -1) {
			name, indent, language, code := found[1], found[2], found[3], found[4]
			code = strings.TrimPrefix(strings.ReplaceAll("\n"+code, "\n"+indent, "\n"), "\n")
			first, rest, _ := strings.Cut(code, "\n")
			where := fmt.Sprintf("%s, the block that begins with %q", filepath.Base(page), first)
			switch {
			case fragments[first] != "":
				d.used[first] = true
			case language != "go":
				if first != "tools:" {
					p.t.Errorf("%s declares no tools, and is not among the fragments", where)
				}
				d.declared += rest
				d.tools = append(d.tools, named(rest, `(?m)^  - name: (\w+)$`)...)
			default:
				if name == "" {
					name = fmt.Sprintf("tools/%s_%d.go", strings.TrimSuffix(filepath.Base(page), ".md"), i)
				}
				d.add(p.t, where, name, code)
			}
		}
		// What the next page replaces is compiled before that.
		p.writesDocumented(d)
	}
	for first, why := range fragments {
		if !d.used[first] {
			p.t.Errorf("no page has the fragment %q (%s)", first, why)
		}
	}
	type tool struct{ Function struct{ Name string } }
	var listed []tool
	if err := json.Unmarshal([]byte(p.run("go", "run", "./cmd/ringback", "tools", "--json")), &listed); err != nil {
		p.t.Fatal(err)
	}
	missing := slices.DeleteFunc(d.tools, func(name string) bool {
		return slices.ContainsFunc(listed, func(l tool) bool { return l.Function.Name == name })
	})
	if len(missing) > 0 || len(d.list) < 10 || len(listed) < len(d.list)+5 {
		p.t.Errorf("the project has %d tools, %d of them from blocks of Go, and lacks %q", len(listed), len(d.list), missing)
	}
}

// add adds a block of Go, which is a file or declarations.
func (d *documented) add(t *testing.T, where, name, code string) {
	t.Helper()
	whole := strings.HasPrefix(code, "package ")
	if !whole {
		code = "package tools\n" + code
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", code, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("%s cannot be a file of a project, and is not among the fragments: %v", where, err)
		return
	}
	test := false
	for _, declaration := range file.Decls {
		switch declaration := declaration.(type) {
		case *ast.FuncDecl:
			test = test || strings.HasPrefix(declaration.Name.Name, "Test")
			results := declaration.Type.Results
			if whole || results.NumFields() != 1 || text(t, results.List[0].Type) != "asynctool.Definition" {
				continue
			}
			var values []string
			for _, parameter := range declaration.Type.Params.List {
				value := arguments[text(t, parameter.Type)]
				if value == "" {
					t.Errorf("%s needs an argument of type %s", where, text(t, parameter.Type))
				}
				for range parameter.Names {
					values = append(values, value)
				}
			}
			d.list = append(d.list, fmt.Sprintf("%s(%s)", declaration.Name.Name, strings.Join(values, ", ")))
		case *ast.GenDecl:
			for _, spec := range declaration.Specs {
				value, ok := spec.(*ast.ValueSpec)
				if ok && !whole && len(value.Values) == 1 && strings.HasPrefix(text(t, value.Values[0]), "asynctool.Tool[") {
					d.list = append(d.list, value.Names[0].Name)
				}
			}
		}
	}
	if !test {
		d.tools = append(d.tools, named(code, `(?m)^\t+Name: +"(\w+)",$`)...)
	}
	if test && !strings.HasSuffix(name, "_test.go") {
		name = strings.TrimSuffix(name, ".go") + "_test.go"
	}
	if !whole {
		code = withImports(file, code)
	}
	d.files[name] = code
}

// withImports adds the imports to declarations in package tools.
func withImports(file *ast.File, code string) string {
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if of, ok := selector.X.(*ast.Ident); ok && libraries[of.Name] != "" {
				used[libraries[of.Name]] = true
			}
		}
		return true
	})
	imports := ""
	for library := range used {
		imports += fmt.Sprintf("import %q\n", library)
	}
	return strings.Replace(code, "package tools\n", "package tools\n"+imports, 1)
}

// writesDocumented writes what was found so far, and compiles it with its tests.
func (p project) writesDocumented(d documented) {
	p.t.Helper()
	for name, code := range d.files {
		p.write(name, code)
	}
	if d.declared != "" {
		p.write("tools/http.yaml", "tools:\n"+d.declared)
	}
	list := "package tools\n\nimport (\n\t\"net/url\"\n\n\t\"github.com/ringback/ringback/asynctool\"\n)\n\n" +
		"var _ *url.URL\n\nfunc documented() []asynctool.Definition {\n\treturn []asynctool.Definition{\n" +
		strings.Join(append(slices.Clone(d.list), ""), ",\n") + "\t}\n}\n"
	code, err := format.Source([]byte(list))
	if err != nil {
		p.t.Fatalf("%v\n%s", err, list)
	}
	p.write("tools/documented.go", string(code))
	p.replace("tools/tools.go", "}, forwarded...), nil", "}, append(forwarded, documented()...)...), nil")
	p.run("go", "vet", "./tools")
}

// replace replaces a text that a file of the project contains once, unless the file has been changed already.
func (p project) replace(name, old, replacement string) {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(p.folder, name))
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.Contains(string(content), replacement) {
		return
	}
	if strings.Count(string(content), old) != 1 {
		p.t.Fatalf("%s does not contain %q once:\n%s", name, old, content)
	}
	p.write(name, strings.Replace(string(content), old, replacement, 1))
}

func named(code, pattern string) (names []string) {
	for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(code, -1) {
		names = append(names, found[1])
	}
	return names
}

func text(t *testing.T, node ast.Node) string {
	t.Helper()
	var b strings.Builder
	if err := format.Node(&b, token.NewFileSet(), node); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
