package secret

import "strings"

// organisationsLine begins the first line of a text that [WithOrganisations] has made. No JSON begins like
// it.
const organisationsLine = "organisations "

// WithOrganisations returns the text of a secret together with the ids of the organisations that it is
// bound to, for [Organisations]. An id contains no white space.
func WithOrganisations(text string, ids []string) string {
	if len(ids) == 0 {
		return text
	}
	return organisationsLine + strings.Join(ids, " ") + "\n" + text
}

// Organisations returns the text of a secret, and the ids of the organisations that it is bound to. There
// are none if it is bound to none.
func Organisations(text string) (string, []string) {
	line, rest, found := strings.Cut(text, "\n")
	ids, bound := strings.CutPrefix(line, organisationsLine)
	if !found || !bound {
		return text, nil
	}
	return rest, strings.Fields(ids)
}
