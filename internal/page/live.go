package page

import (
	"io"
	"net/http"
	"time"
)

const (
	lookPause  = 200 * time.Millisecond // between two looks at the changes of a local run
	readPause  = 5 * time.Second        // between two reads of a deployment
	quietPause = 15 * time.Second       // after which a connection gets a sign of life
)

// changes tells the browser, as a stream of events, that what it shows may have changed.
func (p *Page) changes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	controller := http.NewResponseController(w)
	send := func(text string) bool {
		_, err := io.WriteString(w, text)
		return err == nil && controller.Flush() == nil
	}
	pause, changed := readPause, func() bool { return true }
	if p.cfg.Local != nil {
		before := p.cfg.Local.Changes()
		pause, changed = lookPause, func() bool {
			now := p.cfg.Local.Changes()
			different := now != before
			before = now
			return different
		}
	}
	look, quiet := time.NewTicker(pause), time.NewTicker(quietPause)
	defer look.Stop()
	defer quiet.Stop()
	const change = "event: change\ndata: \n\n"
	for alive := send("retry: 1000\n" + change); alive; {
		select {
		case <-r.Context().Done():
			return
		case <-p.closing:
			return
		case <-look.C:
			if changed() {
				alive = send(change)
			}
		case <-quiet.C:
			alive = send(":\n\n")
		}
	}
}
