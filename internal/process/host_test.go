package process_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// line is a progress line as it was sent.
type line struct {
	At       time.Duration
	Sequence int
	Text     string
	Delivery job.Delivery
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

func TestProgress(t *testing.T) {
	type says = func(ctx context.Context, call asynctool.Call) asynctool.Result
	at := func(seconds int, sequence int, text string) line {
		return line{time.Duration(seconds) * time.Second, sequence, text, job.DeliverySay}
	}
	sleep := func(seconds int) { time.Sleep(time.Duration(seconds) * time.Second) }
	done := asynctool.Text("Done.")
	tests := map[string]struct {
		chat  bool
		says  says
		fault string // a step that fails once
		want  []line
		last  string // the record's last line
		fails bool
	}{
		"one after the other": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			for i := range 3 {
				call.Progress(ctx, fmt.Sprint("line ", i))
				sleep(6)
			}
			return done
		}, want: []line{at(0, 1, "line 0"), at(6, 2, "line 1"), at(12, 3, "line 2")}, last: "line 2"},
		"silent": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Note(ctx, "a note")
			sleep(6)
			call.Progress(ctx, "a line")
			sleep(1)
			return done
		}, want: []line{{0, 1, "a note", job.DeliverySilent}, at(6, 2, "a line")}, last: "a line"},
		"a secret": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, said)
			sleep(1)
			return done
		}, want: []line{at(0, 1, said)}, last: said},
		"no text": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, "")
			sleep(1)
			return done
		}},
		"long": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, strings.Repeat("x", 100<<10))
			sleep(1)
			return done
		}, want: []line{at(0, 1, strings.Repeat("x", 1000)+"…")}, last: strings.Repeat("x", 1000) + "…"},
		"too fast": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			for i := range 5 {
				call.Progress(ctx, fmt.Sprint("line ", i))
				sleep(1)
			}
			sleep(10)
			return done
		}, want: []line{at(0, 1, "line 0"), at(5, 2, "line 4")}, last: "line 4"},
		"too fast, and then done": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, "line 0")
			sleep(1)
			call.Progress(ctx, "line 1")
			sleep(1)
			return done
		}, want: []line{at(0, 1, "line 0")}, last: "line 0"},
		"before it goes on": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes > 0 {
				return done
			}
			call.Progress(ctx, "line 0")
			sleep(6)
			call.Progress(ctx, "line 1")
			return asynctool.ResumeIn(time.Minute, nil)
		}, want: []line{at(0, 1, "line 0"), at(6, 2, "line 1")}, last: "line 1"},
		"too soon before it goes on": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes > 0 {
				call.Progress(ctx, "line 2")
				sleep(1)
				return done
			}
			call.Progress(ctx, "line 0")
			sleep(1)
			call.Progress(ctx, "line 1")
			return asynctool.ResumeIn(time.Minute, nil)
		}, want: []line{at(0, 1, "line 0"), at(61, 2, "line 2")}, last: "line 2"},
		"soon after it went on": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, fmt.Sprint("line ", call.Resumes))
			if call.Resumes > 0 {
				sleep(10)
				return done
			}
			return asynctool.ResumeIn(2*time.Second, nil)
		}, want: []line{at(0, 1, "line 0"), at(5, 2, "line 1")}, last: "line 1"},
		"each time before it goes on": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			if call.Resumes == 20 {
				return done
			}
			call.Progress(ctx, "a line")
			return asynctool.ResumeIn(5*time.Second, nil)
		}, want: func() (lines []line) {
			for i := range 20 {
				lines = append(lines, at(5*i, i+1, "a line"))
			}
			return lines
		}(), last: "a line"},
		"after it is done": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			go func() {
				for range 20 {
					sleep(1)
					call.Progress(ctx, "too late")
				}
			}()
			return done
		}},
		"too late": {says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			sleep(60)
			call.Progress(ctx, "too late")
			return done
		}, fails: true},
		"a chat": {chat: true, says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, "line 0")
			sleep(6)
			call.Progress(ctx, "line 1")
			sleep(1)
			return done
		}, last: "line 1"},
		"the table is down": {fault: "add progress to", says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, "line 0")
			sleep(1)
			call.Progress(ctx, "line 1")
			sleep(1)
			return done
		}, want: []line{at(1, 1, "line 1")}, last: "line 1"},
		"the queue is down": {fault: "Outcome", says: func(ctx context.Context, call asynctool.Call) asynctool.Result {
			call.Progress(ctx, "line 0")
			sleep(6)
			call.Progress(ctx, "line 1")
			sleep(1)
			return done
		}, want: []line{at(6, 2, "line 1")}, last: "line 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Timeout: 30 * time.Second, Deadline: time.Hour}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				return tt.says(ctx, call), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				if tt.fault != "" {
					w.failingTimes(tt.fault, 1)
				}
				j := w.job("t1", "tool")
				if tt.chat {
					j.Call.Type, j.Call.ControlURL = "chat", ""
				}
				w.send(j)
				w.run(2 * time.Minute)
				time.Sleep(time.Hour) // what is abandoned ends
				if diff := gocmp.Diff(tt.want, w.lines()); diff != "" {
					t.Errorf("lines (-want +got):\n%s", diff)
				}
				if last := w.out.sent[len(w.out.sent)-1]; last.Kind != job.KindFinal {
					t.Errorf("%q came after the result", last.Result.Content)
				}
				if tt.fails {
					return
				}
				w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
				if r := w.record(j); (r.Progress == nil) != (tt.last == "") || r.Progress != nil && r.Progress.Text != tt.last {
					t.Errorf("the record has %+v", r.Progress)
				}
			})
		})
	}
}

// TestLinesOnTheirWay has the queue be so slow that a line still waits for the
// one before when the tool goes on later. It is told before that.
func TestLinesOnTheirWay(t *testing.T) {
	const runs = 10
	var want []string
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		for i := range 2 {
			text := fmt.Sprintf("line %d of run %d", i, call.Resumes)
			want = append(want, text)
			call.Progress(ctx, text)
			time.Sleep(5500 * time.Millisecond)
		}
		call.Progress(ctx, "the last")
		want = append(want, "the last")
		if call.Resumes == runs {
			time.Sleep(time.Minute)
			return asynctool.Text("Done."), nil
		}
		return asynctool.ResumeIn(time.Minute, nil), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.out.takes = 8 * time.Second
		w.send(w.job("t1", "tool"))
		w.run(time.Hour)
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
		var got []string
		for _, l := range w.lines() {
			got = append(got, l.Text)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

// TestManyLines has a tool that says thousands of lines, from many goroutines.
func TestManyLines(t *testing.T) {
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		said := make(chan struct{})
		for g := range 10 {
			go func() {
				for i := range 500 {
					call.Progress(ctx, fmt.Sprintf("line %d of %d", i, g))
				}
				said <- struct{}{}
			}()
		}
		for range 10 {
			<-said
		}
		call.Progress(ctx, "the last line")
		time.Sleep(20 * time.Second)
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
		// The first to be seen, and the last after a pause.
		lines := w.lines()
		if len(lines) > 2 || lines[len(lines)-1].Text != "the last line" || len(lines) == 2 && lines[1].At != 5*time.Second {
			t.Errorf("%d lines: %v", len(lines), lines)
		}
	})
}

// TestProgressOfAnEndedJob tests that nothing is said of a job that others have
// ended.
func TestProgressOfAnEndedJob(t *testing.T) {
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		for i := 0; ctx.Err() == nil; i++ {
			call.Progress(ctx, fmt.Sprint("line ", i))
			time.Sleep(time.Second)
		}
		return asynctool.Result{}, ctx.Err()
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		cancelled := job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "It was cancelled."}
		time.AfterFunc(7500*time.Millisecond, func() {
			if _, err := w.table.Change(t.Context(), j.ID, job.Cancel(time.Now(), cancelled, "by the operator")); err != nil {
				t.Error(err)
			}
		})
		w.send(j)
		w.run(time.Minute)
		w.want([]job.Result{cancelled}, 0, 0)
		if lines := w.lines(); len(lines) != 2 || lines[1].At != 5*time.Second {
			t.Errorf("lines: %v", lines)
		}
	})
}

// TestHold tests when it is told that a job takes longer.
func TestHold(t *testing.T) {
	const text = "This takes a moment."
	tests := map[string]struct {
		after   time.Duration
		age     time.Duration // of the tool call
		takes   time.Duration
		chat    bool
		down    bool // the queue does not take it
		delay   time.Duration
		sent    bool
		told    bool
		fails   int // attempts that do
		resumes int
	}{
		"quick":                     {after: 20 * time.Second, takes: 10 * time.Second, sent: true, delay: 20 * time.Second},
		"slow":                      {after: 20 * time.Second, takes: 30 * time.Second, sent: true, delay: 20 * time.Second, told: true},
		"the call is older":         {after: 20 * time.Second, age: 15 * time.Second, takes: 10 * time.Second, sent: true, delay: 5 * time.Second, told: true},
		"the call is too old":       {after: 20 * time.Second, age: time.Minute, takes: 10 * time.Second, sent: true, told: true},
		"the call is of the future": {after: 15 * time.Minute, age: -time.Second, takes: 10 * time.Second, sent: true, delay: 15 * time.Minute},
		"a chat":                    {after: 20 * time.Second, takes: time.Minute, chat: true},
		"the queue is down":         {after: 20 * time.Second, takes: time.Minute, down: true},
		"a second attempt":          {after: 20 * time.Second, takes: 15 * time.Second, fails: 1, sent: true, delay: 20 * time.Second, told: true},
		"goes on":                   {after: 20 * time.Second, takes: time.Second, resumes: 2, sent: true, delay: 20 * time.Second, told: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Hold: text, HoldAfter: tt.after, Attempts: 2}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				time.Sleep(tt.takes)
				switch {
				case call.Attempt <= tt.fails:
					return asynctool.Result{}, errors.New("once more")
				case call.Resumes < tt.resumes:
					return asynctool.ResumeIn(time.Minute, nil), nil
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				if tt.down {
					w.failingTimes("Outcome", 1)
				}
				j := w.job("t1", "tool")
				j.ReceivedAt = j.ReceivedAt.Add(-tt.age)
				if tt.chat {
					j.Call.Type = "chat"
				}
				w.send(j)
				w.run(time.Hour)
				w.wantTold(telling{"call-1", j.ID, "Done."})
				var want []line
				if tt.sent {
					want = []line{{0, 0, text, job.DeliverySay}}
				}
				if diff := gocmp.Diff(want, w.lines()); diff != "" {
					t.Errorf("lines (-want +got):\n%s", diff)
				}
				if tt.sent && w.out.delays[0] != tt.delay {
					t.Errorf("it comes after %s, want %s", w.out.delays[0], tt.delay)
				}
				if (len(w.progress) == 1) != tt.told || len(w.progress) > 1 {
					t.Errorf("told before: %v", w.progress)
				}
			})
		})
	}
}
