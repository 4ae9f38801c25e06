package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	minidyn "github.com/truora/minidyn/server"

	"github.com/ringback/ringback/internal/cli/scaffold"
)

// watched is a new project and its program, which a test of --watch changes.
type watched struct {
	t       *testing.T
	folder  string
	program string
	env     []string
}

// newWatched returns a project with an environment for its program.
func newWatched(t *testing.T, env ...string) watched {
	t.Helper()
	original, err := newProject()
	if err != nil {
		t.Fatal(err)
	}
	w := watched{t: t, folder: t.TempDir(), program: filepath.Join(t.TempDir(), "program")}
	if err := os.CopyFS(w.folder, os.DirFS(filepath.Join(original, "project"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(original, "program"), w.program); err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir(), "GOCACHE="+goCache(t), withoutSymbols)
	w.env = append(w.env, env...)
	return w
}

// run returns the program with arguments.
func (w watched) run(arguments ...string) *exec.Cmd {
	c := exec.CommandContext(w.t.Context(), w.program, arguments...)
	c.Dir, c.Env = w.folder, w.env
	return c
}

// withoutSymbols is the setting of the go command with which it links in half the time.
const withoutSymbols = "GOFLAGS=-ldflags=-s"

// newProject writes a project and builds its program, once for all tests.
var newProject = sync.OnceValues(func() (folder string, err error) {
	folder = filepath.Join(shared, "watch")
	from, err := scaffold.SourceOf(nil)
	if err != nil {
		return "", err
	}
	if err := scaffold.Write(filepath.Join(folder, "project"), "example.com/acme/voice", from); err != nil {
		return "", err
	}
	for _, arguments := range [][]string{{"mod", "tidy"}, {"build", "-o", "../program", "./cmd/ringback"}} {
		c := exec.Command("go", arguments...)
		c.Dir, c.Env = filepath.Join(folder, "project"), append(os.Environ(), withoutSymbols)
		if out, err := c.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %q: %w\n%s", arguments, err, out)
		}
	}
	return folder, nil
})

// TestWatch changes a project while it runs: its Go code, its YAML and its settings, with mistakes in between. A
// tool that is running and the call that waits for it survive.
func TestWatch(t *testing.T) {
	t.Parallel()
	project := newWatched(t)
	file := func(name string) string { return filepath.Join(project.folder, name) }
	replace := func(name, old, with string) {
		t.Helper()
		text, err := os.ReadFile(file(name))
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%s does not contain %q, %v", name, old, err)
		}
		if err := os.WriteFile(file(name), []byte(strings.Replace(string(text), old, with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tool = "tools/weather_report.go"
	var screen syncBuffer
	dev := project.run("dev", "--watch", "--no-demo", "--verbose", "--addr", "127.0.0.1:0")
	dev.Stdout, dev.Stderr = &screen, &screen
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	shown := func(text string) {
		t.Helper()
		for end := time.Now().Add(patience); !strings.Contains(screen.String(), text); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the run never showed %q:\n%s", text, screen.String())
			}
		}
	}
	shown("Ready.")
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/vapi`).FindString(screen.String())
	call := func(out *syncBuffer) error {
		c := project.run("call", "weather_report", "city=Lisbon", "--url", url)
		c.Stdout, c.Stderr = out, out
		return c.Run()
	}
	says := func(text string) {
		t.Helper()
		var out syncBuffer
		if err := call(&out); err != nil || !strings.Contains(out.String(), text) {
			t.Errorf("%v, %s\n%s", err, out.String(), screen.String())
		}
	}

	// The running tool ends with the code with which it began.
	var first syncBuffer
	called := make(chan error, 1)
	go func() { called <- call(&first) }()
	shown("tool started")
	replace(tool, "It will be sunny", "It will be rainy")
	shown("Restarted, with all jobs and calls:")
	if err := <-called; err != nil || !strings.Contains(first.String(), "It will be sunny in Lisbon until Friday.") {
		t.Errorf("the call over the restart: %v\n%s\n%s", err, first.String(), screen.String())
	}
	says("It will be rainy in Lisbon until Friday.")

	// Mistakes are shown, and the code before goes on.
	for mistake, problem := range map[string]string{
		"no code": "The code cannot be compiled.", "Name: \"not a name\",": "tool \"not a name\": the name must be",
	} {
		screen.Reset()
		replace(tool, `Name:        "weather_report",`, mistake)
		shown(problem)
		shown("The run goes on with the code before.")
		replace(tool, mistake, `Name:        "weather_report",`)
	}
	says("It will be rainy in Lisbon until Friday.")

	// Settings and declared tools count, too.
	screen.Reset()
	if err := os.WriteFile(file("tools/http.yaml"), []byte("tools:\n  - name: book\n    description: Books a table.\n"+
		"    schema: {type: object}\n    url: ${BOOKING_API_URL}\n    timeout: 1m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown("Restarted, with all jobs and calls:")
	screen.Reset()
	if err := os.WriteFile(file(".env"), []byte("BOOKING_API_URL=https://example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown("Restarted, with all jobs and calls:")

	if err := dev.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(screen.String(), "Everything that was accepted is finished.") {
			t.Errorf("%v\n%s", err, screen.String())
		}
	case <-time.After(patience):
		t.Fatalf("the run has not ended:\n%s", screen.String())
	}
}

// TestWatchListener changes a project while its listener runs. The next listener has the new code.
func TestWatchListener(t *testing.T) {
	t.Parallel()
	a := &account{table: minidyn.NewServer()}
	url, env := newAWS(t, a)
	a.create(t, url)
	deployFor(t, a, approves("approval", time.Minute))
	project := newWatched(t, env...)
	var screen syncBuffer
	listener := project.run("listen", "--watch", "--stack", "Ringback")
	listener.Stdout, listener.Stderr = &screen, &screen
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- listener.Wait() }()
	shown := func(text string, times int) {
		t.Helper()
		for end := time.Now().Add(patience); strings.Count(screen.String(), text) < times; {
			if time.Sleep(20 * time.Millisecond); time.Now().After(end) {
				t.Fatalf("the listener never showed %q:\n%s", text, screen.String())
			}
		}
	}
	shown("weather_report is new; approval is gone. ", 1)
	shown("Press Ctrl-C to stop.", 1)
	tool := filepath.Join(project.folder, "tools", "weather_report.go")
	text, err := os.ReadFile(tool)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"weather_report"`, `"weather"`, 1)
	if err := os.WriteFile(tool, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	shown("weather is new; approval is gone. ", 1)
	shown("Press Ctrl-C to stop.", 2)
	if err := listener.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || strings.Count(screen.String(), "Everything that was received is finished.") != 2 {
		t.Errorf("%v\n%s", err, screen.String())
	}
}

// goCache returns the folder of the go command's cache, which follows XDG_CACHE_HOME.
func goCache(t *testing.T) string {
	t.Helper()
	folder, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(folder))
}
