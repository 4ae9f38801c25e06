package process_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// line is a progress line as it was sent.
type line struct {
	At       time.Duration
	Sequence int
	Text     string
	Delivery policy.Delivery
}

func (w *world) lines() []line {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	var lines []line
	for i, o := range w.out.sent {
		if o.Kind == job.KindProgress {
			lines = append(lines, line{w.out.at[i], o.Sequence, o.Result.Content, o.Result.Delivery})
		}
	}
	return lines
}

func (w *world) wantLines(want ...line) {
	w.t.Helper()
	if diff := gocmp.Diff(want, w.lines()); diff != "" {
		w.t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestProgress(t *testing.T) {
	at := func(seconds int, sequence int, text string) line {
		return line{time.Duration(seconds) * time.Second, sequence, text, policy.DeliverySay}
	}
	sleep := func(seconds int) { time.Sleep(time.Duration(seconds) * time.Second) }
	// lines returns a tool that sends lines, each with a pause after it.
	lines := func(pause int, texts ...string) func(context.Context, asynctool.Call) asynctool.Result {
		return func(ctx context.Context, call asynctool.Call) asynctool.Result {
			for _, text := range texts {
				call.Progress(ctx, text)
				sleep(pause)
			}
			return asynctool.Text("Done.")
		}
	}
	tests := map[string]struct {
		chat  bool
		tool  func(ctx context.Context, call asynctool.Call) asynctool.Result
		fault string // a step that fails once
		want  []line
		last  string // the record's last line
		fails bool
	}{
		"one after the other": {
			tool: lines(6, "line 0", "line 1", "line 2"),
			want: []line{at(0, 1, "line 0"), at(6, 2, "line 1"), at(12, 3, "line 2")}, last: "line 2",
		},
		"silent": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Note(ctx, "a note")
			sleep(6)
			return lines(1, "a line")(ctx, call)
		}, want: []line{{0, 1, "a note", policy.DeliverySilent}, at(6, 2, "a line")}, last: "a line"},
		"a secret": {tool: lines(1, said), want: []line{at(0, 1, said)}, last: said},
		"no text":  {tool: lines(1, "")},
		"long": {
			tool: lines(1, strings.Repeat("x", 100<<10)),
			want: []line{at(0, 1, strings.Repeat("x", 1000)+"…")}, last: strings.Repeat("x", 1000) + "…",
		},
		"too fast": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			defer sleep(10)
			return lines(1, "line 0", "line 1", "line 2", "line 3", "line 4")(ctx, call)
		}, want: []line{at(0, 1, "line 0"), at(5, 2, "line 4")}, last: "line 4"},
		"too fast, and then done": {
			tool: lines(1, "line 0", "line 1"), want: []line{at(0, 1, "line 0")}, last: "line 0",
		},
		"before it is suspended": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes > 0 {
				return asynctool.Text("Done.")
			}
			lines(6, "line 0")(ctx, call)
			call.Progress(ctx, "line 1")
			return asynctool.ResumeIn(time.Minute, nil)
		}, want: []line{at(0, 1, "line 0"), at(6, 2, "line 1")}, last: "line 1"},
		"too soon before it is suspended": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes > 0 {
				return lines(1, "line 2")(ctx, call)
			}
			lines(1, "line 0")(ctx, call)
			call.Progress(ctx, "line 1")
			return asynctool.ResumeIn(time.Minute, nil)
		}, want: []line{at(0, 1, "line 0"), at(61, 2, "line 2")}, last: "line 2"},
		"soon after its wake-up": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes > 0 {
				return lines(10, "line 1")(ctx, call)
			}
			call.Progress(ctx, "line 0")
			return asynctool.ResumeIn(2*time.Second, nil)
		}, want: []line{at(0, 1, "line 0"), at(5, 2, "line 1")}, last: "line 1"},
		"each time before it is suspended": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes == 20 {
				return asynctool.Text("Done.")
			}
			call.Progress(ctx, "a line")
			return asynctool.ResumeIn(5*time.Second, nil)
		}, want: func() (lines []line) {
			for i := range 20 {
				lines = append(lines, at(5*i, i+1, "a line"))
			}
			return lines
		}(), last: "a line"},
		"after it is done": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			go func() {
				for range 20 {
					sleep(1)
					call.Progress(ctx, "too late")
				}
			}()
			return asynctool.Text("Done.")
		}},
		"too late": {tool: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			sleep(60)
			return lines(0, "too late")(ctx, call)
		}, fails: true},
		"a chat": {chat: true, tool: lines(6, "line 0", "line 1"), last: "line 1"},
		"the table is down": {
			fault: "add progress to", tool: lines(1, "line 0", "line 1"),
			want: []line{at(1, 1, "line 1")}, last: "line 1",
		},
		"the queue is down": {
			fault: "send line", tool: lines(6, "line 0", "line 1"),
			want: []line{at(6, 2, "line 1")}, last: "line 1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Timeout: 30 * time.Second, Deadline: time.Hour},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					return tt.tool(ctx, call), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				if tt.fault != "" {
					w.failingTimes(tt.fault, 1)
				}
				j := w.job("t1", "tool")
				if tt.chat {
					j.Call.Type, j.Call.ControlURL = "chat", ""
				}
				w.send(j)
				w.run(2 * time.Minute)
				time.Sleep(time.Hour) // an abandoned tool ends
				w.wantLines(tt.want...)
				if last := w.out.sent[len(w.out.sent)-1]; last.Kind != job.KindFinal {
					t.Errorf("%q came after the result", last.Result.Content)
				}
				if tt.fails {
					return
				}
				w.want(done, 0, 0)
				r := w.record(j)
				if (r.Progress == nil) != (tt.last == "") || r.Progress != nil && r.Progress.Text != tt.last {
					t.Errorf("the record has %+v", r.Progress)
				}
			})
		})
	}
}

// TestLinesOnTheirWay uses a queue that is so slow that a line is still on its way when the tool
// suspends its job. The line is sent first.
func TestLinesOnTheirWay(t *testing.T) {
	const runs = 10
	var want []string
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		progress := func(text string) {
			want = append(want, text)
			call.Progress(ctx, text)
		}
		for i := range 2 {
			progress(fmt.Sprintf("line %d of run %d", i, call.Resumes))
			time.Sleep(5500 * time.Millisecond)
		}
		progress("the last")
		if call.Resumes == runs {
			time.Sleep(time.Minute)
			return asynctool.Text("Done."), nil
		}
		return asynctool.ResumeIn(time.Minute, nil), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.out.takes = 1900 * time.Millisecond
		w.send(w.job("t1", "tool"))
		w.run(time.Hour)
		w.want(done, 0, 0)
		var got []string
		for _, l := range w.lines() {
			got = append(got, l.Text)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

// TestManyLines runs a tool that sends thousands of lines, from many goroutines.
func TestManyLines(t *testing.T) {
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		sent := make(chan struct{})
		for g := range 10 {
			go func() {
				for i := range 500 {
					call.Progress(ctx, fmt.Sprintf("line %d of %d", i, g))
				}
				sent <- struct{}{}
			}()
		}
		for range 10 {
			<-sent
		}
		call.Progress(ctx, "the last line")
		time.Sleep(20 * time.Second)
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		w.want(done, 0, 0)
		// The first one that is seen, and the last one after a pause.
		lines := w.lines()
		if len(lines) > 2 || lines[len(lines)-1].Text != "the last line" || len(lines) == 2 && lines[1].At != 5*time.Second {
			t.Errorf("%d lines: %v", len(lines), lines)
		}
	})
}

// TestProgressOfAnEndedJob checks that no line of a job is sent once others have ended it.
func TestProgressOfAnEndedJob(t *testing.T) {
	cancelled := fails("It was cancelled.")
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		for i := 0; ctx.Err() == nil; i++ {
			call.Progress(ctx, fmt.Sprint("line ", i))
			time.Sleep(time.Second)
		}
		return asynctool.Result{}, ctx.Err()
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		time.AfterFunc(7500*time.Millisecond, func() {
			w.change(j, job.Cancel(time.Now(), cancelled[0], "by the operator"))
		})
		w.send(j)
		w.run(time.Minute)
		w.want(cancelled, 0, 0)
		if lines := w.lines(); len(lines) != 2 || lines[1].At != 5*time.Second {
			t.Errorf("lines: %v", lines)
		}
	})
}

// TestHold checks when the hold message is sent.
func TestHold(t *testing.T) {
	const text = "This takes a moment."
	tests := map[string]struct {
		after     time.Duration
		age       time.Duration // of the tool call
		takes     time.Duration
		chat      bool
		down      bool // the queue refuses it
		delay     time.Duration
		sent      bool
		delivered bool
		fails     int // attempts that do
		resumes   int
	}{
		"quick": {after: 20 * time.Second, takes: 10 * time.Second, sent: true, delay: 20 * time.Second},
		"slow": {
			after: 20 * time.Second, takes: 30 * time.Second, sent: true, delay: 20 * time.Second, delivered: true,
		},
		"the call is older": {
			after: 20 * time.Second, age: 15 * time.Second, takes: 10 * time.Second,
			sent: true, delay: 5 * time.Second, delivered: true,
		},
		"the call is too old": {
			after: 20 * time.Second, age: time.Minute, takes: 10 * time.Second, sent: true, delivered: true,
		},
		"the call is of the future": {
			after: 15 * time.Minute, age: -time.Second, takes: 10 * time.Second, sent: true, delay: 15 * time.Minute,
		},
		"a chat":            {after: 20 * time.Second, takes: time.Minute, chat: true},
		"the queue is down": {after: 20 * time.Second, takes: time.Minute, down: true},
		"a second attempt": {
			after: 20 * time.Second, takes: 15 * time.Second, fails: 1,
			sent: true, delay: 20 * time.Second, delivered: true,
		},
		"suspended": {
			after: 20 * time.Second, takes: time.Second, resumes: 2,
			sent: true, delay: 20 * time.Second, delivered: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Hold: text, HoldAfter: tt.after, Attempts: 2},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					time.Sleep(tt.takes)
					switch {
					case call.Attempt <= tt.fails:
						return asynctool.Result{}, errDown
					case call.Resumes < tt.resumes:
						return asynctool.ResumeIn(time.Minute, nil), nil
					}
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				if tt.down {
					w.failingTimes("send line", 1)
				}
				j := w.job("t1", "tool")
				j.ReceivedAt = j.ReceivedAt.Add(-tt.age)
				if tt.chat {
					j.Call.Type = "chat"
				}
				w.send(j)
				w.run(time.Hour)
				w.wantDelivered(delivery{"call-1", j.ID, "Done."})
				var want []line
				if tt.sent {
					want = []line{{0, 0, text, policy.DeliverySay}}
				}
				w.wantLines(want...)
				if tt.sent && w.out.delays[0] != tt.delay {
					t.Errorf("it comes after %s, want %s", w.out.delays[0], tt.delay)
				}
				if (len(w.progress) == 1) != tt.delivered || len(w.progress) > 1 {
					t.Errorf("delivered before: %v", w.progress)
				}
			})
		})
	}
}
