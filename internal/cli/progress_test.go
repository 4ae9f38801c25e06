package cli

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/console"
)

func TestProgress(t *testing.T) {
	defer func(was bool) { color.NoColor = was }(color.NoColor)
	color.NoColor = true
	for name, row := range map[string]struct {
		live bool
		want string
	}{
		"on a terminal": {true, "… slow (1 s)\r\x1b[J… slow (2 s)\r\x1b[J"},
		"elsewhere":     {false, "… slow\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out strings.Builder
				on := console.Config{Out: &out, Live: row.live, Width: func() int { return 80 }}
				p := startProgressOn(on)
				p.set("quick")
				time.Sleep(900 * time.Millisecond) // quick steps are not shown
				p.set("slow")
				time.Sleep(2*time.Second + 200*time.Millisecond)
				p.set("")
				time.Sleep(time.Minute)
				p.stop()
				if out.String() != row.want {
					t.Errorf("got  %q\nwant %q", out.String(), row.want)
				}
			})
		})
	}
}
