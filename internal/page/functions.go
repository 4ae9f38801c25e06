package page

import (
	"html/template"
	"net/url"
	"time"
)

// functions are what the templates use.
func (p *Page) functions() template.FuncMap {
	return template.FuncMap{
		"clock": clock,
		"day":   func(t time.Time) string { return day(t, p.cfg.Now()) },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"ago":   func(t time.Time) string { return span(p.cfg.Now().Sub(t).Truncate(time.Second)) },
		"short": shortID,
		"mask":  masked,
		"after": afterCallWord,
		"path":  func(prefix, id string) string { return (&url.URL{Path: prefix + id}).String() },
		"json":  func(choice string) string { return field{Kind: fieldText}.text([]byte(choice)) },
	}
}
