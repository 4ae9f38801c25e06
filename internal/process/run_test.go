package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/spoken"
)

type badError struct{ text *string }

func (e badError) Error() string { return *e.text }

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("no JSON") }

func TestOneAttempt(t *testing.T) {
	text := asynctool.Text("It ships tomorrow.")
	say, blank := tool{Delivery: asynctool.Say}, tool{FailureText: " "}
	long := strings.Repeat("word ", spoken.MaxContent)
	action := func(text string, a asynctool.Action) run {
		return returns(asynctool.Result{Text: text, Action: a}, nil)
	}
	handoff := func(destination any) asynctool.Action { return asynctool.Handoff{Destination: destination} }
	controls := func(content, message string) []job.Result {
		r := result(job.StatusOK, policy.DeliveryControl, content)
		r[0].Control = json.RawMessage(message)
		return r
	}
	failing := func(err error) run { return returns(text, err) }
	unknown := asynctool.Fail("No such order.", nil)
	wrapped := func(err error) error { return fmt.Errorf("look up: %w", err) }
	panicking := func(value any) run {
		return func(context.Context, asynctool.Call, input) (asynctool.Result, error) { panic(value) }
	}
	const refused = "The tool tool was not run: "
	tests := map[string]struct {
		tool      tool
		run       run
		arguments string
		want      []job.Result
		dead      bool // the job goes to the dead-letter queue
	}{
		"text": {run: returns(text, nil), want: responds("It ships tomorrow.")},
		"the tool's delivery": {
			tool: say, run: returns(text, nil), want: result(job.StatusOK, policy.DeliverySay, "It ships tomorrow."),
		},
		"the result's delivery": {
			tool: say, run: returns(asynctool.Result{Text: " Shipped.\n", Delivery: asynctool.Silent}, nil),
			want: result(job.StatusOK, policy.DeliverySilent, "Shipped."),
		},
		"another system's text": {
			run:  returns(asynctool.Result{Text: "Shipped.", Delivery: asynctool.Say, External: true}, nil),
			want: []job.Result{{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "Shipped."}},
		},
		"too long": {run: returns(asynctool.Text(long), nil), want: responds(spoken.Cut(long))},

		"transfer": {
			run:  action("", asynctool.Transfer{Number: "+14155550100"}),
			want: controls("", `{"type":"transfer","destination":{"type":"number","number":"+14155550100"}}`),
		},
		"transfer to SIP": {
			run: action("One moment.", asynctool.Transfer{SIPURI: "sip:a@example.com"}),
			want: controls("One moment.", `{"type":"transfer",`+
				`"destination":{"type":"sip","sipUri":"sip:a@example.com"},"content":"One moment."}`),
		},
		"handoff": {
			run: action("One moment.", handoff(map[string]string{"type": "assistant", "assistantId": "b"})),
			want: controls("One moment.", `{"type":"handoff",`+
				`"destination":{"assistantId":"b","type":"assistant"},"content":"One moment."}`),
		},
		"end call": {run: action("", asynctool.EndCall{}), want: controls("", `{"type":"end-call"}`)},
		"end call after a text": {
			run: action("Bye.", asynctool.EndCall{}),
			want: controls("Bye.", `{"type":"say","content":"Bye.","endCallAfterSpoken":true,`+
				`"interruptionsEnabled":true,"interruptAssistantEnabled":false}`),
		},
		"mute": {
			run:  action("", asynctool.MuteAssistant),
			want: controls("", `{"type":"control","control":"mute-assistant"}`),
		},

		"no text":                  {run: action("", nil), want: fails(neutral), dead: true},
		"an action's pointer":      {run: action("", &asynctool.EndCall{}), want: fails(neutral), dead: true},
		"a transfer Vapi refuses":  {run: action("", asynctool.Transfer{Number: "+1"}), want: fails(neutral), dead: true},
		"a handoff without a type": {run: action("", handoff(map[string]string{})), want: fails(neutral), dead: true},
		"a handoff that panics":    {run: action("", handoff(badJSON{})), want: fails(neutral), dead: true},
		"an error":                 {run: failing(errDown), want: fails(neutral), dead: true},
		"an error, spoken": {
			tool: tool{Delivery: asynctool.Say, FailureText: "Not today."}, run: failing(errDown),
			want: result(job.StatusError, policy.DeliverySay, "Not today."), dead: true,
		},
		"final":          {run: failing(asynctool.Fail("No such order.", errDown)), want: fails("No such order.")},
		"final, wrapped": {run: failing(wrapped(unknown)), want: fails("No such order.")},
		"final in the words of another system": {
			run:  failing(&asynctool.Error{Spoken: "No such order.", External: true}),
			want: []job.Result{{Status: job.StatusError, Delivery: policy.DeliveryRespond, Content: "No such order."}},
		},
		"final without a text":    {run: failing(asynctool.Fail("", errDown)), want: fails(neutral)},
		"final with a blank text": {run: failing(asynctool.Fail(" \n", nil)), want: fails(neutral)},
		"blank texts":             {tool: blank, run: failing(asynctool.Fail("\t", nil)), want: fails(neutral)},
		"final with a long text":  {run: failing(asynctool.Fail(long, nil)), want: fails(spoken.Cut(long))},
		"again, but no attempts": {
			run: failing(asynctool.TryAgain(time.Second, "Try later.", nil)), want: fails("Try later."), dead: true,
		},
		"panic":                     {run: panicking("index out of range"), want: fails(neutral), dead: true},
		"panic with an error":       {run: panicking(badError{}), want: fails(neutral), dead: true},
		"an error that panics":      {run: failing(badError{}), want: fails(neutral), dead: true},
		"a nil pointer as an error": {run: failing((*asynctool.Error)(nil)), want: fails(neutral), dead: true},
		"the same, wrapped":         {run: failing(wrapped((*asynctool.Error)(nil))), want: fails(neutral), dead: true},
		"end of the goroutine": {
			run: func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				runtime.Goexit()
				return text, nil
			},
			want: fails(neutral), dead: true,
		},

		"argument missing": {arguments: `{}`, want: fails(refused + "order (the order's number) is missing. " +
			"Ask the caller for what you do not know, then call tool again.")},
		"argument wrong": {
			arguments: `{"order":["` + argument + `"]}`, tool: tool{Delivery: asynctool.Say, Attempts: 3},
			want: fails(refused + "order (the order's number) must be a text. " +
				"Ask the caller for what you do not know, then call tool again."),
		},
		"arguments no object": {arguments: `null`, want: fails(refused + "its arguments are not a JSON object. " +
			"Call tool again with its arguments as a JSON object.")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.run == nil {
				tt.run = notRun(t)
			}
			inWorld(t, does(tt.tool, tt.run), func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				if tt.arguments != "" {
					j.Arguments = json.RawMessage(tt.arguments)
				}
				w.send(j)
				w.run(time.Second)
				left := 0
				if tt.dead {
					left = 1
				}
				w.want(tt.want, left, 0)
				if r := w.record(j); r.State != job.StateDone || r.Attempt != 1 || r.Exhausted != tt.dead {
					t.Errorf("record %+v", r)
				}
				outcome := w.out.sent[0]
				if !outcome.Deadline.Equal(j.CallEnds) || outcome.Call != j.Call ||
					outcome.JobID != j.ID || outcome.Tool != j.Tool {
					t.Errorf("outcome %+v", outcome)
				}
			})
		})
	}
}

func TestCallAndArguments(t *testing.T) {
	var calls []asynctool.Call
	var inputs []input
	def := does(tool{Attempts: 2}, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		if call.Host == nil {
			t.Error("the tool has no host")
		}
		call.Host = nil
		calls, inputs = append(calls, call), append(inputs, in)
		if call.Attempt == 1 {
			return asynctool.Result{}, errDown
		}
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		w.want(done, 0, 0)
		want := asynctool.Call{
			ID: "call-1", OrgID: "org-1", Type: "webCall", AssistantID: "assistant-1", CustomerNumber: number,
			ToolCallID: "t1", JobID: "call-1/t1", Attempt: 1,
		}
		again := want
		again.Attempt = 2
		if diff := gocmp.Diff([]asynctool.Call{want, again}, calls); diff != "" {
			t.Error(diff)
		}
		if inputs[0].Order != argument || inputs[1].Order != argument {
			t.Errorf("inputs %v", inputs)
		}
	})
}

// TestNotRun sends jobs whose tool cannot run. The assistant learns why.
func TestNotRun(t *testing.T) {
	orders := does(tool{Name: "order_status"}, notRun(t))
	refund := does(tool{Name: "refund", Delivery: asynctool.Say}, notRun(t))
	const refusal = "arguments cannot be used: they are not a JSON object"
	for name, tt := range map[string]struct {
		tools         []asynctool.Definition
		tool, refusal string
		want          string
	}{
		"unknown tool": {[]asynctool.Definition{orders, refund}, "orderStatus", "",
			"There is no tool named orderStatus. The tools are: order_status, refund. " +
				"Do not tell the caller a result that you do not have."},
		"no tools": {nil, "orderStatus", "", "There is no tool named orderStatus."},
		"refused": {[]asynctool.Definition{refund}, "refund", refusal,
			"The tool refund was not run: " + refusal + ". Correct that before you call it again, and do not tell " +
				"the caller a result that you do not have."},
		"refused, and unknown": {[]asynctool.Definition{refund}, "(no name)", "tool call has no function name",
			"The tool (no name) was not run: tool call has no function name. Correct that before you call it again, " +
				"and do not tell the caller a result that you do not have."},
	} {
		t.Run(name, func(t *testing.T) {
			inWorldOf(t, tt.tools, func(t *testing.T, w *world) {
				j := w.job("t1", tt.tool)
				j.Refusal = tt.refusal
				w.send(j)
				w.run(time.Second)
				w.want(fails(tt.want), 0, 0)
			})
		})
	}
}

// TestPanicStaysInTheLog tests that the value of a panic, which may quote a caller, is in the log, and not in the
// record.
func TestPanicStaysInTheLog(t *testing.T) {
	run := func(context.Context, asynctool.Call, input) (asynctool.Result, error) { panic("oh, Ada Lovelace") }
	inWorld(t, does(tool{}, run), func(t *testing.T, w *world) {
		var logged strings.Builder
		w.log = slog.New(slog.NewTextHandler(io.MultiWriter(&logged, logWriter{w.log}), nil))
		w.deploy()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Minute)
		if !strings.Contains(logged.String(), "the tool panicked: oh, Ada Lovelace") {
			t.Errorf("the log is %s", &logged)
		}
		if r := w.record(j); !strings.HasPrefix(r.Reason, "the tool panicked") || strings.Contains(r.Reason, "Ada") {
			t.Errorf("the record has the reason %q", r.Reason)
		}
	})
}

// TestSimilarName sends jobs with an unknown tool. The log names the known one that it means.
func TestSimilarName(t *testing.T) {
	tools := []asynctool.Definition{
		does(tool{Name: "order_status"}, notRun(t)), does(tool{Name: "shop-refund"}, notRun(t)),
	}
	for name, want := range map[string]string{
		"order-status":                    "order_status",
		"orderStatus":                     "order_status",
		"order__status_":                  "order_status",
		"functions.order_status":          "order_status",
		"default_api:order_status":        "order_status",
		"mcp__shop__order_status":         "order_status",
		"refund":                          "shop-refund",
		"shop_refund":                     "shop-refund",
		"status_order":                    "",
		"order_status_2":                  "",
		"border_status":                   "",
		"orders":                          "",
		"_":                               "",
		strings.Repeat("-", 64) + "é\xff": "",
	} {
		t.Run(name, func(t *testing.T) {
			inWorldOf(t, tools, func(t *testing.T, w *world) {
				var logged strings.Builder
				w.log = slog.New(slog.NewTextHandler(io.MultiWriter(&logged, logWriter{w.log}), nil))
				w.deploy()
				w.send(w.job("t1", name))
				w.run(time.Second)
				_, warning, found := strings.Cut(logged.String(), `level=WARN msg="unknown tool`)
				warning, _, _ = strings.Cut(warning, "\n")
				if !found {
					t.Fatalf("no warning: %s", logged.String())
				}
				_, known, _ := strings.Cut(warning, " known=")
				if known != want {
					t.Errorf("the warning names %q, want %q: %s", known, want, warning)
				}
			})
		})
	}
}

// logWriter logs what is written to it.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Info(string(p))
	return len(p), nil
}

// TestRetries checks when attempts start. A failure after the last attempt is delivered once, and
// its job moves to the dead-letter queue.
func TestRetries(t *testing.T) {
	always := func(int) error { return errDown }
	second := func(err error) func(int) error { // returns err at the second attempt
		return func(attempt int) error {
			if attempt == 2 {
				return err
			}
			return errDown
		}
	}
	again := func(after time.Duration) func(int) error {
		return func(int) error { return asynctool.TryAgain(after, "", nil) }
	}
	// The service is busy for n starts, and then the tool ends with err.
	busy := func(n int, err error) func(int) error {
		return func(int) error {
			if n--; n >= 0 {
				return fmt.Errorf("ask: %w", asynctool.NotStarted(0, "", errDown))
			}
			return err
		}
	}
	once := tool{Attempts: 1}
	tests := map[string]struct {
		tool     tool
		err      func(attempt int) error // nil: the attempt succeeds
		want     []time.Duration         // when each attempt starts
		result   []job.Result
		deadline time.Duration // of the call; 0 means an hour
		dead     int
	}{
		"the second succeeds": {tool: tool{Attempts: 3}, err: second(nil), want: seconds(0, 2), result: done},
		"growing delays": {
			tool: tool{Attempts: 7}, err: always, want: seconds(0, 2, 6, 14, 30, 60, 90), result: fails(neutral), dead: 1,
		},
		"the tool's own delay": {tool: tool{Attempts: 3}, err: func(a int) error {
			return asynctool.TryAgain(time.Duration(a)*20*time.Second, fmt.Sprintf("Attempt %d failed.", a), nil)
		}, want: seconds(0, 20, 60), result: fails("Attempt 3 failed."), dead: 1},
		"a delay of a fraction": {
			tool: tool{Attempts: 2}, err: again(1500 * time.Millisecond), want: seconds(0, 2), result: fails(neutral), dead: 1,
		},
		"a negative delay": {tool: tool{Attempts: 2}, err: func(int) error {
			return &asynctool.Error{Retry: true, After: -time.Hour}
		}, want: seconds(0, 2), result: fails(neutral), dead: 1},
		"a delay of days": {
			tool: tool{Attempts: 2}, err: again(2 * days), want: seconds(0, 900), result: fails(neutral), dead: 1,
		},
		"final at the second": {
			tool: tool{Attempts: 3}, err: second(asynctool.Fail("No.", nil)), want: seconds(0, 2), result: fails("No."),
		},
		"the call ends before the next": {
			tool: tool{Attempts: 5}, err: always, want: seconds(0, 2, 6), result: fails(neutral),
			deadline: 13 * time.Second, dead: 1,
		},
		"not started": {tool: once, err: busy(3, nil), want: seconds(0, 2, 6, 14), result: done},
		"not started, too often": {
			tool: once, err: busy(100, nil), want: seconds(0, 2, 6, 14, 30, 60), result: fails(neutral), dead: 1,
		},
		"not started, then failed": {
			tool: once, err: busy(2, errDown), want: seconds(0, 2, 6), result: fails(neutral), dead: 1,
		},
		"not started, then final": {
			tool: once, err: busy(1, asynctool.Fail("No.", nil)), want: seconds(0, 2), result: fails("No."),
		},
		"not started, then attempts": {
			tool: tool{Attempts: 2}, err: busy(5, errDown), want: seconds(0, 2, 6, 14, 30, 60, 90),
			result: fails(neutral), dead: 1,
		},
		"not started before the deadline": {
			tool: tool{Deadline: 5 * time.Second}, err: busy(100, nil), want: seconds(0, 2), result: fails(neutral), dead: 1,
		},
		"final although not started": {
			tool: once, err: func(int) error { return &asynctool.Error{NotStarted: true, Spoken: "No."} },
			want: seconds(0), result: fails("No."),
		},
		"the tool's deadline": {
			tool: tool{Attempts: 5, Deadline: 5 * time.Second}, err: always, want: seconds(0, 2),
			result: fails(neutral), dead: 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var started []time.Duration
			def := does(tt.tool, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				started = append(started, time.Since(start))
				return asynctool.Text("Done."), tt.err(call.Attempt)
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				start = time.Now()
				j := w.job("t1", "tool")
				if tt.deadline > 0 {
					j.CallEnds = w.start.Add(tt.deadline)
				}
				w.send(j)
				// The outcome is sent as soon as it is clear.
				w.run(tt.want[len(tt.want)-1] + time.Second)
				w.want(tt.result, tt.dead, 0)
				w.settle(j)
				w.run(time.Hour)
				w.want(tt.result, 0, tt.dead)
				if diff := gocmp.Diff(tt.want, started); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func seconds(s ...int) []time.Duration {
	var d []time.Duration
	for _, n := range s {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

func TestTimeout(t *testing.T) {
	tests := map[string]struct {
		run  func(ctx context.Context) (asynctool.Result, error)
		want []job.Result
		at   time.Duration
	}{
		"notices": {func(ctx context.Context) (asynctool.Result, error) {
			<-ctx.Done()
			return asynctool.Result{}, ctx.Err()
		}, fails(neutral), 10 * time.Second},
		"notices, with words of its own": {func(ctx context.Context) (asynctool.Result, error) {
			<-ctx.Done()
			return asynctool.Result{}, asynctool.Fail("The shop did not answer.", ctx.Err())
		}, fails("The shop did not answer."), 10 * time.Second},
		"has a result after all": {func(ctx context.Context) (asynctool.Result, error) {
			<-ctx.Done()
			time.Sleep(500 * time.Millisecond)
			return asynctool.Text("Some of it."), nil
		}, responds("Some of it."), 10500 * time.Millisecond},
		"ignores it": {func(context.Context) (asynctool.Result, error) {
			time.Sleep(time.Hour)
			return asynctool.Text("Too late."), nil
		}, fails(neutral), 11 * time.Second},
		"panics late": {func(context.Context) (asynctool.Result, error) {
			time.Sleep(time.Minute)
			panic("too late")
		}, fails(neutral), 11 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			run := func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) { return tt.run(ctx) }
			def := does(tool{Timeout: 10 * time.Second}, run)
			inWorld(t, def, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				w.run(11500 * time.Millisecond)
				if diff := gocmp.Diff(tt.want, w.out.results()); diff != "" {
					t.Error(diff)
				}
				if len(w.out.at) != 1 || w.out.at[0] != tt.at {
					t.Errorf("sent at %v, want %s", w.out.at, tt.at)
				}
				r := w.record(j)
				if tt.want[0].Status == job.StatusError && !strings.Contains(r.Reason, "the tool ran longer than 10s") {
					t.Errorf("the record's reason is %q", r.Reason)
				}
				time.Sleep(2 * time.Hour) // an abandoned tool ends, and changes nothing
				if diff := gocmp.Diff(tt.want, w.out.results()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestFunctionDeadline limits the function to less time than the tool may take.
func TestFunctionDeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		life   time.Duration
		starts bool
		at     time.Duration
	}{
		"some time":          {40 * time.Second, true, 30 * time.Second},
		"no time to start":   {10 * time.Second, false, 0},
		"nearly none at all": {time.Second, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			started := false
			def := does(tool{}, func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
				started = true
				<-ctx.Done()
				return asynctool.Result{}, ctx.Err()
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.limits.ProcessTimeout = tt.life
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				w.want(fails(neutral), 1, 0)
				if started != tt.starts || w.out.at[0] != tt.at {
					t.Errorf("started: %v, sent at %v", started, w.out.at)
				}
			})
		})
	}
}

// TestEndedWhileItRuns ends a job while its tool runs. The tool's context ends soon, and whatever the
// tool returns is dropped.
func TestEndedWhileItRuns(t *testing.T) {
	cancelled := fails("It was cancelled.")
	ways := map[string]struct {
		rule func() job.Rule
		want []job.Result
	}{
		"completed": {func() job.Rule { return job.Complete(time.Now(), approved[0]) }, approved},
		"cancelled": {func() job.Rule { return job.Cancel(time.Now(), cancelled[0], "by the operator") }, cancelled},
		"withdrawn": {func() job.Rule { return job.Withdraw(time.Now(), "by its assistant") }, nil},
	}
	tools := map[string]func(ctx context.Context) (asynctool.Result, error){
		"an error": func(ctx context.Context) (asynctool.Result, error) { return asynctool.Result{}, ctx.Err() },
		"a final error": func(ctx context.Context) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("No.", ctx.Err())
		},
		"a result":     func(context.Context) (asynctool.Result, error) { return asynctool.Text("Its own."), nil },
		"a suspension": func(context.Context) (asynctool.Result, error) { return asynctool.ResumeIn(time.Minute, nil), nil },
		"a wait":       func(context.Context) (asynctool.Result, error) { return asynctool.Wait(), nil },
		"never": func(context.Context) (asynctool.Result, error) {
			time.Sleep(time.Hour)
			return asynctool.Text("x"), nil
		},
		"with a panic": func(context.Context) (asynctool.Result, error) { panic("late") },
		"late": func(context.Context) (asynctool.Result, error) {
			time.Sleep(900 * time.Millisecond)
			return asynctool.Text("x"), nil
		},
	}
	for way, end := range ways {
		for name, returns := range tools {
			t.Run(way+", and the tool returns "+name, func(t *testing.T) {
				runs, noticed := 0, time.Duration(0)
				var w *world
				def := does(tool{Timeout: 10 * time.Minute, Attempts: 3, Deadline: days, Cancellable: true},
					func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
						runs++
						if _, err := call.CompletionURL(ctx); err != nil {
							t.Error(err)
						}
						<-ctx.Done()
						noticed = time.Since(w.start)
						return returns(ctx)
					})
				inWorld(t, def, func(t *testing.T, world *world) {
					w = world
					var logged strings.Builder
					w.log = slog.New(slog.NewTextHandler(io.MultiWriter(&logged, logWriter{w.log}), nil))
					w.withURLs(urls(nil))
					w.deliver()
					j := w.job("t1", "tool")
					w.send(j)
					time.AfterFunc(61*time.Second, func() { w.change(j, end.rule()) })
					w.run(5 * time.Minute)
					var delivered []delivery
					for i, r := range end.want {
						delivered = append(delivered, delivery{"call-1", j.ID, r.Content})
						if w.out.at[i] > noticed+time.Second {
							t.Errorf("it noticed the end at %s, and the result was sent at %s", noticed, w.out.at[i])
						}
					}
					w.wantDelivered(delivered...)
					w.want(end.want, 0, 0)
					if runs != 1 || noticed < 61*time.Second || noticed > 66*time.Second {
						t.Errorf("it ran %d times, and noticed the end at %s", runs, noticed)
					}
					if len(w.wakeUps) != 0 {
						t.Errorf("wake-ups %v", w.wakeUps)
					}
					if got := logged.String(); strings.Contains(got, deployment.ToolFailed) ||
						!strings.Contains(got, "job has already ended") {
						t.Errorf("logged\n%s", got)
					}
					time.Sleep(2 * time.Hour) // an abandoned tool ends
				})
			})
		}
	}
}

// TestEndedBetweenAttempts completes a job that waits for its next attempt.
func TestEndedBetweenAttempts(t *testing.T) {
	runs := 0
	def := does(tool{Attempts: 3}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		runs++
		_, err := call.CompletionURL(ctx)
		return asynctool.Result{}, asynctool.TryAgain(time.Minute, "", err)
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.withURLs(urls(nil))
		w.deliver()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Second)
		w.complete(j, false)
		w.run(time.Hour)
		w.wantDelivered(delivery{"call-1", j.ID, "It is approved."})
		w.wantLeft(0, 0)
		if runs != 1 {
			t.Errorf("it ran %d times", runs)
		}
	})
}

// urls makes completion URLs, and notes what they are for. It may be nil.
type urls func(jobID string, expires time.Time)

func (u urls) URL(_ context.Context, jobID string, expires time.Time) (string, error) {
	if u != nil {
		u(jobID, expires)
	}
	return completionURL, nil
}

// PostURL returns another URL, for a tool that reads what is posted.
func (u urls) PostURL(ctx context.Context, jobID string, expires time.Time) (string, error) {
	at, err := u.URL(ctx, jobID, expires)
	return at + "/posts", err
}

// withURLs deploys a function that makes completion URLs.
func (w *world) withURLs(u urls) {
	w.t.Helper()
	w.urls = u
	w.deploy()
}

// TestCompletionURL checks that the record of a job contains what is needed to complete it, once
// its URL is handed out.
func TestCompletionURL(t *testing.T) {
	t.Run("without", func(t *testing.T) {
		run := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			url, err := call.CompletionURL(ctx)
			if err == nil || url != "" || !strings.Contains(err.Error(), "COMPLETION_URL") {
				t.Errorf("%q, %v", url, err)
			}
			return asynctool.Result{}, err
		}
		inWorld(t, does(tool{FailureText: "Sorry."}, run), func(t *testing.T, w *world) {
			j := w.job("t1", "tool")
			w.send(j)
			w.run(time.Second)
			w.want(fails("Sorry."), 1, 0)
			if w.record(j).StoredJob != nil {
				t.Error("the record contains the job")
			}
		})
	})
	t.Run("with", func(t *testing.T) {
		var w *world
		var asked []string
		run := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			for range 2 {
				url, err := call.CompletionURL(ctx)
				if err != nil || url != completionURL {
					t.Errorf("%q, %v", url, err)
				}
			}
			r := w.record(w.job("t1", "tool"))
			if r.StoredJob == nil || r.StoredJob.Call.ControlURL != controlURL || r.State != job.StateRunning {
				t.Errorf("the record is %+v", r)
			}
			if call.Attempt == 1 {
				return asynctool.Result{}, errDown
			}
			return asynctool.Text("Done."), nil
		}
		inWorld(t, does(tool{Deadline: days, Attempts: 2}, run), func(t *testing.T, world *world) {
			w = world
			w.withURLs(func(jobID string, expires time.Time) {
				asked = append(asked, fmt.Sprint(jobID, " ", expires.Sub(w.start)))
			})
			w.deliver()
			w.send(w.job("t1", "tool"))
			w.run(time.Minute)
			w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
			one := "call-1/t1 24h0m0s"
			if diff := gocmp.Diff([]string{one, one, one, one}, asked); diff != "" {
				t.Error(diff)
			}
		})
	})
	for name, tt := range map[string]struct{ order, fault string }{
		"too large":         {order: strings.Repeat("x", 192<<10)},
		"the table is down": {order: "x", fault: "store"},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if url, err := call.CompletionURL(ctx); err == nil || url != "" {
					t.Errorf("a URL for a job that cannot be completed: %q", url)
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.withURLs(func(string, time.Time) { t.Error("a URL was made") })
				w.failing(tt.fault, errors.New("the table is down"))
				j := w.job("t1", "tool")
				j.Arguments = json.RawMessage(`{"order":"` + tt.order + `"}`)
				w.send(j)
				w.run(time.Second)
				w.want(done, 0, 0)
			})
		})
	}
}
