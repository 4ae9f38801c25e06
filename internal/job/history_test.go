package job_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// TestSteps plays whole lives of a job, and tests which steps they leave behind. The job was received 2 seconds before
// its first claim, and queued half a second later. A second passes before each rule.
func TestSteps(t *testing.T) {
	const secret = "https://x.vapi.ai/planted/control +15550100100"
	ok := job.Result{Status: job.StatusOK, Content: secret, Delivery: policy.DeliveryRespond}
	failed := job.Result{Status: job.StatusError, Content: secret, Delivery: policy.DeliveryRespond}
	j := newJob()
	j.ReceivedAt = start.Add(-2 * time.Second)
	j.CallEnds = start.Add(time.Hour)
	posted := func(answer string) func(time.Time) job.Rule {
		return func(time.Time) job.Rule {
			return job.Rule{Name: "post", Apply: func(r job.Record) (job.Record, error) { return r.Posted(answer), nil }}
		}
	}
	// endsLine ends the progress line that was claimed last, with the answer to it.
	endsLine := func(answer string) func(time.Time) job.Rule {
		return func(now time.Time) job.Rule {
			return job.Rule{Name: "end", Apply: func(r job.Record) (job.Record, error) {
				claimed := job.Record{
					ProgressLeaseExpiry: r.ProgressLeaseExpiry, History: job.History("m0=2"), Created: r.Created,
				}
				return job.EndProgress(claimed.Posted(answer)).Apply(r)
			}}
		}
	}
	finish := func(now time.Time) job.Rule { return job.Finish(now, ok, false, "") }
	claimDelivery := func(now time.Time) job.Rule { return job.ClaimDelivery(now, time.Second) }
	claim := func(now time.Time) job.Rule { return job.Claim(now, "m", time.Second) }
	settle := func(state job.State, reason string) func(time.Time) job.Rule {
		return func(now time.Time) job.Rule { return job.Settle(now, state, reason) }
	}
	suspend := func(external bool) func(time.Time) job.Rule {
		return func(now time.Time) job.Rule { return job.Suspend(now, j, now.Add(time.Second), external, nil) }
	}
	for name, row := range map[string]struct {
		rules []func(now time.Time) job.Rule
		want  string // after "received queued started"
	}{
		"delivered": {
			[]func(time.Time) job.Rule{finish, claimDelivery, posted("200"), settle(job.StateDelivered, "")},
			"finished delivery(200) delivered",
		},
		"attempts": {
			[]func(time.Time) job.Rule{
				func(now time.Time) job.Rule {
					return job.Release(now, 0, false, "the tool ran longer than 5s: "+secret)
				},
				claim,
				func(now time.Time) job.Rule { return job.ReleaseNotStarted(now, 0, "the service answered 503 "+secret) },
				claim,
				func(now time.Time) job.Rule { return job.Release(now, 0, true, "the claim took too long") },
				claim,
				func(now time.Time) job.Rule { return job.Finish(now, failed, true, "the tool panicked: "+secret) },
				claimDelivery, posted("503"),
				func(now time.Time) job.Rule { return job.ReleaseDelivery(now, 0) },
				claimDelivery, posted("400"), posted("404"),
				settle(job.StateUndelivered, "call_gone: "+secret),
			},
			"attempt_failed(timeout) started(2) attempt_failed(answered 503) started(3) not_started(no time) started(3) " +
				"failed(panic) delivery(503) delivery(400/404) undelivered(call_gone)",
		},
		"waits": {
			[]func(time.Time) job.Rule{
				func(now time.Time) job.Rule { return job.AddProgress(now, secret) },
				suspend(false), claim, suspend(true),
				func(now time.Time) job.Rule { return job.AddExternalProgress(now.Add(time.Minute), secret) },
				func(now time.Time) job.Rule { return job.ClaimProgress(now, 2, 0) },
				func(now time.Time) job.Rule { return job.Complete(now, failed) },
				endsLine("200"),
				func(now time.Time) job.Rule { return job.ClaimAnswer(now, time.Second) },
				settle(job.StateDelivered, secret),
			},
			"progress(1) suspended+1s woken external+59m56s progress(external) spoken(2/200) completed(error) " +
				"delivery(answer) delivered(answer)",
		},
		"hold message, and cancelled": {
			[]func(time.Time) job.Rule{
				func(now time.Time) job.Rule { return job.ClaimProgress(now, 0, 0) },
				func(now time.Time) job.Rule { return job.Cancel(now, failed, "cancelled by an operator: "+secret) },
				claimDelivery, posted("no answer"), settle(job.StateUndelivered, "dropped: deadline: "+secret),
			},
			"spoken(hold) cancelled(operator) delivery(no answer) discarded(deadline)",
		},
		"replaced": {
			[]func(time.Time) job.Rule{func(now time.Time) job.Rule { return job.Replace(now, "replaced by job "+secret) }},
			"cancelled(replaced)",
		},
		"cancelled by the assistant": {
			[]func(time.Time) job.Rule{func(now time.Time) job.Rule {
				return job.Replace(now, "cancelled by tool call "+secret)
			}},
			"cancelled(assistant)",
		},
		"outbound call": {
			[]func(time.Time) job.Rule{
				finish, claimDelivery, posted("404"),
				func(now time.Time) job.Rule { return job.PostponeOutboundCall(now, 0) },
				claimDelivery,
				func(now time.Time) job.Rule { return job.WaitForOutboundCall(now, time.Minute) },
				func(now time.Time) job.Rule { return job.JoinOutboundCall(now, now.Add(time.Second), secret) },
				func(now time.Time) job.Rule { return job.RetractOutboundCall(now, 0) },
				claimDelivery,
				func(now time.Time) job.Rule { return job.RecordOutboundCall(now, secret) },
				settle(job.StateDelivered, "delivered by the outbound call "+secret),
			},
			"finished delivery(404) postponed postponed outbound_call(joined) no_outbound_call outbound_call " +
				"delivered(outbound call)",
		},
		"parked, and delivered in the next call": {
			[]func(time.Time) job.Rule{
				finish, claimDelivery, posted("410"), settle(job.StateParked, ""),
				func(now time.Time) job.Rule { return job.Unpark(now, "planted", now.Add(time.Hour)) },
				claimDelivery, posted("200"),
				func(now time.Time) job.Rule { return job.RecordText(now, 0) },
				claimDelivery, posted("200"), settle(job.StateDelivered, ""),
			},
			"finished delivery(410) parked next_call delivery(200) text delivery(200) delivered(next call)",
		},
		"redriven": {
			[]func(time.Time) job.Rule{
				func(now time.Time) job.Rule { return job.Finish(now, failed, true, secret) },
				settle(job.StateDelivered, ""),
				func(now time.Time) job.Rule { return job.Redrive(now.Add(2*time.Hour), "m") },
				settle(job.StateUndelivered, "planted: "+secret),
			},
			"failed(error) delivered redriven undelivered",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := job.NewRecord(j, job.Policy{}, start.Add(time.Hour), "m", start, time.Second)
			r = r.Queued(start.Add(-1500 * time.Millisecond))
			now := start
			for _, rule := range row.rules {
				now = now.Add(time.Second)
				next, err := rule(now).Apply(r)
				if err != nil {
					t.Fatalf("%s: %v", rule(now).Name, err)
				}
				r = next
			}
			var got []string
			for _, s := range r.Steps() {
				text := string(s.Kind)
				if s.Detail != "" {
					text += "(" + s.Detail + ")"
				}
				if !s.Until.IsZero() {
					text += "+" + s.Until.Sub(s.At).String()
				}
				got = append(got, text)
			}
			if diff := cmp.Diff("received queued started "+row.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			steps := r.Steps()
			for i, want := range []time.Duration{-2 * time.Second, -1500 * time.Millisecond, 0, time.Second} {
				if got := steps[i].At; !got.Equal(start.Add(want).Truncate(time.Millisecond)) && name != "waits" {
					t.Errorf("%s at %s, want %s", steps[i].Kind, got, start.Add(want))
				}
			}
			if !slices.Contains(job.Ends(r.State), steps[len(steps)-1].Kind) {
				t.Errorf("a job that is %s ends with %s", r.State, steps[len(steps)-1].Kind)
			}
			for _, never := range []string{"planted", "5550", "http", "://"} {
				if strings.Contains(string(r.History), never) {
					t.Errorf("it contains %q: %s", never, r.History)
				}
			}
		})
	}
}

// TestHistoryOfOtherVersions tests that a history survives whatever another version wrote into it.
func TestHistoryOfOtherVersions(t *testing.T) {
	r := job.Record{State: job.StateRunning, Created: start, History: "s0,Z5=what,!,w,grs=1"}
	next, err := job.Release(start.Add(2*time.Second), 0, false, "").Apply(r)
	if err != nil || next.History != "s0,Z5=what,grs=1,arn=error" {
		t.Errorf("%q, %v", next.History, err)
	}
	var kinds []string
	for _, s := range next.Steps() {
		kinds = append(kinds, string(s.Kind))
	}
	if got := strings.Join(kinds, " "); got != "started unknown progress attempt_failed" {
		t.Errorf("%s", got)
	}
	// An earlier version wrote none.
	next, err = job.Claim(start.Add(time.Second), "m", 0).Apply(job.Record{State: job.StateRunning, Created: start})
	want := start.Add(time.Second).Truncate(time.Millisecond)
	if err != nil || len(next.Steps()) != 1 || !next.Steps()[0].At.Equal(want) {
		t.Errorf("%+v, %v", next.Steps(), err)
	}
}

// TestHistoryIsBounded adds any number of steps. The first and the last ones remain in their order, and the others
// are counted.
func TestHistoryIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := job.Record{State: job.StateRunning, Created: start}
		type step struct {
			at     time.Time
			detail string
		}
		var all []step
		now := start
		for i := range rapid.IntRange(0, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-100, 1<<32).Draw(t, "after")) * time.Millisecond)
			long := rapid.Bool().Draw(t, "long")
			r.State, r.LeaseExpiry, r.ProgressLeaseExpiry = job.StateDone, time.Time{}, time.Time{}
			r, _ = job.ClaimDelivery(now, 0).Apply(r)
			detail := strconv.Itoa(i)
			if long {
				detail = fmt.Sprintf("%d %s", i, strings.Repeat("x", 60))
			}
			r = r.Posted(detail)
			all = append(all, step{now, detail[:min(len(detail), 40)]})
		}
		if n := len(`"history":"",`) + len(r.History); n > 1024 {
			t.Fatalf("it has %d bytes", n)
		}
		steps := r.Steps()
		if len(steps) > job.MaxSteps {
			t.Fatalf("it has %d steps", len(steps))
		}
		next := 0
		for _, s := range steps {
			if s.Kind == job.StepDropped {
				n, err := strconv.Atoi(s.Detail)
				if err != nil || n < 1 || next == 0 {
					t.Fatalf("dropped %q after %d", s.Detail, next)
				}
				next += n
				continue
			}
			if next >= len(all) {
				t.Fatalf("it has more steps than happened")
			}
			if want := all[next]; s.Detail != want.detail || s.At.Sub(want.at.Truncate(time.Millisecond)).Abs() > 0 {
				t.Fatalf("step %d is %+v, want %+v", next, s, want)
			}
			next++
		}
		if next != len(all) {
			t.Fatalf("it accounts for %d of %d steps", next, len(all))
		}
		if len(all) <= 20 && len(steps) != len(all) && len(r.History) < 900 {
			t.Fatalf("%d of %d steps are left, in %d bytes", len(steps), len(all), len(r.History))
		}
	})
}
