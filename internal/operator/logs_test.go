package operator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/operator"
)

// logs are log groups. A page has two events, and matches no pattern, as those of some emulators.
type logs struct {
	mu       sync.Mutex
	events   map[string][]operator.LogEvent // by group
	patterns []string
	since    []time.Time
	err      error
}

func (l *logs) Page(
	_ context.Context, group, pattern string, since time.Time, from string,
) ([]operator.LogEvent, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from == "" {
		l.patterns, l.since = append(l.patterns, pattern), append(l.since, since)
	}
	at := 0
	fmt.Sscan(from, &at)
	var found []operator.LogEvent
	for i, e := range l.events[group][at:] {
		if len(found) == 2 {
			return found, fmt.Sprint(at + i), l.err
		}
		if !e.At.Before(since) {
			found = append(found, e)
		}
	}
	return found, "", l.err
}

func (l *logs) add(group string, at time.Time, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := fmt.Sprint(len(l.events[group]))
	l.events[group] = append(l.events[group], operator.LogEvent{ID: id, At: at, Text: text})
}

func (w *world) logs(t *testing.T, source operator.LogSource) *operator.Logs {
	t.Helper()
	l, err := operator.NewLogs(operator.LogsConfig{
		Table: w.table, Calls: w.store, Source: source, Now: func() time.Time { return w.now },
		Groups: []operator.LogGroup{{Function: "ack", Name: "group/a"}, {Function: "process", Name: "group/p"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLogs reads the lines of a call, and of its job, from two groups.
func TestLogs(t *testing.T) {
	w := newWorld(t)
	began := w.now
	w.live(t, "c1")
	w.now = began
	w.claim(t, "c1", "a") // an id that contains the call's
	hash := job.CallHash("c1")
	w.now = w.now.Add(48 * time.Hour)
	source := &logs{events: map[string][]operator.LogEvent{}}
	for i := range 5 {
		source.add("group/a", began.Add(time.Duration(i)*time.Minute), `{"message":"other","call":"x"}`)
	}
	source.add("group/a", began.Add(2*time.Second), `{"message":"1","call":"`+hash+`"}`)
	source.add("group/p", began.Add(3*time.Second), `{"message":"2","job":"`+hash+`/a"}`)
	source.add("group/p", began.Add(time.Second), `{"message":"0","call":"`+hash+`"}`)
	source.add("group/p", began.Add(-time.Hour), `{"message":"too early","call":"`+hash+`"}`)
	unlisted := job.CallHash("c4") // its webhook was logged, and it has no job
	source.add("group/p", w.now.Add(-time.Hour), `{"message":"9","call":"`+unlisted+`"}`)
	for name, row := range map[string]struct {
		query operator.LogQuery
		want  string
		since time.Time
	}{
		"call": {operator.LogQuery{Call: "c1"}, "0 1 2", began.Add(-5 * time.Minute)},
		"name": {operator.LogQuery{Call: hash}, "0 1 2", began.Add(-5 * time.Minute)},
		"job":  {operator.LogQuery{JobID: "c1/a"}, "2", began.Add(-5 * time.Minute)},
		"call, since": {
			operator.LogQuery{Call: "c1", Since: began.Add(2 * time.Second)}, "1 2", began.Add(2 * time.Second),
		},
		"unknown job":    {operator.LogQuery{JobID: "j_x"}, "", w.now.Add(-24 * time.Hour)},
		"unknown call":   {operator.LogQuery{Call: "c2"}, "", w.now.Add(-24 * time.Hour)},
		"unlisted name":  {operator.LogQuery{Call: unlisted}, "9", w.now.Add(-24 * time.Hour)},
		"a job's quotes": {operator.LogQuery{JobID: `"x\`}, "", w.now.Add(-24 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			source.patterns, source.since = nil, nil
			lines, all, err := w.logs(t, source).Read(t.Context(), row.query)
			var got []string
			for _, l := range lines {
				_, message, _ := l.Parse()
				got = append(got, message)
				if want := map[bool]string{true: "ack", false: "process"}[message == "1"]; l.Function != want {
					t.Errorf("%s is of %s", message, l.Function)
				}
			}
			if err != nil || !all || strings.Join(got, " ") != row.want {
				t.Errorf("%q, all: %t, %v", got, all, err)
			}
			for i, pattern := range source.patterns {
				if !source.since[i].Equal(row.since) || strings.Contains(pattern, "c1") || strings.Count(pattern, `"`)%2 != 0 {
					t.Errorf("asked for %s since %s", pattern, source.since[i])
				}
			}
		})
	}
	for _, query := range []operator.LogQuery{{}, {Call: "c1", JobID: "c1/a"}} {
		if _, _, err := w.logs(t, source).Read(t.Context(), query); !errors.Is(err, operator.ErrNoLogQuery) {
			t.Errorf("%v", err)
		}
	}
	source.err = errors.New("denied")
	if _, _, err := w.logs(t, source).Read(t.Context(), operator.LogQuery{JobID: "c1/a"}); !errors.Is(err, source.err) {
		t.Errorf("%v", err)
	}
}

// TestLogsOfManyJobs splits the patterns, which CloudWatch Logs limits.
func TestLogsOfManyJobs(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.claim(t, "c1", fmt.Sprintf("call_%d", i))
	}
	source := &logs{events: map[string][]operator.LogEvent{}}
	for i := range 60 {
		source.add("group/p", w.now, fmt.Sprintf(`{"job":"%[1]s/call_%[2]d","call":"%[1]s"}`, job.CallHash("c1"), i))
	}
	lines, all, err := w.logs(t, source).Read(t.Context(), operator.LogQuery{Call: "c1"})
	if err != nil || !all || len(lines) != 60 {
		t.Errorf("%d lines, all: %t, %v", len(lines), all, err)
	}
	if len(source.patterns) < 4 || slices.ContainsFunc(source.patterns, func(p string) bool { return len(p) > 1024 }) {
		t.Errorf("%q", source.patterns)
	}
}

// TestLogsAreBounded reads a log with more lines than a command prints.
func TestLogsAreBounded(t *testing.T) {
	w := newWorld(t)
	source := &logs{events: map[string][]operator.LogEvent{}}
	for range operator.MaxLogLines + 10 {
		source.add("group/a", w.now, "j_x")
	}
	lines, all, err := w.logs(t, source).Read(t.Context(), operator.LogQuery{JobID: "j_x"})
	if err != nil || all || len(lines) == 0 || len(lines) > operator.MaxLogLines {
		t.Errorf("%d lines, all: %t, %v", len(lines), all, err)
	}
}

// TestFollowLogs shows each line once, also one that is late.
func TestFollowLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &logs{events: map[string][]operator.LogEvent{}}
		l, err := operator.NewLogs(operator.LogsConfig{
			Table: jobtable.New(new(memtable.Store)), Calls: new(memtable.Store), Source: source,
			Groups: []operator.LogGroup{{Function: "ack", Name: "g"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var got []string
		done := make(chan error)
		go func() {
			query := operator.LogQuery{JobID: "j_x"}
			done <- l.Follow(ctx, query, 3*time.Second, func(lines []operator.LogLine, _ bool) error {
				for _, line := range lines {
					got = append(got, line.Text)
				}
				return nil
			})
		}()
		for i := range 5 {
			source.add("g", time.Now().Add(-20*time.Second), fmt.Sprint("j_x ", i))
			time.Sleep(10 * time.Second)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if strings.Join(got, ", ") != "j_x 0, j_x 1, j_x 2, j_x 3, j_x 4" {
			t.Errorf("%q", got)
		}
	})
}

func TestParseLogLine(t *testing.T) {
	for text, want := range map[string]string{
		`{"timestamp":"2026","level":"INFO","message":"a \"b\"","job":"j","requestId":"r","took_ms":12,"x":{"y": [1]}}`: `` +
			`INFO|a "b"|[{job j} {took_ms 12} {x {"y":[1]}}]`,
		"RequestId: x Error: Runtime exited\n": "|RequestId: x Error: Runtime exited|[]",
		`{"message":`:                          `|{"message":|[]`,
		"":                                     "||[]",
	} {
		level, message, fields := operator.LogLine{Text: text}.Parse()
		if got := fmt.Sprint(level, "|", message, "|", fields); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
