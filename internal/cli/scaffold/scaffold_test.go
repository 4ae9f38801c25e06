package scaffold_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/cli/scaffold"
)

// TestSourceOf checks which Ringback a new project requires.
func TestSourceOf(t *testing.T) {
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	own := func(version string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "github.com/ringback/ringback", Version: version}}
	}
	project := func(version, replaced string) *debug.BuildInfo {
		required := debug.Module{Path: "github.com/ringback/ringback", Version: version}
		if replaced != "" {
			required.Replace = &debug.Module{Path: replaced}
		}
		return &debug.BuildInfo{Main: debug.Module{Path: "example.com/acme/voice"}, Deps: []*debug.Module{
			{Path: "example.com/other", Version: "v9.9.9"}, &required,
		}}
	}
	const untagged = "v1.4.1-0.20261125220000-0123456789ab"
	development := scaffold.Source{Version: "v0.0.0", Checkout: checkout}
	for name, row := range map[string]struct {
		build *debug.BuildInfo
		want  scaffold.Source
	}{
		"released":             {own("v1.4.0"), scaffold.Source{Version: "v1.4.0"}},
		"a candidate":          {own("v1.4.0-rc.1"), scaffold.Source{Version: "v1.4.0-rc.1"}},
		"go run in a checkout": {own("(devel)"), development},
		"a revision":           {own(untagged), development},
		"uncommitted changes":  {own("v1.4.0+dirty"), development},
		"no build information": {nil, development},
		"of a project":         {project("v1.4.0", ""), scaffold.Source{Version: "v1.4.0"}},
		"a project's revision": {project(untagged, ""), scaffold.Source{Version: untagged}},
		"a project's checkout": {project("v0.0.0", "/src"), scaffold.Source{Version: "v0.0.0", Checkout: "/src"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := scaffold.SourceOf(row.build)
			if err != nil || got != row.want {
				t.Errorf("got %+v, %v; want %+v", got, err, row.want)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(used, "x")
	for name, row := range map[string]struct{ folder, module, want string }{
		"a folder with files": {used, "example.com/acme/voice", "is not empty"},
		"a file":              {file, "example.com/acme/voice", "not a directory"},
		"no path":             {t.TempDir(), "", "is not the path of a module"},
		"no module path":      {t.TempDir(), "my project", "is not the path of a module"},
		"no host":             {t.TempDir(), "voice", "is not the path of a module"},
		"Ringback itself":     {t.TempDir(), "github.com/ringback/ringback", "is Ringback itself"},
	} {
		t.Run(name, func(t *testing.T) {
			err := scaffold.Write(row.folder, row.module, scaffold.Source{Version: "v1.0.0"})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// A project of a released version has no replace directive, and a new stack has the better name of an access log.
func TestReleased(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "voice")
	if err := scaffold.Write(folder, "example.com/acme/voice", scaffold.Source{Version: "v1.4.0"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "require github.com/ringback/ringback v1.4.0\n") ||
		strings.Contains(string(text), "replace") {
		t.Errorf("go.mod is:\n%s", text)
	}
	text, err = os.ReadFile(filepath.Join(folder, "cdk.json"))
	if err != nil {
		t.Fatal(err)
	}
	var app struct{ Context map[string]any }
	if err := json.Unmarshal(text, &app); err != nil || app.Context["vendedLogs"] != true || len(app.Context) < 2 {
		t.Errorf("%v, cdk.json is:\n%s", err, text)
	}
}

// project is a project in a folder, with this checkout as its Ringback.
type project struct {
	t      *testing.T
	folder string
}

// run runs a command in the project, and returns its output.
func (p project) run(name string, arguments ...string) string {
	p.t.Helper()
	command := exec.CommandContext(p.t.Context(), name, arguments...)
	// Without symbols, the go command links in half the time.
	command.Dir, command.Env = p.folder, append(os.Environ(), "GOFLAGS=-ldflags=-s")
	out, err := command.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// write writes a file of the project.
func (p project) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.folder, name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// synthesises does as "make synth", without the CDK CLI, which the end-to-end tests use. The context is the settings.
func (p project) synthesises(context string) {
	p.t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		p.t.Log("NOT TESTED: the synthesis, as there is no Node.js here")
		return
	}
	p.run("env", "CDK_CONTEXT_JSON="+context, "go", "run", "./infra")
}

// demonstrates runs the demonstration until its end.
func (p project) demonstrates() {
	p.t.Helper()
	p.run("go", "build", "-o", "build/ringback", "./cmd/ringback")
	ctx, stop := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer stop()
	dev := exec.CommandContext(ctx, "build/ringback", "dev", "--addr", "127.0.0.1:0", "--shop-delay", "300ms")
	dev.Dir, dev.Env = p.folder, append(os.Environ(), "XDG_CACHE_HOME="+p.t.TempDir())
	dev.Path = filepath.Join(p.folder, "build/ringback")
	dev.Cancel = func() error { return dev.Process.Signal(os.Interrupt) }
	shown := &screen{until: "Try next", stop: stop}
	dev.Stdout, dev.Stderr = shown, shown
	if err := dev.Run(); !shown.seen {
		p.t.Fatalf("the demonstration did not end: %v\n%s", err, shown.text.String())
	}
	if !strings.Contains(shown.text.String(), "The external system has answered, and the assistant has the result.") {
		p.t.Errorf("the demonstration has another end:\n%s", shown.text.String())
	}
}

// screen stops the program when it has shown a text.
type screen struct {
	text  strings.Builder
	until string
	seen  bool
	stop  func()
}

func (s *screen) Write(b []byte) (int, error) {
	s.text.Write(b)
	if !s.seen && strings.Contains(s.text.String(), s.until) {
		s.seen = true
		s.stop()
	}
	return len(b), nil
}

// newProject writes a project, and makes its dependencies complete.
func newProject(t *testing.T) project {
	t.Helper()
	p := project{t, t.TempDir()}
	from, err := scaffold.SourceOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := scaffold.Write(p.folder, "example.com/acme/voice", from); err != nil {
		t.Fatal(err)
	}
	p.run("go", "mod", "tidy")
	return p
}

// earlierProject updates a project that an earlier version has written: testdata/first is the first layout.
func earlierProject(t *testing.T) project {
	t.Helper()
	p := project{t, t.TempDir()}
	if err := os.CopyFS(p.folder, os.DirFS("testdata/first")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(p.folder, "go.mod.txt"), filepath.Join(p.folder, "go.mod")); err != nil {
		t.Fatal(err)
	}
	from, err := scaffold.SourceOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.run("go", "mod", "edit", "-replace=github.com/ringback/ringback="+from.Checkout)
	p.run("go", "mod", "tidy")
	return p
}

// TestProject writes a project, adds the examples and the tools of the documentation, and does with it what its
// README says.
func TestProject(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.run("make", "test")
	p.demonstrates()
	p.playsExamples()

	p.addsDocumented()
	p.run("make", "test")
	p.demonstrates()

	// Nothing requires the project's first tool.
	for _, name := range []string{"tools/weather_report.go", "tools/weather_report_test.go"} {
		if err := os.Remove(filepath.Join(p.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.write("tools/http.yaml", `tools:
  - name: book
    description: Books a table.
    schema: {type: object}
    url: ${BOOKING_API_URL}
    timeout: 13m
    attempts: 5
`)
	list, err := os.ReadFile(filepath.Join(p.folder, "tools/tools.go"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("tools/tools.go", strings.Replace(string(list), "\t\tweatherReport,\n", "", 1))
	p.run("make", "test")
	p.demonstrates()
}

// TestUpdate updates a project that an earlier version has written.
func TestUpdate(t *testing.T) {
	t.Parallel()
	earlierProject(t).run("make", "test")
}

// TestSynthesis synthesises the stacks of a new project and of an earlier one. "make test" runs it with the tests of
// infra/, since both take the CDK's time.
func TestSynthesis(t *testing.T) {
	t.Run("new", func(t *testing.T) {
		p := newProject(t)
		p.addsDocumented()
		p.run("make", "build")
		// Some of the tools park their results.
		p.synthesises(`{"binaries": "build", "privateKeySecretArn": ` +
			`"arn:aws:secretsmanager:eu-central-1:111122223333:secret:private-AbCdEf"}`)
	})
	t.Run("earlier", func(t *testing.T) { earlierProject(t).synthesises("{}") })
}
