package console

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fatih/color"
	"github.com/rivo/uniseg"
)

// Text is a part of a line that looks the same throughout.
type Text struct {
	Text  string
	Paint *color.Color // nil means plain
}

// Plain returns a text that is not painted.
func Plain(text string) Text { return Text{Text: text} }

func (t Text) painted(text string) string {
	if t.Paint == nil || text == "" {
		return text
	}
	return t.Paint.Sprint(text)
}

// Clean removes what a text could do to a terminal: control characters except line breaks, other separators of
// lines, and characters that reorder the text.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return -1
		}
		return r
	}, text)
}

// Cells returns how many cells of a terminal a text fills.
func Cells(text string) int { return uniseg.StringWidth(text) }

// Cut shortens a text to so many cells. A shortened text ends in an ellipsis.
func Cut(text string, cells int) string {
	if Cells(text) <= cells {
		return text
	}
	filled, end := 0, 0
	for graphemes := uniseg.NewGraphemes(text); graphemes.Next(); {
		if filled += graphemes.Width(); filled > cells-1 {
			break
		}
		_, end = graphemes.Positions()
	}
	return strings.TrimRight(text[:end], " ") + "…"
}

// cell is a character as a person sees it.
type cell struct {
	text     string
	width    int
	of       int  // the index of its Text
	canBreak bool // a line may end behind it
}

func (c cell) blank() bool { return strings.TrimSpace(c.text) == "" }

func (c cell) lineBreak() bool { return strings.HasSuffix(c.text, "\n") }

// cellsOf splits texts into cells. Words may continue from one text to the next.
func cellsOf(texts []Text) []cell {
	var all strings.Builder
	var ends []int // of each text
	for _, t := range texts {
		all.WriteString(Clean(t.Text))
		ends = append(ends, all.Len())
	}
	var cells []cell
	rest, state, at, of := all.String(), -1, 0, 0
	for rest != "" {
		var cluster string
		var boundaries int
		cluster, rest, boundaries, state = uniseg.StepString(rest, state)
		for at >= ends[of] {
			of++
		}
		at += len(cluster)
		c := cell{text: cluster, width: boundaries >> uniseg.ShiftWidth, of: of}
		if c.canBreak = boundaries&uniseg.MaskLine != uniseg.LineDontBreak; c.canBreak {
			c.canBreak = breaks(cells, c, rest)
		}
		cells = append(cells, c)
	}
	return cells
}

// breaks reports whether a line should end behind c, if Unicode allows it. It should not within a URL or a date, which
// Unicode allows, and not between a number and its unit.
func breaks(before []cell, c cell, after string) bool {
	if !c.blank() {
		return c.text[0] >= utf8.RuneSelf
	}
	next, _ := utf8.DecodeRuneInString(after)
	return len(before) == 0 || !digit(before[len(before)-1].text) || !unicode.IsLetter(next)
}

func digit(text string) bool { return text != "" && '0' <= text[0] && text[0] <= '9' }

// wrap splits texts into lines, at words if it can. The first line has at most first cells, and the others at most
// next. A width of 0 means that only line breaks end a line.
func wrap(texts []Text, first, next int) (lines []string) {
	var line []cell
	filled, breakable := 0, 0 // breakable cells of the line end with a place to break
	add := func(c cell) {
		line, filled = append(line, c), filled+c.width
		if c.canBreak {
			breakable = len(line)
		}
	}
	flush := func(n int) {
		rest := line[n:]
		lines = append(lines, render(texts, line[:n]))
		line, filled, breakable = nil, 0, 0
		for _, c := range rest {
			add(c)
		}
	}
	for _, c := range cellsOf(texts) {
		if c.lineBreak() {
			flush(len(line))
			continue
		}
		width := next
		if len(lines) == 0 {
			width = first
		}
		// A blank at the end of a line is not shown, so it always fits.
		for width > 0 && filled+c.width > width && len(line) > 0 && !c.blank() {
			flush(cmp.Or(breakable, len(line)))
			width = next
		}
		add(c)
	}
	if len(line) > 0 || len(lines) == 0 {
		flush(len(line))
	}
	return lines
}

// render paints the cells of a line, without blanks at its end.
func render(texts []Text, line []cell) string {
	for len(line) > 0 && line[len(line)-1].blank() {
		line = line[:len(line)-1]
	}
	var b strings.Builder
	for i := 0; i < len(line); {
		var part strings.Builder
		of := line[i].of
		for ; i < len(line) && line[i].of == of; i++ {
			part.WriteString(line[i].text)
		}
		b.WriteString(texts[of].painted(part.String()))
	}
	return b.String()
}
