package pipeline_test

import (
	"fmt"
	"strings"
)

// chartStyle makes a chart readable on light and dark pages.
const chartStyle = `<style>
text { font: 13px sans-serif; fill: #24292f }
.title { font-weight: bold }
.axis { stroke: #8c959f }
.a { fill: #0969da; stroke: #0969da }
.b { fill: #1a7f37; stroke: #1a7f37 }
.c { fill: #9a6700; stroke: #9a6700 }
.d { fill: #8250df; stroke: #8250df }
polyline { stroke-width: 2.5; fill: none !important }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.axis { stroke: #7d8590 }
.a { fill: #58a6ff; stroke: #58a6ff }
.b { fill: #3fb950; stroke: #3fb950 }
.c { fill: #d29922; stroke: #d29922 }
.d { fill: #bc8cff; stroke: #bc8cff }
}
</style>
`

// svg draws a chart.
type svg struct {
	strings.Builder
	width, height int
}

func newChart(width, height int, title string) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img">`+"\n",
		width, height)
	fmt.Fprintf(s, "<title>%s</title>\n%s", title, chartStyle)
	s.text(10, 20, "start", title, "title")
	return s
}

func (s *svg) text(x, y float64, anchor, text, class string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, text)
}

func (s *svg) bar(x, y, width, height float64, class string) {
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`+"\n",
		x, y, max(width, 1), height, class)
}

func (s *svg) line(x1, y1, x2, y2 float64) {
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="axis"/>`+"\n", x1, y1, x2, y2)
}

func (s *svg) finish() string {
	s.WriteString("</svg>\n")
	return s.String()
}

// costChart shows each bill beside that of the ordinary set-up.
func costChart(compared []comparison) string {
	const left, unit, row = 190, 220, 22
	bars := []struct {
		name, class string
		of          func(comparison) bill
	}{
		{"Ringback, ten in flight", "a", func(c comparison) bill { return c.ten }},
		{"Ringback, alone", "b", func(c comparison) bill { return c.alone }},
		{"ordinary, alone", "c", func(c comparison) bill { return c.others[0][0] }},
		{"Step Functions, alone", "d", func(c comparison) bill { return c.others[1][0] }},
	}
	s := newChart(900, 50+len(compared)*(len(bars)+2)*row,
		"Dollars per million tool calls; bars relative to the ordinary set-up")
	y := 50.0
	for _, c := range compared {
		s.text(10, y+4, "start", c.work+" of work", "title")
		y += row / 2
		for _, b := range bars {
			d := b.of(c).dollars()
			width := d / c.others[0][0].dollars() * unit
			s.bar(left, y, width, row-6, b.class)
			s.text(left-8, y+12, "end", b.name, "")
			s.text(left+width+6, y+12, "start", dollars(d), "")
			y += row
		}
		y += row * 1.5
	}
	return s.finish()
}
