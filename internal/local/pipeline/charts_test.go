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

// costChart shows the bills of all set-ups, for ordinary tool calls, and for those that take ten minutes and need no
// function meanwhile. Bars of the same work have the same scale.
func costChart(compared []comparison) string {
	const left, unit, row = 250, 520, 22
	var shown []comparison
	for _, c := range compared {
		idle := c.kind == "suspended meanwhile" || c.kind == "completed by an external system"
		if c.kind == workKinds[0].name || idle && c.work == "10 min" {
			shown = append(shown, c)
		}
	}
	s := newChart(900, 46+len(shown)*(len(loads)*len(setUps)*row+row*5/2),
		"Dollars per million tool calls; bars of the same work have the same scale")
	y := 50.0
	for _, c := range shown {
		s.text(10, y+4, "start", fmt.Sprintf("%s, %s of work", c.kind, c.work), "title")
		y += row / 2
		largest := 0.0
		for _, bills := range c.bills {
			largest = max(largest, bills[0].dollars(), bills[1].dollars())
		}
		for load, loaded := range loads {
			for i, name := range setUps {
				d := c.bills[i][load].dollars()
				s.bar(left, y, d/largest*unit, row-6, string(rune('a'+i)))
				s.text(left-8, y+12, "end", name+", "+loaded, "")
				s.text(left+d/largest*unit+6, y+12, "start", dollars(d), "")
				y += row
			}
			y += row / 4
		}
		y += row * 1.5
	}
	return s.finish()
}
