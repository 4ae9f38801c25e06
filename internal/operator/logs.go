package operator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

const (
	// MaxLogLines bounds the lines that [Logs.Read] returns.
	MaxLogLines = 10_000

	// maxLogPages bounds what it reads for them, in pages of one log group. A page has 1 MB at most.
	maxLogPages = 200

	// maxPattern bounds a filter pattern, in bytes (Amazon CloudWatch Logs API reference, FilterLogEvents).
	maxPattern = 1024

	// beforeJob is how long before its record a job may be in the log. The clocks of the functions may differ.
	beforeJob = 5 * time.Minute

	// DefaultLogs is how far back logs are read if no job says since when.
	DefaultLogs = 24 * time.Hour

	// logDelay is how late a line may be in the log.
	logDelay = 30 * time.Second
)

// LogEvent is an event of a log group.
type LogEvent struct {
	ID   string
	At   time.Time
	Text string
}

// LogSource reads log groups.
type LogSource interface {
	// Page returns events since a time that match a filter pattern, and where the next page begins. The first page
	// begins at "", and the last one has no next.
	Page(ctx context.Context, group, pattern string, since time.Time, from string) ([]LogEvent, string, error)
}

// LogTable is implemented by [jobtable.Table].
type LogTable interface {
	Load(ctx context.Context, id string) (job.Record, error)
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
}

// LogsConfig selects the logs of a deployment. All of it is required, except Now.
type LogsConfig struct {
	Table  LogTable
	Calls  CallList
	Source LogSource
	Groups []LogGroup

	Now func() time.Time // nil means time.Now
}

// LogGroup is the log group of a function.
type LogGroup struct{ Function, Name string }

// Logs are what the functions of a deployment have logged.
type Logs struct{ cfg LogsConfig }

// NewLogs returns the logs of a deployment.
func NewLogs(cfg LogsConfig) (*Logs, error) {
	if cfg.Table == nil || cfg.Calls == nil || cfg.Source == nil || len(cfg.Groups) == 0 {
		return nil, errors.New("an operator needs the jobs table and the log groups")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Logs{cfg}, nil
}

// LogQuery selects lines of the logs. Either Call or JobID is required.
type LogQuery struct {
	Call  string // named as in [Jobs.Call]
	JobID string
	Since time.Time // zero means the beginning of the job, or of the call's first one
}

// LogLine is a line of a function's log.
type LogLine struct {
	ID       string
	At       time.Time
	Function string
	Text     string // as it was logged: mostly JSON
}

// LogField is an attribute of a line.
type LogField struct{ Name, Value string }

// hiddenFields are what [LogLine.Parse] returns apart, and what only Lambda needs.
var hiddenFields = []string{"timestamp", "level", "message", "requestId"}

// Parse returns the level, the message and the attributes of a line. The message is the whole text if the line is not
// JSON.
func (l LogLine) Parse() (level, message string, fields []LogField) {
	d := json.NewDecoder(strings.NewReader(l.Text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return "", strings.TrimSpace(l.Text), nil
	}
	for d.More() {
		name, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			return "", strings.TrimSpace(l.Text), nil
		}
		value := text(raw)
		switch name {
		case "level":
			level = value
		case "message":
			message = value
		}
		if !slices.Contains(hiddenFields, name.(string)) {
			fields = append(fields, LogField{name.(string), value})
		}
	}
	return level, message, fields
}

// text returns a JSON text without its quotes, and every other value as it is.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var line bytes.Buffer
	if json.Compact(&line, raw) != nil {
		return string(raw)
	}
	return line.String()
}

// ErrNoLogQuery means that a query names neither a call nor a job, or both.
var ErrNoLogQuery = errors.New("select either a call or a job")

// Read returns the lines of a call and its jobs, or of a job, in the order of their times, and whether these are all.
func (l *Logs) Read(ctx context.Context, q LogQuery) (lines []LogLine, all bool, err error) {
	terms, since, err := l.terms(ctx, q)
	if err != nil {
		return nil, false, err
	}
	if !q.Since.IsZero() {
		since = q.Since
	}
	all = true
	seen := map[string]bool{}
	for _, group := range l.cfg.Groups {
		for _, pattern := range patterns(terms) {
			from := ""
			for page := 0; ; page++ {
				if page == maxLogPages || len(lines) >= MaxLogLines {
					all = false
					break
				}
				events, next, err := l.cfg.Source.Page(ctx, group.Name, pattern, since, from)
				if err != nil {
					return nil, false, err
				}
				for _, e := range events {
					id := group.Name + " " + e.ID
					if seen[id] || !slices.ContainsFunc(terms, func(term string) bool { return strings.Contains(e.Text, term) }) {
						continue
					}
					seen[id] = true
					lines = append(lines, LogLine{ID: id, At: e.At, Function: group.Function, Text: e.Text})
				}
				if from = next; next == "" {
					break
				}
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b LogLine) int { return a.At.Compare(b.At) })
	if len(lines) > MaxLogLines {
		lines = lines[:MaxLogLines]
	}
	return lines, all, nil
}

// terms returns the texts of which a line must contain one, and since when.
func (l *Logs) terms(ctx context.Context, q LogQuery) (terms []string, since time.Time, err error) {
	since = l.cfg.Now().Add(-DefaultLogs)
	switch {
	case (q.Call == "") == (q.JobID == ""):
		return nil, since, ErrNoLogQuery
	case q.JobID != "":
		r, err := l.cfg.Table.Load(ctx, q.JobID)
		switch {
		case err == nil:
			since = r.Created.Add(-beforeJob)
		case !errors.Is(err, jobtable.ErrNotFound) && !errors.Is(err, job.ErrUnreadable):
			return nil, since, err
		}
		return []string{job.ShownID(q.JobID)}, since, nil
	}
	callID, err := callIDOf(ctx, l.cfg.Calls, l.cfg.Now(), q.Call)
	if errors.Is(err, jobtable.ErrNotFound) {
		return []string{q.Call}, since, nil // the log may have a call that is not listed
	}
	if err != nil {
		return nil, since, err
	}
	jobs, err := l.cfg.Table.OfCall(ctx, callID)
	terms = []string{job.CallHash(callID)}
	for i, s := range jobs {
		if first := s.Created.Add(-beforeJob); i == 0 || first.Before(since) {
			since = first
		}
		terms = append(terms, job.ShownID(s.ID))
	}
	return terms, since, err
}

// patterns returns filter patterns that together match the lines with one of the terms.
func patterns(terms []string) []string {
	var all []string
	pattern := ""
	for _, term := range terms {
		// A quote would end the term. The lines are compared with the terms once more.
		one := ` ?"` + strings.NewReplacer(`"`, "", `\`, "").Replace(term) + `"`
		if pattern != "" && len(pattern)+len(one) > maxPattern {
			all, pattern = append(all, strings.TrimSpace(pattern)), ""
		}
		pattern += one
	}
	return append(all, strings.TrimSpace(pattern))
}

// Follow calls show with the lines of [Logs.Read], and then with each new one, until ctx ends or show fails. It looks
// for new lines every so often.
func (l *Logs) Follow(
	ctx context.Context, q LogQuery, every time.Duration, show func(lines []LogLine, all bool) error,
) error {
	seen := map[string]time.Time{}
	for {
		started := l.cfg.Now()
		lines, all, err := l.Read(ctx, q)
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		lines = slices.DeleteFunc(lines, func(line LogLine) bool { _, shown := seen[line.ID]; return shown })
		if err := show(lines, all); err != nil {
			return err
		}
		for _, line := range lines {
			seen[line.ID] = line.At
		}
		// A line may be late, and one that was shown is not read again.
		q.Since = started.Add(-logDelay)
		for id, at := range seen {
			if at.Before(q.Since) {
				delete(seen, id)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(every):
		}
	}
}
