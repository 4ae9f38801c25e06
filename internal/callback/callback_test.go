package callback_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func TestNewNeedsItsParts(t *testing.T) {
	whole := callback.Config{
		Table: around{}, ControlClient: around{}, Results: around{}, Events: around{}, CallTracker: around{},
		Customers: around{},
	}
	if _, err := callback.New(whole); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*callback.Config){
		"table":          func(c *callback.Config) { c.Table = nil },
		"control client": func(c *callback.Config) { c.ControlClient = nil },
		"results":        func(c *callback.Config) { c.Results = nil },
		"events":         func(c *callback.Config) { c.Events = nil },
		"call tracker":   func(c *callback.Config) { c.CallTracker = nil },
		"customers":      func(c *callback.Config) { c.Customers = nil },
		"call client": func(c *callback.Config) {
			c.OutboundCalls = &callback.OutboundCalls{Next: func(now time.Time) time.Time { return now }}
		},
		"hours": func(c *callback.Config) { c.OutboundCalls = &callback.OutboundCalls{Client: around{}} },
	} {
		cfg := whole
		change(&cfg)
		if _, err := callback.New(cfg); err == nil {
			t.Errorf("without %s: no error", name)
		}
	}
}

// TestPosted posts to a real server with the real client.
func TestPosted(t *testing.T) {
	const dropped = 0 // instead of a status: the connection breaks
	type answer struct {
		status     int
		retryAfter string
	}
	const one, two = time.Second, 2 * time.Second
	tests := map[string]struct {
		answers []answer // to one post each
		delays  []time.Duration
		why     job.Reason // empty if it is delivered
	}{
		"200":                 {[]answer{{status: 200}}, nil, ""},
		"204":                 {[]answer{{status: 204}}, nil, ""},
		"500 twice, then 200": {[]answer{{status: 500}, {status: 500}, {status: 200}}, []time.Duration{one, two}, ""},
		"429, then 200":       {[]answer{{429, "45"}, {status: 200}}, []time.Duration{45 * one}, ""},
		"429 asking for less": {[]answer{{status: 500}, {429, "1"}, {status: 200}}, []time.Duration{one, two}, ""},
		"a broken connection": {[]answer{{status: dropped}, {status: 200}}, []time.Duration{one}, ""},
		"503, then gone":      {[]answer{{status: 503}, {status: 404}}, []time.Duration{one}, job.ReasonCallGone},
		"502, then 200":       {[]answer{{status: 502}, {status: 200}}, []time.Duration{one}, ""},
		"400":                 {[]answer{{status: 400}}, nil, job.ReasonRefused},
		"503, then refused":   {[]answer{{status: 503}, {status: 422}}, []time.Duration{one}, job.ReasonRefused},
		"410":                 {[]answer{{status: 410}}, nil, job.ReasonCallGone},
		"401":                 {[]answer{{status: 401}}, nil, job.ReasonMisconfigured},
		"302":                 {[]answer{{status: 302}}, nil, job.ReasonMisconfigured},
		"Retry-After past the end": {
			[]answer{{429, "3600"}, {429, "3600"}, {429, "3600"}}, []time.Duration{3597 * one, two}, job.ReasonUnreachable,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var posts []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || r.Method != http.MethodPost || r.URL.Path != controlPath {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
				}
				posts = append(posts, string(body))
				a := answer{status: 500}
				if len(posts) <= len(tt.answers) {
					a = tt.answers[len(posts)-1]
				}
				if a.status == dropped {
					panic(http.ErrAbortHandler)
				}
				if a.retryAfter != "" {
					w.Header().Set("Retry-After", a.retryAfter)
				}
				if a.status == 302 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(a.status)
			}))
			defer server.Close()
			client, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, func(cfg *callback.Config) { cfg.ControlClient, cfg.Text = client, text(t, "") })
			o := w.outcome(policy.AfterCallEvent)
			o.Call.ControlURL = server.URL + controlPath
			o.Deadline = w.start.Add(3600*time.Second - time.Millisecond)
			if diff := cmp.Diff(tt.delays, w.handle(o)); diff != "" {
				t.Errorf("delays (-want +got):\n%s", diff)
			}
			want, err := json.Marshal(vapi.AddMessage{Content: strings.NewReplacer("{tool}", "order_status",
				"{tool_call_id}", "t1", "{status}", "ok", "{content}", framed(content)).Replace(spoken.DefaultText)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(slices.Repeat([]string{string(want)}, len(tt.answers)), posts); diff != "" {
				t.Errorf("posts (-want +got):\n%s", diff)
			}
			state := job.StateDelivered
			if tt.why != "" {
				state = job.StateUndelivered
			}
			w.want(-1, state, tt.why, 0)
		})
	}
}

// TestUndelivered checks the events, and that nothing is posted if that is of no use.
func TestUndelivered(t *testing.T) {
	const ok, failed, control = job.StatusOK, job.StatusError, policy.DeliveryControl
	dance := json.RawMessage(`{"type":"dance"}`)
	tests := map[string]struct {
		result  job.Result // of another tool than the usual one
		change  func(*job.Outcome)
		receipt vapiclient.Receipt // without one, nothing is posted
		after   time.Duration      // until the outcome comes
		why     job.Reason
		detail  string // empty if it does not matter
		content string // if it is not that of the result
	}{
		"gone": {receipt: gone, why: job.ReasonCallGone, detail: "the control URL answered 404"},
		"gone, without an error": {receipt: vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 410},
			why: job.ReasonCallGone, detail: "the control URL answered 410"},
		"misconfigured": {receipt: vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Err: errors.New("refused")},
			why: job.ReasonMisconfigured, detail: "refused"},
		"refused": {receipt: refused, why: job.ReasonRefused, detail: "the control URL answered 400; " +
			"correct the text that the tool returns, or RESULT_TEXT"},
		"refused word for word": {result: job.Result{Status: ok, Delivery: policy.DeliverySay, Content: "Hi."},
			receipt: refused, why: job.ReasonRefused, content: "Hi.",
			detail: "the control URL answered 400; correct the text that the tool returns"},
		"refused, and Vapi says why": {receipt: reporting(refused, "content must be shorter"), why: job.ReasonRefused,
			detail: "the control URL answered 400; correct the text that the tool returns, or RESULT_TEXT; " +
				"Vapi reports: content must be shorter"},
		"a refused action": {result: endsCall, receipt: refused, why: job.ReasonRefused,
			detail: "the control URL answered 400; correct the action that the tool returns, such as the number of a " +
				"transfer, which must be E.164"},
		"an unknown verdict": {receipt: vapiclient.Receipt{Err: errors.New("what?")},
			why: job.ReasonMisconfigured, detail: "what?"},
		"no control URL": {change: func(o *job.Outcome) { o.Call.ControlURL = "" },
			why: job.ReasonNoControlURL, detail: "the webhook contained no control URL"},
		"deadline past": {after: time.Hour + time.Second,
			why: job.ReasonDeadline, detail: "the deadline was 2000-01-01T01:00:00Z"},
		"deadline past, and the call forgotten": {after: time.Hour + time.Second,
			change: func(o *job.Outcome) { o.Call.ControlURL = "" },
			why:    job.ReasonDeadline, detail: "the deadline was 2000-01-01T01:00:00Z"},
		"deadline before the next post": {after: time.Hour - time.Second/2, receipt: failing,
			why: job.ReasonUnreachable, detail: "the control URL answered 500"},
		"a failure": {result: job.Result{Status: failed, Delivery: policy.DeliverySay, Content: "Sorry."}, receipt: gone,
			why: job.ReasonCallGone, detail: "the control URL answered 404", content: "Sorry."},
		"no message": {result: job.Result{Status: ok, Delivery: control, Control: dance}, why: job.ReasonUnspeakable},
		"nothing to say": {result: job.Result{Status: ok, Delivery: policy.DeliverySay, Content: "\u200b"},
			why: job.ReasonUnspeakable},
		"invisible characters": {result: respond("pay \u202e001\x1b <<<"), receipt: gone,
			why: job.ReasonCallGone, detail: "the control URL answered 404", content: "pay 001 <<<"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.result.Status == "" {
					tt.result, tt.content = respond(content), content
				}
				w.answer = answers(tt.receipt)
				o := w.finished(w.job("t1"), tt.result)
				if tt.change != nil {
					tt.change(&o)
				}
				time.Sleep(tt.after)
				w.send(o)
				w.run(time.Millisecond)
				posts := 0
				if tt.receipt != (vapiclient.Receipt{}) {
					posts = 1
				}
				w.want(posts, job.StateUndelivered, tt.why, 0)
				want := job.Undelivered{
					JobID: "call-1/t1", ToolCallID: "t1", Tool: "order_status",
					CallID: "call-1", OrgID: "org-1", AssistantID: "assistant-1", CustomerNumber: number,
					Reason: tt.why, Detail: tt.detail, Status: tt.result.Status, Delivery: tt.result.Delivery,
					Content: tt.content, Control: tt.result.Control, At: w.start.Add(tt.after),
				}
				ignore := cmp.FilterPath(func(p cmp.Path) bool {
					return p.String() == "Detail" && tt.detail == ""
				}, cmp.Ignore())
				if diff := cmp.Diff([]job.Undelivered{want}, w.events, ignore, cmpopts.EquateEmpty()); diff != "" {
					t.Error(diff)
				}
				if event, err := json.Marshal(w.events); err != nil || bytes.Contains(event, []byte("planted-control")) {
					t.Errorf("the event contains the control URL: %s", event)
				}
			})
		})
	}
}

func TestMaxPosts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(failing)
		w.send(w.outcome(policy.AfterCallEvent))
		w.run(59 * time.Minute)
		w.want(callback.MaxPosts, job.StateUndelivered, job.ReasonUnreachable, 0)
		// The last post is followed by the event, which contains its answer.
		u, last := w.events[0], w.at[callback.MaxPosts-1]
		if u.Detail != failing.Err.Error() || u.At.Sub(w.start) != last {
			t.Errorf("the event says %s after %s; the last post was after %s", u.Detail, u.At.Sub(w.start), last)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, w.at[:len(want)]); diff != "" {
			t.Error(diff)
		}
	})
}

// TestStepFails makes steps fail: no outcome is lost or delivered twice.
func TestStepFails(t *testing.T) {
	type stage struct {
		runs  time.Duration
		posts int // -1 for any number
		state job.State
		why   job.Reason
		left  int
	}
	fails := func(steps ...string) func(*world) {
		return func(w *world) { w.fail(errDown, steps...) }
	}
	done, undelivered := job.StateDone, job.StateUndelivered
	tests := map[string]struct {
		policy policy.AfterCall
		answer func(int) vapiclient.Receipt // nil: delivered
		fault  func(*world)
		first  stage
		mended stage // zero: the fault remains
	}{
		"claim": {fault: fails(claim),
			first: stage{10 * time.Second, 0, done, "", 1}, mended: stage{30 * time.Second, 1, job.StateDelivered, "", 0}},
		// Its record is marked, although it could not be claimed.
		"claim, for good": {fault: fails(claim), first: stage{24 * time.Hour, 0, undelivered, job.ReasonUnclaimed, 0}},
		// The outcome waits for the end of its lease.
		"release": {answer: answers(failing, delivered), fault: fails(release),
			first: stage{59 * time.Second, 1, done, "", 1}, mended: stage{5 * time.Second, 2, job.StateDelivered, "", 0}},
		// It is delivered once, and marked as soon as that is possible.
		"mark as delivered": {fault: fails(settle), first: stage{time.Hour, 1, done, "", 1},
			mended: stage{time.Hour, 1, job.StateDelivered, "", 0}},
		"mark, and its message": {fault: fails(settle, sendMark), first: stage{time.Hour, 1, done, "", 0}},
		"claim and mark, for good": {fault: fails(claim, unclaim, settle),
			first:  stage{time.Hour, 0, done, job.ReasonUnclaimed, 1},
			mended: stage{time.Hour, 0, undelivered, job.ReasonUnclaimed, 0}},
		"mark twice": {fault: func(w *world) {
			try := 0
			w.before[settle] = func(ctx context.Context, _ string) error {
				switch try++; try {
				case 1:
					return errDown
				case 2: // no answer
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}, first: stage{10 * time.Second, 1, job.StateDelivered, "", 0}},
		"mark as undelivered": {answer: answers(gone), fault: fails(settle),
			first:  stage{time.Hour, 1, done, job.ReasonCallGone, 1},
			mended: stage{time.Hour, 1, undelivered, job.ReasonCallGone, 0}},
		"mark as dropped": {policy: policy.AfterCallDrop, answer: answers(gone), fault: fails(settle),
			first: stage{30 * time.Second, -1, done, "", 1}, mended: stage{time.Minute, -1, undelivered, "", 0}},
		// It is delivered in one way at least.
		"mark as parked": {policy: policy.AfterCallNextCall, answer: answers(gone), fault: fails(settle),
			first:  stage{59 * time.Minute, callback.MaxPosts, done, job.ReasonUnreachable, 1},
			mended: stage{time.Hour, callback.MaxPosts, undelivered, job.ReasonUnreachable, 0}},
		// A mark without an event would be a silent loss.
		"event": {answer: answers(gone), fault: fails(sendEvent), first: stage{40 * time.Second, -1, done, "", 1},
			mended: stage{time.Minute, -1, undelivered, job.ReasonCallGone, 0}},
		"event and release": {answer: answers(gone), fault: fails(sendEvent, release),
			first:  stage{40 * time.Second, -1, done, "", 1},
			mended: stage{time.Minute, -1, undelivered, job.ReasonCallGone, 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.answer != nil {
					w.answer = tt.answer
				}
				o := w.outcome(tt.policy)
				tt.fault(w)
				w.send(o)
				for _, s := range []stage{tt.first, tt.mended} {
					if s.runs > 0 {
						w.run(s.runs)
						w.want(s.posts, s.state, s.why, s.left)
					}
					w.mend()
				}
			})
		})
	}
}

// TestEventFailsForGood tests that an outcome moves to the dead-letter queue if no
// event can be sent.
func TestEventFailsForGood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(gone)
		w.fail(errDown, sendEvent)
		w.send(w.outcome(policy.AfterCallEvent))
		w.run(24 * time.Hour)
		state := w.record("call-1/t1").State
		if w.dead.Len() != 1 || state != job.StateDone || len(w.posts) > callback.MaxPosts {
			t.Errorf("%d dead letters, the record is %s, %d posts", w.dead.Len(), state, len(w.posts))
		}
	})
}

func TestNoRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(policy.AfterCallEvent)
		*w.store = memtable.Store{}
		w.send(o)
		w.run(24 * time.Hour)
		w.wantPosted()
		w.wantLeft(0, job.ReasonUnclaimed)
	})
}

// TestCopies sends copies of an outcome. Vapi takes five seconds for an answer.
func TestCopies(t *testing.T) {
	busy := vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 429, RetryAfter: time.Minute}
	tests := map[string]struct {
		second time.Duration // when the copy comes
		answer func(post int) vapiclient.Receipt
		state  job.State
		why    job.Reason
		posts  int
	}{
		"at once":                     {0, answers(delivered), job.StateDelivered, "", 1},
		"while the first is posted":   {time.Second, answers(delivered), job.StateDelivered, "", 1},
		"after the first was posted":  {time.Minute, answers(delivered), job.StateDelivered, "", 1},
		"of a lost call":              {0, answers(gone), job.StateUndelivered, job.ReasonCallGone, 1},
		"of one that needs two posts": {0, answers(failing, delivered), job.StateDelivered, "", 2},
		// A call that asks for a pause gets it from the copy, too.
		"while the call asks for a pause": {15 * time.Second, answers(busy, delivered), job.StateDelivered, "", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = func(post int) vapiclient.Receipt {
					time.Sleep(5 * time.Second)
					return tt.answer(post)
				}
				o := w.outcome(policy.AfterCallEvent)
				w.send(o)
				if tt.second == 0 {
					w.send(o)
				} else {
					time.AfterFunc(tt.second, func() { w.send(o) })
				}
				w.run(10 * time.Minute)
				w.want(tt.posts, tt.state, tt.why, 0)
				if pause := tt.answer(1).RetryAfter; pause > 0 && w.at[1] < 5*time.Second+pause {
					t.Errorf("posted again after %s", w.at[1])
				}
			})
		})
	}
}

// TestKnownRecord checks that the record in a message saves the first receive a read, and no other one.
func TestKnownRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(failing, delivered)
		w.send(w.outcome(policy.AfterCallEvent))
		w.run(time.Minute)
		w.want(2, job.StateDelivered, "", 0)
		if w.knownClaims != 1 {
			t.Errorf("%d claims of a known record", w.knownClaims)
		}
	})
}

// TestFunctionDied tests an outcome that was claimed and not settled.
func TestFunctionDied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(policy.AfterCallEvent)
		w.change(o.JobID, job.ClaimDelivery(w.now(), 30*time.Second))
		w.send(o)
		w.run(29 * time.Second)
		w.want(0, job.StateDone, "", 1)
		w.run(2 * time.Second)
		w.want(1, job.StateDelivered, "", 0)
	})
}

// poisonous is a message that is no outcome.
var poisonous = events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: "?"}}}

func TestPoison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(policy.AfterCallEvent)
		body := w.encode(o)
		poison := []string{
			"?", "{}", "null", strings.Replace(body, `"version":1`, `"version":2`, 1),
			strings.Replace(body, `"final"`, `"progress"`, 1),
		}
		for _, p := range poison {
			w.sendBody(p)
		}
		w.send(o)
		want := func(left, dead int) {
			t.Helper()
			state := w.record(o.JobID).State
			if state != job.StateDelivered || len(w.posts) != 1 || w.results.Len() != left || w.dead.Len() != dead {
				t.Errorf("the record is %s, %d posts, %d messages left, %d dead letters",
					state, len(w.posts), w.results.Len(), w.dead.Len())
			}
		}
		w.run(time.Minute)
		want(len(poison), 0)
		w.run(3 * time.Hour)
		want(0, len(poison))
	})
}

// TestNewerVersion receives what a newer version sent or stored, until that version is deployed: half an
// hour later, as after a rollback.
func TestNewerVersion(t *testing.T) {
	const deployed = 30 * time.Minute
	unreadable := func(w *world) func(context.Context, string) error {
		return func(context.Context, string) error {
			if time.Since(w.start) < deployed {
				return fmt.Errorf("%w: version 9", job.ErrUnreadable)
			}
			return nil
		}
	}
	for _, name := range []string{"message", "record", "customer"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				after := policy.AfterCallEvent
				if name == "customer" {
					after = policy.AfterCallNextCall
				}
				body := w.encode(w.outcome(after))
				switch name {
				case "message":
					body = strings.Replace(body, `"version":1`, `"version":9`, 1)
				case "record":
					w.before[claim] = unreadable(w)
				case "customer":
					w.answer = answers(gone)
					w.before[park] = unreadable(w)
				}
				w.sendBody(body)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				w.results.Run(ctx, func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					for i := range event.Records {
						if time.Since(w.start) >= deployed {
							event.Records[i].Body = strings.Replace(event.Records[i].Body, `"version":9`, `"version":1`, 1)
						}
					}
					return w.handler.Handle(ctx, event)
				})
				if name == "customer" {
					w.wantStates(job.StateParked)
					return
				}
				w.want(1, job.StateDelivered, "", 0)
				if len(w.at) != 1 || w.at[0] < deployed || w.at[0] > deployed+6*time.Minute {
					t.Errorf("posted at %v", w.at)
				}
			})
		})
	}
}

// TestSideBySide delivers a batch to ten slow calls.
func TestSideBySide(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = func(int) vapiclient.Receipt { time.Sleep(8 * time.Second); return delivered }
		for i := range 10 {
			w.send(w.finished(w.jobIn(fmt.Sprint("call-2", i), "t"), respond(content)))
		}
		w.run(9 * time.Second)
		w.wantStates(job.StateDelivered)
		if len(w.posts) != 10 || w.at[9] != 0 {
			t.Errorf("%d posts at %v", len(w.posts), w.at)
		}
	})
}

// TestHiddenText tests that the log reports text which only a model would read, and does not quote it.
func TestHiddenText(t *testing.T) {
	const tags = "\U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065"
	for name, tt := range map[string]struct {
		o    job.Outcome
		want int // warnings
	}{
		"none":              {job.Outcome{Result: respond("a heart: ❤\ufe0f")}, 0},
		"in a text":         {job.Outcome{Result: respond("hello" + tags)}, 1},
		"in what was asked": {job.Outcome{Result: respond("hello"), Asked: `{"name":"` + tags + `"}`}, 1},
		"in what is spoken": {job.Outcome{
			Result: job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "hello" + tags}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			inChangedWorld(t, func(cfg *callback.Config) {
				cfg.Log = slog.New(slog.NewJSONHandler(&logged, nil))
			}, func(t *testing.T, w *world) {
				o := w.finished(w.job("t1"), tt.o.Result)
				o.Asked = tt.o.Asked
				w.send(o)
				w.sendBody("?")
				w.run(3 * time.Hour) // until the unreadable message is in the dead-letter queue, which is logged
			})
			if n := strings.Count(logged.String(), "removed hidden text from result"); n != tt.want {
				t.Errorf("%d warnings, want %d:\n%s", n, tt.want, &logged)
			}
			if strings.Contains(logged.String(), "hello") || strings.ContainsAny(logged.String(), tags) {
				t.Errorf("the log quotes it:\n%s", &logged)
			}
		})
	}
}

func TestOwnText(t *testing.T) {
	inChangedWorld(t, func(cfg *callback.Config) {
		cfg.Text = text(t, "{tool} says:\n{content}")
	}, func(t *testing.T, w *world) {
		result := job.Result{Status: job.StatusOK, Delivery: policy.DeliverySilent, Content: "Shipped."}
		w.send(w.finished(w.job("t1"), result))
		w.run(time.Minute)
		w.want(1, job.StateDelivered, "", 0)
		w.wantPosted("add silently order_status says:\n" + framed("Shipped."))
	})
}

// TestControlURLOfAnotherCall has a webhook with the id of one call and the control URL of another. Nothing is
// posted, unless the check is lifted.
func TestControlURLOfAnotherCall(t *testing.T) {
	const other = "https://phone-call-websocket.vapi.ai/planted-control/call-2/control"
	for _, after := range []policy.AfterCall{
		policy.AfterCallEvent, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
	} {
		for _, lifted := range []bool{false, true} {
			inChangedWorld(t, func(cfg *callback.Config) { cfg.AnyControlPath = lifted }, func(t *testing.T, w *world) {
				mine, forged := w.outcome(after), w.jobIn("call-2", "t2")
				forged.Call.ControlURL = mine.Call.ControlURL
				w.send(mine)
				w.send(w.finish(forged, w.running(forged, after), respond(content)))
				o := w.finished(w.job("t3"), endsCall)
				o.Call.ControlURL = other
				w.send(o)
				line := w.job("t4")
				running := w.running(line, after)
				line.Call.ControlURL = other
				w.send(line.ProgressOutcome(1, content, false, running))
				w.run(time.Hour)
				if !lifted {
					w.wantPosted("add t1=" + content)
					w.wantLeft(0, job.ReasonMisconfigured, job.ReasonMisconfigured)
					return
				}
				posts := 0
				for _, url := range w.urls {
					if url == other || url == mine.Call.ControlURL {
						posts++
					}
				}
				if posts < 3 { // two results of one control URL may share a post
					t.Errorf("%d posts: %v", posts, w.urls)
				}
			})
		}
	}
}
