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

// progress shows what is being done where that takes more than a second: on a
// terminal in a line that is drawn over, elsewhere in a line for each thing.
type progress struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	what  string
	since time.Time
	said  bool // what has its line, where lines stay
	drawn bool // the last line is to be drawn over
	ended chan struct{}
}

// startProgress begins. stop ends it, and leaves no line that is drawn over.
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
	if p.what == "" || took < time.Second {
		return
	}
	switch {
	case p.live:
		fmt.Fprintf(p.out, "\r\x1b[K%s", faint(fmt.Sprintf("… %s (%d s)", p.what, int(took.Seconds()))))
		p.drawn = true
	case !p.said:
		fmt.Fprintf(p.out, "… %s\n", p.what)
		p.said = true
	}
}

// set says what is being done now. Empty: nothing.
func (p *progress) set(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.what, p.since, p.said = what, time.Now(), false
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
