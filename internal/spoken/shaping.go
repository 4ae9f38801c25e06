package spoken

import (
	"slices"
	"unicode"
)

// Some invisible characters change how their neighbours look, and words are wrong without them: joiners in
// Persian, Sinhala and Marathi, variation selectors in Japanese names, both in emoji, and tags in flags. A
// text needs only a few of them in a place. Long runs of them hide text from people, but not from a model.

const (
	// maxJoiners is how many joiners follow one another in a text at most (The Unicode Standard,
	// chapter 9, Arabic).
	maxJoiners = 3

	blackFlag = '\U0001F3F4' // the base of the flags that are written with tags, such as Scotland's
	cancelTag = '\U000E007F' // ends the tags of a flag
)

// isJoiner reports whether r is a zero-width joiner or non-joiner, or the Mongolian vowel separator.
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' || r == '\u180e' }

func isVariation(r rune) bool { return unicode.Is(unicode.Variation_Selector, r) }

func isShaping(r rune) bool { return isJoiner(r) || isVariation(r) }

func isTag(r rune) bool { return 0xE0000 <= r && r <= cancelTag }

// tagged returns the text without tags, except those of flags.
func tagged(text []rune) []rune {
	var kept []rune
	for i := 0; i < len(text); {
		if !isTag(text[i]) {
			kept = append(kept, text[i])
			i++
			continue
		}
		tags := text[i : i+prefix(text[i:], isTag)]
		i += len(tags)
		if len(kept) > 0 && kept[len(kept)-1] == blackFlag && isFlag(tags) {
			kept = append(kept, tags...)
		}
	}
	return kept
}

// isFlag reports whether the tags name a part of a country, such as gbsct (Unicode Technical Standard 51,
// emoji tag sequences).
func isFlag(tags []rune) bool {
	name := tags[:len(tags)-1]
	return tags[len(tags)-1] == cancelTag && 3 <= len(name) && len(name) <= 6 &&
		!slices.ContainsFunc(name, func(r rune) bool {
			letter, digit := 0xE0061 <= r && r <= 0xE007A, 0xE0030 <= r && r <= 0xE0039
			return !letter && !digit
		})
}

// shaped returns the text without the joiners and variation selectors that shape nothing.
func shaped(text []rune) []rune {
	var kept []rune
	for i := 0; i < len(text); {
		if !isShaping(text[i]) {
			kept = append(kept, text[i])
			i++
			continue
		}
		run := text[i : i+prefix(text[i:], isShaping)]
		i += len(run)
		var before, after rune
		if len(kept) > 0 {
			before = kept[len(kept)-1]
		}
		if i < len(text) {
			after = text[i]
		}
		if shapes(before, run, after) {
			kept = append(kept, run...)
		}
	}
	return kept
}

// shapes reports whether a run of joiners and variation selectors belongs between its neighbours, which are 0
// at the ends of a text. A sign of the markers has no shapes, as a marker must not have an imitation.
func shapes(before rune, run []rune, after rune) bool {
	if before == '<' || before == '>' {
		return false
	}
	visible := before != 0 && !unicode.IsSpace(before)
	joiners := run
	if isVariation(run[0]) {
		if !visible || !hasVariations(before, run[0]) {
			return false
		}
		joiners = run[1:]
	} else if !visible && !unicode.In(after, unicode.Letter, unicode.Mark) {
		return false
	}
	return len(joiners) <= maxJoiners && !slices.ContainsFunc(joiners, isVariation)
}

// hasVariations reports whether a character can have a variation. The letters of ASCII have none, and only
// Chinese characters have those of the supplement.
func hasVariations(r, selector rune) bool {
	if selector >= 0xE0100 {
		return unicode.Is(unicode.Han, r)
	}
	return r > unicode.MaxASCII || !unicode.IsLetter(r)
}

// prefix returns how many characters at the start of the text are of a kind.
func prefix(text []rune, kind func(rune) bool) int {
	if n := slices.IndexFunc(text, func(r rune) bool { return !kind(r) }); n >= 0 {
		return n
	}
	return len(text)
}
