package console_test

import (
	"strings"
	"testing"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/console"
)

// painted makes colours visible in tests.
func painted(t *testing.T) (bold, faint *color.Color) {
	t.Helper()
	was := color.NoColor
	color.NoColor = false
	t.Cleanup(func() { color.NoColor = was })
	return color.New(color.Bold), color.New(color.Faint)
}

func TestPrint(t *testing.T) {
	for name, row := range map[string]struct {
		width       int
		first, next string
		text        string
		want        string
	}{
		"unknown width": {0, "> ", "  ", strings.Repeat("word ", 40), "> " + strings.Repeat("word ", 39) + "word\n"},
		"words":         {20, "", "", "The order is out for delivery.", "The order is out for\ndelivery.\n"},
		"first is longer": {20, "label: ", "  ", "The order is out for delivery.",
			"label: The order is\n  out for delivery.\n"},
		"in a frame":        {20, "│ ", "│ ", "The order is out for delivery.", "│ The order is out\n│ for delivery.\n"},
		"line breaks":       {20, "│ ", "│ ", "a\n\nb", "│ a\n│ \n│ b\n"},
		"exact":             {20, "", "", "12345678901234567890", "12345678901234567890\n"},
		"a long word":       {20, "", "", "see 123456789012345678901234567890", "see\n12345678901234567890\n1234567890\n"},
		"a number's unit":   {20, "", "", "it took a while: 5 s", "it took a while: 5 s\n"},
		"a unit that wraps": {20, "", "", "it took long, so: 15 s", "it took long, so:\n15 s\n"},
		"a date and a URL": {20, "", "", "until 2026-11-27, at http://x.example/y",
			"until 2026-11-27, at\nhttp://x.example/y\n"},
		"wide characters":     {20, "", "", "注文した商品は配達中です。", "注文した商品は配達中\nです。\n"},
		"a family":            {14, "", "", "1234567890ab👨‍👩‍👧‍👦cd", "1234567890ab👨‍👩‍👧‍👦\ncd\n"},
		"combined characters": {14, "", "", strings.Repeat("e\u0301", 15), strings.Repeat("e\u0301", 14) + "\ne\u0301\n"},
		"too narrow":          {5, "0.0s ", "     ", "The order is out.", "0.0s The order is\n     out.\n"},
		"control characters":  {40, "\x1b[2J> ", "", "a\x1b]0;title\a\u202eb\u009b31m", "[2J> a]0;titleb31m\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			c := console.New(console.Config{Out: &out, Width: func() int { return row.width }})
			c.Print([]console.Text{console.Plain(row.first)}, []console.Text{console.Plain(row.next)},
				console.Plain(row.text))
			if out.String() != row.want {
				t.Errorf("got\n%q\nwant\n%q", out.String(), row.want)
			}
		})
	}
}

// TestPaint wraps a word that has two colours, and a colour that goes on in the next line.
func TestPaint(t *testing.T) {
	bold, faint := painted(t)
	var out strings.Builder
	c := console.New(console.Config{Out: &out, Width: func() int { return 12 }})
	c.Print(nil, nil, console.Text{Text: "one two thr", Paint: bold}, console.Text{Text: "ee four", Paint: faint})
	want := bold.Sprint("one two") + "\n" + bold.Sprint("thr") + faint.Sprint("ee four") + "\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestStatus(t *testing.T) {
	var out strings.Builder
	width := 20
	c := console.New(console.Config{Out: &out, Live: true, Width: func() int { return width }})
	step := func(do func(), want string) {
		t.Helper()
		out.Reset()
		if do(); out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
	status := func(text string) func() { return func() { c.Status(console.Plain(text)) } }
	line := func(text string) func() { return func() { c.Print(nil, nil, console.Plain(text)) } }
	step(status("working for 1 s"), "working for 1 s")
	step(status("working for 1 s"), "") // nothing has changed
	step(status("working for 2 s"), "\r\x1b[Jworking for 2 s")
	step(line("done"), "\r\x1b[Jdone\n")
	step(line("again"), "again\n")
	step(status("12345678901234567890"), "123456789012345678…") // the last column stays free
	// The terminal wraps what it shows when it becomes narrower.
	width = 10
	step(status("12345678901234567890"), "\x1b[1A\r\x1b[J12345678…")
	width = 40
	step(status("12345678901234567890"), "\r\x1b[J12345678901234567890")
	step(func() { c.Write([]byte("  a command\n")) }, "\r\x1b[J  a command\n")
	step(status(""), "")
	step(status("注文した商品は配達中ですから待ってください"), "注文した商品は配達中ですから待ってくだ…")
	step(status(""), "\r\x1b[J")
}

// TestNoStatus checks the outputs that have no status line.
func TestNoStatus(t *testing.T) {
	for name, cfg := range map[string]console.Config{
		"not a terminal":     {Live: true},
		"no control allowed": {Width: func() int { return 80 }},
	} {
		var out strings.Builder
		cfg.Out = &out
		c := console.New(cfg)
		c.Status(console.Plain("working"))
		c.Print(nil, nil, console.Plain("done"))
		if out.String() != "done\n" || c.Live() {
			t.Errorf("%s: %q", name, out.String())
		}
	}
	if on := console.On(new(strings.Builder)); on.Live || on.Width != nil {
		t.Errorf("%+v", on)
	}
}
