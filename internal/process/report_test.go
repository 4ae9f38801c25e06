package process_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// settleLines settles the kept lines of a job as the callback function does: a second after they were sent.
// heard decides about the n-th line, and nil settles none. It ends after a time.
func (w *world) settleLines(j job.Job, limit time.Duration, heard func(n int) bool) {
	go func() {
		settled := 0
		for range limit / (50 * time.Millisecond) {
			time.Sleep(50 * time.Millisecond)
			lines := w.lines()
			if heard == nil || len(lines) == settled || lines[len(lines)-1].At+time.Second > time.Since(w.start) {
				continue
			}
			settled = len(lines)
			last := lines[settled-1]
			_, err := w.table.Change(context.Background(), j.ID,
				job.SettleReport(time.Now(), job.Record{}, last.Sequence, heard(settled)))
			if err != nil {
				w.t.Error(err)
			}
		}
	}()
}

func TestReport(t *testing.T) {
	always := func(int) bool { return true }
	at := func(seconds float64, sequence int, text string) line {
		return line{time.Duration(seconds * float64(time.Second)), sequence, text, policy.DeliverySay}
	}
	// report returns a tool that reports lines, and then what it got for them.
	report := func(texts ...string) run {
		return func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			var got []string
			for _, text := range texts {
				err := call.Report(ctx, text)
				if err != nil && !errors.Is(err, asynctool.ErrNotHeard) {
					return asynctool.Result{}, err
				}
				got = append(got, fmt.Sprint(err == nil))
			}
			return asynctool.Text("heard: " + strings.Join(got, " ")), nil
		}
	}
	for name, tt := range map[string]struct {
		tool   run
		change func(j *job.Job) // may be nil
		fault  string           // a step that fails twice
		heard  func(n int) bool
		want   []line
		result []job.Result
	}{
		"one after the other": {tool: report("a", "b", "c"), heard: always,
			want: []line{at(0, 1, "a"), at(6, 2, "b"), at(13, 3, "c")}, result: responds("heard: true true true")},
		"one is not heard": {tool: report("a", "b"), heard: func(n int) bool { return n == 2 },
			want: []line{at(0, 1, "a"), at(6, 2, "b")}, result: responds("heard: false true")},
		"nothing is settled": {tool: report("a"), want: []line{at(0, 1, "a")}, result: responds("heard: false")},
		"no text":            {tool: report(""), heard: always, result: responds("heard: true")},
		"a chat": {tool: report("a", "b"), change: func(j *job.Job) { j.Call.Type, j.Call.ControlURL = "chat", "" },
			result: responds("heard: true true")},
		"the table is down": {tool: report("a"), heard: always, fault: "add progress to",
			want: []line{at(3, 1, "a")}, result: responds("heard: true")},
		"the queue is down": {tool: report("a"), heard: always, fault: "send line",
			want: []line{at(3, 1, "a")}, result: responds("heard: true")},
		"at the same time": {tool: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			other := make(chan error)
			go func() {
				time.Sleep(time.Millisecond)
				other <- call.Report(ctx, "b")
			}()
			result, err := report("a")(ctx, call, in)
			return result, errors.Join(err, <-other)
		}, heard: always, want: []line{at(0, 1, "a"), at(6, 2, "b")}, result: responds("heard: true")},
		"beside lines that may get lost": {
			tool: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				call.Progress(ctx, "x")
				time.Sleep(time.Second)
				call.Progress(ctx, "y")
				time.Sleep(time.Second) // y still waits, and a replaces it
				return report("a", "b")(ctx, call, in)
			}, heard: func(n int) bool { return n > 1 },
			want: []line{at(0, 1, "x"), at(5, 2, "a"), at(11, 3, "b")}, result: responds("heard: true true")},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, does(tool{Timeout: 5 * time.Minute}, tt.tool), func(t *testing.T, w *world) {
				if tt.fault != "" {
					w.failingTimes(tt.fault, 2)
				}
				j := w.job("t1", "tool")
				if tt.change != nil {
					tt.change(&j)
				}
				w.settleLines(j, 4*time.Minute, tt.heard)
				w.send(j)
				w.run(5 * time.Minute)
				w.want(tt.result, 0, 0)
				got := w.lines()
				for i := range got {
					got[i].At = got[i].At.Truncate(time.Second) // of the looks at the record
				}
				if diff := gocmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if last := w.out.sent[len(w.out.sent)-1]; last.Kind != job.KindFinal {
					t.Errorf("%q came after the result", last.Result.Content)
				}
				for _, o := range w.out.sent {
					if kept := slices.Contains([]string{"a", "b", "c"}, o.Result.Content); o.Kept != kept {
						t.Errorf("%q is sent with kept %t", o.Result.Content, o.Kept)
					}
				}
			})
		})
	}
}

// TestReportIsStopped tests a line that is on its way when the tool is not wanted any more, or its time is up.
func TestReportIsStopped(t *testing.T) {
	for name, stop := range map[string]func(w *world, j job.Job){
		"timeout": func(*world, job.Job) {},
		"cancelled": func(w *world, j job.Job) {
			w.change(j, job.Cancel(time.Now(), fails("Cancelled.")[0],
				"an operator"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var reported error
			def := does(tool{Timeout: 20 * time.Second},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					reported = call.Report(ctx, "a")
					return asynctool.Result{}, reported
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				time.AfterFunc(5*time.Second, func() { stop(w, j) })
				w.send(j)
				w.run(time.Minute)
				if reported == nil {
					t.Error("the line is confirmed")
				}
				if last := w.out.sent[len(w.out.sent)-1]; last.Kind != job.KindFinal {
					t.Errorf("%q came after the result", last.Result.Content)
				}
			})
		})
	}
}
