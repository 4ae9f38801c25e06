package cli_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/fatih/color"
	"github.com/rivo/uniseg"

	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/local/slowshop"
)

// glyph is a character on a screen. A wide one is followed by an empty one.
type glyph struct {
	text  string
	style string // the parameters of the last SGR sequence
}

// emulator is a terminal. It keeps lines as they were written, and wraps them at its width as most terminals do, also
// when it is resized.
type emulator struct {
	mu     sync.Mutex
	width  int
	lines  [][]glyph
	at     int // the cursor's place in the last line
	style  string
	rest   string // an incomplete sequence
	screen *os.File

	status  string      // the status line after the last write
	changes []time.Time // when it changed

	most    int             // how many status lines there were at most at a time
	drawn   map[string]bool // the status lines so far, also incomplete ones
	unknown []string        // what the program should not have written
}

const statusLine = "… "

// newEmulator returns a terminal, and the file that a program writes to.
func newEmulator(t *testing.T, width int) (e *emulator, tty *os.File) {
	t.Helper()
	screen, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close(); tty.Close() })
	e = &emulator{lines: make([][]glyph, 1), screen: screen, drawn: make(map[string]bool)}
	e.resize(t, width)
	go func() {
		piece := make([]byte, 4096)
		for {
			n, err := screen.Read(piece)
			if err != nil {
				return
			}
			e.write(string(piece[:n]))
		}
	}()
	return e, tty
}

func (e *emulator) resize(t *testing.T, width int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.width = width
	if err := pty.Setsize(e.screen, &pty.Winsize{Rows: 50, Cols: uint16(width)}); err != nil {
		t.Fatal(err)
	}
}

var sequence = regexp.MustCompile(`^\x1b\[([0-9;]*)([A-Za-z])`)

func (e *emulator) write(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text = e.rest + text
	e.rest = ""
	for text != "" {
		last := len(e.lines) - 1
		switch {
		case text[0] == '\r':
			e.at, text = max(e.at-1, 0)/e.width*e.width, text[1:]
		case text[0] == '\n':
			e.lines, e.at, text = append(e.lines, nil), 0, text[1:]
		case text[0] == '\x1b':
			m := sequence.FindStringSubmatch(text)
			if m == nil {
				e.rest = text
				return
			}
			e.obey(m[2], m[1])
			text = text[len(m[0]):]
		default:
			cluster, after, width, _ := uniseg.FirstGraphemeClusterInString(text, -1)
			if after == "" && len(text) < 4 && !validEnd(text) {
				e.rest = text
				return
			}
			line := append(e.lines[last][:min(e.at, len(e.lines[last]))], glyph{cluster, e.style})
			for range width - 1 {
				line = append(line, glyph{"", e.style})
			}
			e.lines[last], e.at, text = line, e.at+width, after
		}
		e.look()
	}
	if last := textOf(e.lines[len(e.lines)-1]); strings.HasPrefix(last, statusLine) && last != e.status {
		e.status, e.changes = last, append(e.changes, time.Now())
	}
}

// quiet reports whether the status line is fresh, and will not change within the next 400 ms. The seconds of a job
// change one second after they last did.
func (e *emulator) quiet() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := false
	for _, at := range e.changes {
		age := time.Since(at)
		if age >= 600*time.Millisecond && age < 1050*time.Millisecond {
			return false
		}
		changed = changed || age < 600*time.Millisecond
	}
	return changed
}

func validEnd(text string) bool { return strings.ToValidUTF8(text, "") == text }

func (e *emulator) obey(command, parameter string) {
	last := len(e.lines) - 1
	switch command {
	case "m":
		e.style = parameter
	case "J", "K":
		e.lines[last] = e.lines[last][:min(e.at, len(e.lines[last]))]
	case "A":
		n, _ := strconv.Atoi(parameter)
		e.at -= n * e.width
		if e.at < 0 {
			e.unknown = append(e.unknown, "the cursor leaves its line")
			e.at = 0
		}
	default:
		e.unknown = append(e.unknown, command)
	}
}

// look counts the status lines.
func (e *emulator) look() {
	n := 0
	for _, line := range e.lines {
		if text := textOf(line); strings.HasPrefix(text, statusLine) {
			e.drawn[text] = true
			n++
		}
	}
	e.most = max(e.most, n)
}

// seen returns how many status lines there were at most at a time, and what the program should not have written.
func (e *emulator) seen() (most int, unknown []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.most, slices.Clone(e.unknown)
}

// sawStatus reports whether a status line had a text.
func (e *emulator) sawStatus(pattern string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(slices.Collect(maps.Keys(e.drawn)), regexp.MustCompile(pattern).MatchString)
}

func textOf(line []glyph) string {
	var b strings.Builder
	for _, g := range line {
		b.WriteString(g.text)
	}
	return strings.TrimRight(b.String(), " ")
}

// shown returns the lines on the screen.
func (e *emulator) shown() (lines []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, line := range e.lines {
		lines = append(lines, textOf(line))
	}
	return lines
}

func (e *emulator) String() string { return strings.Join(e.shown(), "\n") }

const notShown = "not shown"

// styled returns the style of a text on the screen, or notShown. The text must be in one line.
func (e *emulator) styled(text string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, line := range e.lines {
		if before, _, found := strings.Cut(textOf(line), text); found {
			return line[uniseg.StringWidth(before)].style
		}
	}
	return notShown
}

// wait waits until the screen shows a text, which may be wrapped.
func (e *emulator) wait(t *testing.T, text string) {
	t.Helper()
	shown := func() bool { return strings.Contains(strings.Join(strings.Fields(e.String()), " "), text) }
	for end := time.Now().Add(patience); !shown(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal never showed %q:\n%s", text, e)
		}
	}
}

// devOn runs ringback dev on a terminal, as a program of its own. It returns functions that post a sample to it, and
// that end it.
func devOn(t *testing.T, e *emulator, tty *os.File, env []string, arguments ...string) (
	post func(file string), stop func(),
) {
	t.Helper()
	env = append(env, "TERM=xterm", "XDG_CACHE_HOME="+t.TempDir())
	dev := ringback(t, env, append([]string{"dev", "--addr", "127.0.0.1:0"}, arguments...)...)
	dev.Stdout, dev.Stderr = tty, tty
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	post = func(file string) {
		t.Helper()
		url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/vapi`).FindString(e.String())
		if out, err := ringback(t, env, "send", "events/vapi/"+file, "--url", url).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, out)
		}
	}
	return post, func() {
		t.Helper()
		if err := dev.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := dev.Wait(); err != nil {
			t.Errorf("%v; the terminal shows:\n%s", err, e)
		}
	}
}

// TestTerminal records the demonstration and several tools at a time on terminals of different widths.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{120, 80, 60, 40} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			var e *emulator
			for delay := 250 * time.Millisecond; ; delay *= 4 {
				var tty *os.File
				e, tty = newEmulator(t, width)
				post, stop := devOn(t, e, tty, nil, "--shop-delay", delay.String())
				e.wait(t, "Press Ctrl-C to stop.")
				post("three-tool-calls.json")
				post("spending-report.json")
				e.wait(t, "grand total")
				stop()
				e.wait(t, "Everything that was accepted is finished.")
				// On a busy machine, the shop may answer before the caller asks how far it is.
				if e.styled("notify_when_ready, started") != notShown || width < 120 || delay > time.Minute {
					break
				}
			}
			defer func() {
				if t.Failed() {
					t.Logf("the terminal shows:\n%s", e)
				}
			}()
			e.check(t)

			// What Ringback puts around a result is faint, and the result is bold.
			for text, style := range map[string]string{
				"Approved by the shop's": "1", "Somebody is looking": "1", "[async tool result]": "2", "Text between <<<": "2",
				"asked: order_status": "2", "notify_when_ready, started": "1",
			} {
				if got := e.styled(text); got != style && width == 120 {
					t.Errorf("%q has the style %q, want %q", text, got, style)
				}
			}
			// Tool calls of one name have their own labels and colours.
			end := ":"
			if width >= 80 {
				end = "  "
			}
			if a, b := e.styled("order_status"+end), e.styled("order_status 2"+end); a == b || a == "" || b == "" {
				t.Errorf("the styles of two tool calls are %q and %q", a, b)
			}
			for _, program := range []string{"verdict=", "wake", "took=", "{\"results\"", "tool call accepted"} {
				if strings.Contains(e.String(), program) {
					t.Errorf("the terminal shows %s", program)
				}
			}
		})
	}
}

// check checks what holds for each terminal: lines fit, texts stay in their frames, and nothing is repeated. The only
// lines that may be repeated are those that Ringback puts around each result.
func (e *emulator) check(t *testing.T) {
	t.Helper()
	if most, unknown := e.seen(); most != 1 || len(unknown) > 0 {
		t.Errorf("up to %d status lines at a time, unexpected: %q", most, unknown)
	}
	var lines, frame []string // outside of frames, and in the present one
	unique := func(lines []string) {
		for i, line := range lines {
			if line != "" && slices.Contains(lines[:i], line) {
				t.Errorf("repeated: %s", line)
			}
		}
	}
	for _, line := range e.shown() {
		if strings.HasPrefix(line, statusLine) {
			t.Errorf("a status line was left: %s", line)
		}
		if uniseg.StringWidth(line) > e.width && !strings.HasPrefix(line, "  go run ./cmd/ringback call ") {
			t.Errorf("longer than %d: %s", e.width, line)
		}
		switch _, text, framed := strings.Cut(line, "│ "); {
		case framed:
			frame = append(frame, text)
			continue
		case strings.HasPrefix(line, "       ") && len(lines) > 0: // wrapped
			lines[len(lines)-1] += line
		default:
			lines = append(lines, line)
		}
		unique(frame)
		frame = nil
	}
	unique(lines)
}

// TestTerminalIsResized makes a terminal narrower and wider while two tools run.
func TestTerminalIsResized(t *testing.T) {
	t.Parallel()
	answers := make(chan struct{})
	shop := slowshop.Handler(0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-answers
		shop.ServeHTTP(w, r)
	}))
	defer server.Close()
	answer := sync.OnceFunc(func() { close(answers) })
	defer answer()
	e, tty := newEmulator(t, 120)
	post, stop := devOn(t, e, tty, []string{"ORDERS_API_URL=" + server.URL}, "--no-demo")
	e.wait(t, "Ready. Try next:")
	saw := func(pattern string) {
		t.Helper()
		const duration = `(\d+ min )?\d+ s` // a busy machine takes long
		pattern = strings.ReplaceAll(pattern, "DURATION", duration)
		for end := time.Now().Add(patience); !e.sawStatus(pattern); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no status line matched %s; the terminal shows:\n%s", pattern, e)
			}
		}
	}
	// A terminal that is resized after the program has read its width, and before it has written, keeps a part of the
	// status line. No program can prevent that.
	resize := func(width int) {
		t.Helper()
		for end := time.Now().Add(patience); !e.quiet(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the status line changes too often, or not at all; the terminal shows:\n%s", e)
			}
		}
		e.resize(t, width)
	}
	post("three-tool-calls.json")
	saw(`^… order_status has been running for DURATION$`) // so that it is the first one below
	post("tool-calls.json")
	saw(`^… order_status has been running for DURATION, order_status 3 has been running for DURATION$`)
	resize(50)
	saw(`^… order_status DURATION · order_status 3 DURATION$`)
	resize(36)
	saw(`^… order_status DURATION · 1 more$`)
	resize(80)
	answer()
	e.wait(t, "order_status 3 delivered to the call")
	stop()
	e.wait(t, "Everything that was accepted is finished.")
	if most, unknown := e.seen(); most != 1 || len(unknown) > 0 || strings.Contains(e.String(), statusLine) {
		t.Errorf("up to %d status lines at a time, unexpected: %q; the terminal shows:\n%s", most, unknown, e)
	}
}

// TestWatchOverwritesTheStatusLine shows a line while the program that is watched has a status line.
func TestWatchOverwritesTheStatusLine(t *testing.T) {
	e, tty := newEmulator(t, 60)
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	defer func(before bool) { color.NoColor = before }(color.NoColor)
	color.NoColor = false
	watched := console.New(console.On(tty))
	for i, text := range []string{"The code cannot be compiled.", "The run goes on."} {
		watched.Status(console.Plain(fmt.Sprintf("… runs for %d s", i)))
		cli.WatchSays(tty, text)
	}
	watched.Status(console.Plain("… runs for 2 s"))
	e.wait(t, "… runs for 2 s")
	most, _ := e.seen()
	if got := e.String(); got != "The code cannot be compiled.\nThe run goes on.\n… runs for 2 s" || most != 1 {
		t.Errorf("the terminal shows, with up to %d status lines at a time:\n%s", most, got)
	}
}
