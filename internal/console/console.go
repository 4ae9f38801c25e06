// Package console writes to a terminal: lines that wrap at words, and one status line below them.
package console

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/fatih/color"
	"github.com/mattn/go-isatty"
	"golang.org/x/term"
)

// minText is the width that a text has at least, whatever stands in front of it. On a terminal that is too narrow
// for it, the terminal itself wraps the lines.
const minText = 12

// Console is an output with a status line. Everything that is written to the output must be written through it. Its
// methods may be called concurrently.
type Console struct {
	out   io.Writer
	width func() int
	live  bool

	mu         sync.Mutex
	drawn      string // the status line that is shown
	drawnWidth int    // the width of the terminal when it was drawn
}

// Config configures a [Console].
type Config struct {
	Out io.Writer

	// Width returns the width of the terminal, in cells. It is called for each line, because the terminal may be
	// resized. 0 means unknown: lines do not wrap, and there is no status line. Nil means always 0.
	Width func() int

	// Live means that Out obeys control sequences. Without it, there is no status line.
	Live bool
}

// New returns a console.
func New(cfg Config) *Console {
	if cfg.Width == nil {
		cfg.Width = func() int { return 0 }
	}
	return &Console{out: cfg.Out, width: cfg.Width, live: cfg.Live}
}

// On returns the configuration for an output. Only a terminal has a width. It is live unless NO_COLOR is set, or
// TERM is dumb.
func On(out io.Writer) Config {
	f, ok := out.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return Config{Out: out}
	}
	return Config{Out: out, Live: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && !color.NoColor,
		Width: func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 0
			}
			return width
		}}
}

// Width returns the present width of the terminal. 0 means unknown.
func (c *Console) Width() int { return c.width() }

// Live reports whether the console shows a status line.
func (c *Console) Live() bool { return c.live && c.width() > 0 }

// Print writes texts that wrap at words. first stands in front of the first line, and next in front of the others.
func (c *Console) Print(first, next []Text, texts ...Text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	width := c.width()
	var b strings.Builder
	c.erase(&b, width)
	widths := [2]int{}
	for i, front := range [][]Text{first, next} {
		if width > 0 {
			widths[i] = max(width-cellsIn(front), minText)
		}
	}
	front := first
	for _, line := range wrap(texts, widths[0], widths[1]) {
		b.WriteString(join(front) + line + "\n")
		front = next
	}
	io.WriteString(c.out, b.String())
}

func join(texts []Text) string {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString(t.painted(Clean(t.Text)))
	}
	return b.String()
}

func cellsIn(texts []Text) (n int) {
	for _, t := range texts {
		n += Cells(Clean(t.Text))
	}
	return n
}

// Write writes lines as they are, such as a command that a person copies.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	c.erase(&b, c.width())
	b.Write(p)
	_, err := io.WriteString(c.out, b.String())
	return len(p), err
}

// Status shows a text below the lines, in place of the one before. A text that is too long for the terminal is cut.
// An empty text removes the status line.
func (c *Console) Status(text Text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	width := c.width()
	if !c.live || width <= 0 {
		return
	}
	// A text in the last column may wrap on some terminals.
	shown := Cut(strings.ReplaceAll(Clean(text.Text), "\n", " "), width-1)
	if shown == c.drawn && width == c.drawnWidth {
		return
	}
	var b strings.Builder
	c.erase(&b, width)
	b.WriteString(text.painted(shown))
	c.drawn, c.drawnWidth = shown, width
	io.WriteString(c.out, b.String())
}

// erase removes the status line. If the terminal has become narrower, it has wrapped the status line, as most
// terminals do. If it becomes narrower between the call of width and the write, a part of the status line stays.
func (c *Console) erase(b *strings.Builder, width int) {
	if c.drawn == "" {
		return
	}
	if rows := (Cells(c.drawn) - 1) / max(width, 1); width > 0 && rows > 0 {
		fmt.Fprintf(b, "\x1b[%dA", rows)
	}
	b.WriteString("\r\x1b[J")
	c.drawn = ""
}
