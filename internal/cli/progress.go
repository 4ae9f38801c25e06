package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/fatih/color"
	"github.com/mattn/go-isatty"
)

// progress shows a step that takes more than a second. On a terminal, it redraws one
// line. Elsewhere, it writes one line for each step.
type progress struct {
	out  io.Writer
	live bool

	mu      sync.Mutex
	step    string
	since   time.Time
	written bool // the step has its line; not on a terminal
	drawn   bool // the last line must be erased
	ended   chan struct{}
}

// startProgress starts a progress. Call stop to end it and erase its line.
func startProgress(out io.Writer) *progress {
	p := &progress{out: out, ended: make(chan struct{})}
	if f, ok := out.(*os.File); ok {
		p.live = isatty.IsTerminal(f.Fd())
	}
	go func() {
		tick := time.NewTicker(time.Second / 4)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.ended:
				return
			}
		}
	}()
	return p
}

var faint = color.New(color.Faint).SprintFunc()

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.since)
	if p.step == "" || took < time.Second {
		return
	}
	switch {
	case p.live:
		fmt.Fprintf(p.out, "\r\x1b[K%s", faint(fmt.Sprintf("… %s (%d s)", p.step, int(took.Seconds()))))
		p.drawn = true
	case !p.written:
		fmt.Fprintf(p.out, "… %s\n", p.step)
		p.written = true
	}
}

// set sets the current step. Empty means none.
func (p *progress) set(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.step, p.since, p.written = step, time.Now(), false
}

// update changes the text of the current step.
func (p *progress) update(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

func (p *progress) stop() {
	p.set("")
	close(p.ended)
}

func (p *progress) erase() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
