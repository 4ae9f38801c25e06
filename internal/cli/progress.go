package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/console"
)

// progress shows a step that takes more than a second. On a terminal, it shows a status
// line. Elsewhere, it writes one line for each step.
type progress struct {
	console *console.Console

	mu      sync.Mutex
	step    string
	since   time.Time
	written bool // the step has its line; not on a terminal
	ended   chan struct{}
}

// startProgress starts a progress. Call stop to end it and erase its line.
func startProgress(out io.Writer) *progress { return startProgressOn(console.On(out)) }

func startProgressOn(on console.Config) *progress {
	p := &progress{console: console.New(on), ended: make(chan struct{})}
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

var (
	faintColor = color.New(color.Faint)
	faint      = faintColor.SprintFunc()
)

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.since)
	if p.step == "" || took < time.Second {
		return
	}
	text := "… " + p.step
	switch {
	case p.console.Live():
		p.console.Status(console.Text{Text: fmt.Sprintf("%s (%d s)", text, int(took.Seconds())), Paint: faintColor})
	case !p.written:
		p.console.Print(nil, nil, console.Plain(text))
		p.written = true
	}
}

// set sets the current step. Empty means none.
func (p *progress) set(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.console.Status(console.Text{})
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
