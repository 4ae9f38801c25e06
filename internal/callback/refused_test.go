package callback_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// transfers is a result that is an action with a text.
var transfers = job.Result{
	Status: job.StatusOK, Delivery: policy.DeliveryControl, Content: "One moment.",
	Control: []byte(`{"type":"transfer","destination":{"type":"number","number":"+1555"},"content":"One moment."}`),
}

// reporting returns a receipt with an error that Vapi reports.
func reporting(r vapiclient.Receipt, reported string) vapiclient.Receipt {
	r.Reported = reported
	return r
}

// TestMeaningOfStatuses posts to a server that answers each post with one status. For each of them, it
// checks what happens to this result, to the other jobs of the call, and to the customer, whom the tools
// ask to call, or to inform in the next call.
func TestMeaningOfStatuses(t *testing.T) {
	const done, undelivered = job.StateDelivered, job.StateUndelivered
	type row struct {
		status  int
		state   job.State // without another call
		why     job.Reason
		posts   int
		callEnd bool // it is recorded, so that other tools stop. Then the customer is called, or the result parked
	}
	rows := []row{
		{200, done, "", 1, false}, {204, done, "", 1, false},
		{301, undelivered, job.ReasonMisconfigured, 1, false}, {307, undelivered, job.ReasonMisconfigured, 1, false},
		{400, undelivered, job.ReasonRefused, 1, false},
		{401, undelivered, job.ReasonMisconfigured, 1, false},
		{402, undelivered, job.ReasonMisconfigured, 1, false},
		{403, undelivered, job.ReasonMisconfigured, 1, false},
		{404, undelivered, job.ReasonCallGone, 1, true},
		{408, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{409, undelivered, job.ReasonRefused, 1, false},
		{410, undelivered, job.ReasonCallGone, 1, true},
		{422, undelivered, job.ReasonRefused, 1, false},
		{425, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{429, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{500, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{502, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{503, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{504, undelivered, job.ReasonUnreachable, callback.MaxPosts, false},
		{0, undelivered, job.ReasonUnreachable, callback.MaxPosts, false}, // a broken connection
	}
	type policyOfCall struct {
		architecture vapi.Architecture
		after        policy.AfterCall
	}
	var all []policyOfCall
	for _, after := range []policy.AfterCall{
		policy.AfterCallEvent, policy.AfterCallDrop, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
	} {
		for _, a := range []vapi.Architecture{
			vapi.ArchitectureClassic, vapi.ArchitectureGPTLive, vapi.ArchitectureUnknown,
		} {
			all = append(all, policyOfCall{a, after})
		}
	}
	// A call of unknown architecture also gets the message of a GPT-Live call after these.
	probed := []int{400, 402, 404, 409, 410, 422}
	for _, row := range rows {
		for _, p := range all {
			row, after := row, p.after
			switch {
			case p.architecture == vapi.ArchitectureGPTLive && row.status == 502:
				row.why, row.posts = job.ReasonUnconfirmed, 1
			case p.architecture == vapi.ArchitectureUnknown && slices.Contains(probed, row.status):
				row.posts++
			}
			t.Run(fmt.Sprint(row.status, " ", p.after, " ", p.architecture), func(t *testing.T) {
				var posts atomic.Int32
				server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
					if posts.Add(1); row.status == 0 {
						panic(http.ErrAbortHandler)
					}
					rw.WriteHeader(row.status)
				}))
				defer server.Close()
				client, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
				if err != nil {
					t.Fatal(err)
				}
				w := newWorld(t, func(cfg *callback.Config) { cfg.ControlClient = client })
				o := w.outcome(after)
				o.Call.ControlURL, o.Call.Architecture = server.URL+controlPath, p.architecture
				w.wantLive(true) // for a tool that stops with the call
				w.handle(o)

				state, why, calls, parked := row.state, row.why, 0, []string(nil)
				switch {
				case row.callEnd && after == policy.AfterCallOutboundCall:
					state, why, calls = done, "", 1
				case row.callEnd && after == policy.AfterCallNextCall:
					state, why, parked = job.StateParked, "", []string{o.JobID}
				case after == policy.AfterCallDrop && (row.callEnd || why == job.ReasonUnreachable):
					why = "" // an operator must see all other reasons
				}
				w.wantCalls(calls, state, why)
				w.wantLive(!row.callEnd)
				if diff := cmp.Diff(parked, w.parked()); diff != "" {
					t.Errorf("parked (-want +got):\n%s", diff)
				}
				if n := int(posts.Load()); n != row.posts {
					t.Errorf("%d posts, want %d", n, row.posts)
				}
			})
		}
	}
}

// TestRefusedAction has actions that the call refuses. They are replaced by their text, once.
func TestRefusedAction(t *testing.T) {
	text := reporting(refused, "number must be E.164")
	const action, instead = "vapi.Transfer", "add t1=One moment."
	tests := map[string]struct {
		result job.Result
		answer func(post int) vapiclient.Receipt
		posted []string
		state  job.State
		why    job.Reason
		reason string // part of the record's reason, or of the detail of the event
		live   bool
	}{
		"its text is delivered": {transfers, answers(text, delivered), []string{action, instead},
			job.StateDelivered, "", "action was refused, and its text delivered", true},
		"with Vapi's reason": {transfers, answers(text, delivered), []string{action, instead},
			job.StateDelivered, "", "number must be E.164", true},
		"its text is refused, too": {transfers, answers(text, refused), []string{action, instead},
			job.StateUndelivered, job.ReasonRefused, "Vapi reports: number must be E.164", true},
		"no text": {endsCall, answers(text), []string{"vapi.EndCall"},
			job.StateUndelivered, job.ReasonRefused, "correct the action", true},
		"the call ends meanwhile": {transfers, answers(text, gone), []string{action, instead},
			job.StateUndelivered, job.ReasonCallGone, "answered 404", false},
		"its text must be posted again": {transfers, answers(text, failing, text, delivered),
			[]string{action, instead, action, instead}, job.StateDelivered, "", "text delivered", true},
		"the action is accepted later": {transfers, answers(text, failing, delivered),
			[]string{action, instead, action}, job.StateDelivered, "", "", true},
		"a post that another one must follow": {transfers, answers(failing, text, delivered),
			[]string{action, action, instead}, job.StateDelivered, "", "text delivered", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = tt.answer
				o := w.finished(w.job("t1"), tt.result)
				w.wantLive(true)
				w.send(o)
				w.send(o)
				w.run(10 * time.Minute)
				w.want(len(tt.posted), tt.state, tt.why, 0)
				w.wantLive(tt.live)
				var posted []string
				for i, p := range w.posted() {
					if m, ok := w.posts[i].(vapi.AddMessage); ok {
						note, text, _ := strings.Cut(m.Content, "\n")
						if !strings.Contains(note, "was not carried out") || m.Silent {
							t.Errorf("posted %+v", m)
						}
						p = "add " + text
					}
					posted = append(posted, p)
				}
				if diff := cmp.Diff(tt.posted, posted); diff != "" {
					t.Errorf("posted (-want +got):\n%s", diff)
				}
				if r := w.record(o.JobID).Reason; !strings.Contains(r, tt.reason) {
					t.Errorf("the record's reason is %q, want %q in it", r, tt.reason)
				}
				for _, u := range w.events {
					if !strings.Contains(u.Detail, tt.reason) {
						t.Errorf("the detail is %q, want %q in it", u.Detail, tt.reason)
					}
				}
			})
		})
	}
}

// TestRefusedTogether has results that were coalesced into one post, which the call refuses because of
// one of them. Each is posted alone then, once.
func TestRefusedTogether(t *testing.T) {
	refuses := func(bad string) func(w *world) func(int) vapiclient.Receipt {
		return func(w *world) func(int) vapiclient.Receipt {
			return func(n int) vapiclient.Receipt {
				w.mu.Lock()
				defer w.mu.Unlock()
				if strings.Contains(w.posts[n-1].(vapi.AddMessage).Content, bad) {
					return refused
				}
				return delivered
			}
		}
	}
	tests := map[string]struct {
		answer func(w *world) func(int) vapiclient.Receipt
		posted []string
		states []job.State // of t1, t2 and t3
		whys   []job.Reason
	}{
		"one is bad": {refuses("t2="), []string{"add silently t2=B", "add t1=A", "add t1=A t2=B t3=C", "add t3=C"},
			[]job.State{job.StateDelivered, job.StateUndelivered, job.StateDelivered}, []job.Reason{job.ReasonRefused}},
		"all are bad": {refuses("="), []string{"add silently t2=B", "add t1=A", "add t1=A t2=B t3=C", "add t3=C"},
			[]job.State{job.StateUndelivered, job.StateUndelivered, job.StateUndelivered},
			[]job.Reason{job.ReasonRefused, job.ReasonRefused, job.ReasonRefused}},
		"they are too long together": {refuses("\n\n"),
			[]string{"add silently t2=B", "add t1=A", "add t1=A t2=B t3=C", "add t3=C"},
			[]job.State{job.StateDelivered, job.StateDelivered, job.StateDelivered}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = tt.answer(w)
				w.wantLive(true)
				w.sendAll(policy.DeliveryRespond, policy.DeliverySilent, policy.DeliveryRespond)
				w.run(10 * time.Minute)
				posted := w.posted()
				slices.Sort(posted)
				if diff := cmp.Diff(tt.posted, posted); diff != "" {
					t.Errorf("posted (-want +got):\n%s", diff)
				}
				for i, want := range tt.states {
					if r := w.record(fmt.Sprint("call-1/t", i+1)); r.State != want {
						t.Errorf("%s is %s, want %s", r.ID, r.State, want)
					}
				}
				w.wantLeft(0, tt.whys...)
				w.wantLive(true)
			})
		})
	}
}

// TestSecondPostFitsTheLease has a slow call that refuses: no copy of the outcome is posted meanwhile.
func TestSecondPostFitsTheLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = func(post int) vapiclient.Receipt {
			time.Sleep(9 * time.Second)
			return answers(refused, delivered)(post)
		}
		o := w.finished(w.job("t1"), transfers)
		w.send(o)
		for d := time.Second; d < 30*time.Second; d += time.Second {
			time.AfterFunc(d, func() { w.send(o) })
		}
		w.run(10 * time.Minute)
		w.want(2, job.StateDelivered, "", 0)
	})
}

// TestReportedError has a post that is accepted, although the answer reports an error: it is delivered,
// and the record has the error, which the log has not.
func TestReportedError(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(reporting(delivered, "call is being transferred: "+content))
		o := w.outcome(policy.AfterCallEvent)
		w.send(o)
		w.run(time.Minute)
		w.want(1, job.StateDelivered, "", 0)
		if r := w.record(o.JobID).Reason; !strings.Contains(r, "being transferred") {
			t.Errorf("the reason is %q", r)
		}
	})
}

// TestRefusalsAreNotLogged has a refusal whose reason quotes the result. The event has it, which is
// confidential anyway, and the log has not.
func TestRefusalsAreNotLogged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(reporting(refused, "bad content: "+content+" of "+number))
		w.send(w.outcome(policy.AfterCallDrop))
		w.run(time.Minute)
		w.want(1, job.StateUndelivered, job.ReasonRefused, 0)
		event, err := json.Marshal(w.events)
		if err != nil || !strings.Contains(string(event), "bad content: "+content) {
			t.Errorf("the event is %s, %v", event, err)
		}
	})
}
