package callback_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// forgeries are calls that the webhook describes in another way than Vapi's API, or that it does not know.
var forgeries = map[string]struct {
	change func(*vapiclient.KnownCall) // nil means that the API does not know the call
	detail string
}{
	"an unknown call":   {nil, "another call"},
	"another customer":  {func(c *vapiclient.KnownCall) { c.CustomerNumber = "+4915100000002" }, "another customer"},
	"a longer number":   {func(c *vapiclient.KnownCall) { c.CustomerNumber += "0" }, "another customer"},
	"no customer":       {func(c *vapiclient.KnownCall) { c.CustomerNumber = "" }, "another customer"},
	"another assistant": {func(c *vapiclient.KnownCall) { c.AssistantID = "assistant-9" }, "another assistant"},
	"another line":      {func(c *vapiclient.KnownCall) { c.PhoneNumberID = "phone-9" }, "another phone number"},
}

// forge makes Vapi's API contradict the webhooks of a call.
func (w *world) forge(call string, change func(*vapiclient.KnownCall)) {
	known := w.known[call]
	if delete(w.known, call); change != nil {
		change(&known)
		w.known[call] = known
	}
}

// TestForgedFirstCall has results of calls that Vapi does not confirm. None is parked, and no customer is
// called: an operator gets them.
func TestForgedFirstCall(t *testing.T) {
	for name, tt := range forgeries {
		for _, after := range []policy.AfterCall{policy.AfterCallNextCall, policy.AfterCallOutboundCall} {
			t.Run(name+", "+string(after), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.answer = answers(gone)
					w.forge("call-1", tt.change)
					w.send(w.outcome(after))
					w.run(2 * time.Hour)
					w.wantCalls(0, job.StateUndelivered, job.ReasonCallGone)
					if len(w.events) == 0 {
						return
					}
					if d := w.events[0].Detail; !strings.Contains(d, tt.detail) {
						t.Errorf("the detail is %q, want %q in it", d, tt.detail)
					}
					if all := w.parked(); len(all) != 0 {
						t.Errorf("parked %v", all)
					}
				})
			})
		}
	}
}

// TestForgedNextCall has a webhook of a call that is not one of the customer whose parked results it asks for.
// Nothing is posted there, and the customer's own next call gets the result.
func TestForgedNextCall(t *testing.T) {
	for name, tt := range forgeries {
		for _, late := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.answer = answers(gone)
					first := w.outcome(policy.AfterCallNextCall)
					w.send(first)
					w.run(time.Minute)
					w.answer = answers(delivered)
					w.forge("call-2", tt.change)
					forged := w.unpark("call-2")
					if late { // a webhook can say that its call is nearly over
						forged.Deadline = w.now().Add(-time.Second)
					}
					w.send(forged)
					w.run(10 * time.Minute)
					w.want(1, job.StateParked, "", 0)
					if diff := cmp.Diff([]string{first.JobID}, w.parked()); diff != "" {
						t.Error(diff)
					}
					w.send(forged)
					w.send(w.unpark("call-3"))
					w.run(time.Minute)
					w.want(2, job.StateDelivered, "", 0)
					if w.urls[1] != controlURL+"/call-3" {
						t.Errorf("posted to %s", w.urls[1])
					}
				})
			})
		}
	}
}

// TestCallOfASquad has calls of which Vapi's API names neither the assistant nor the phone number.
func TestCallOfASquad(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(gone)
		w.forge("call-1", func(c *vapiclient.KnownCall) { c.AssistantID, c.PhoneNumberID = "", "" })
		w.send(w.outcome(policy.AfterCallOutboundCall))
		w.run(time.Minute)
		w.wantCalls(1, job.StateDelivered, "")
	})
}

// TestVapisTypeOfTheCall has calls whose type is in Vapi's answer, or in no answer at all.
func TestVapisTypeOfTheCall(t *testing.T) {
	for name, tt := range map[string]struct {
		claimed, known string
		calls          int
	}{
		"a telephone call": {"", "inboundPhoneCall", 1},
		"as claimed":       {"outboundPhoneCall", "", 1},
		"a web call":       {"", "webCall", 0},
		"a forged one":     {"inboundPhoneCall", "webCall", 0},
		"unknown":          {"", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				w.forge("call-1", func(c *vapiclient.KnownCall) { c.Type = tt.known })
				o := w.outcome(policy.AfterCallOutboundCall)
				o.Call.Type = tt.claimed
				w.send(o)
				w.run(time.Minute)
				if len(w.calls) != tt.calls {
					t.Errorf("%d outbound calls, want %d", len(w.calls), tt.calls)
				}
			})
		})
	}
}

// TestVapiIsDown has an API that does not answer for a while, or never. It is asked again, and nothing is lost.
func TestVapiIsDown(t *testing.T) {
	down := vapiclient.CallStatus{Status: 503, Err: errors.New("Vapi's GET /call answered 503")}
	forbidden := vapiclient.CallStatus{Status: 401, Err: errors.New("Vapi's GET /call answered 401")}
	t.Run("while a result is parked", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer, w.answerAsk = answers(gone), answers(down, forbidden, ended)
			w.send(w.outcome(policy.AfterCallNextCall))
			w.run(time.Minute)
			w.want(-1, job.StateParked, "", 0)
		})
	})
	t.Run("for ever", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer, w.answerAsk = answers(gone), answers(down)
			w.send(w.outcome(policy.AfterCallNextCall))
			w.run(2 * time.Hour)
			w.want(-1, job.StateUndelivered, job.ReasonCallGone, 0)
		})
	})
	t.Run("in the next call", func(t *testing.T) {
		for _, ever := range []bool{false, true} {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				w.send(w.outcome(policy.AfterCallNextCall))
				w.run(time.Minute)
				w.answer, w.answerAsk = answers(delivered), answers(down, down, down, live)
				if ever {
					w.answerAsk = answers(down)
				}
				w.send(w.unpark("call-2"))
				w.run(2 * time.Hour)
				if ever {
					w.want(1, job.StateParked, "", 0)
				} else {
					w.want(2, job.StateDelivered, "", 0)
				}
			})
		}
	})
}

// TestWithoutThePrivateKey checks that nothing is parked without the key, and that what is parked stays so.
func TestWithoutThePrivateKey(t *testing.T) {
	without := func(cfg *callback.Config) { cfg.CallLookup, cfg.OutboundCalls = nil, nil }
	inChangedWorld(t, without, func(t *testing.T, w *world) {
		w.answer = answers(gone)
		w.send(w.outcome(policy.AfterCallNextCall))
		w.run(time.Minute)
		w.want(1, job.StateUndelivered, job.ReasonCallGone, 0)
		if d := w.events[0].Detail; !strings.Contains(d, "private key") {
			t.Errorf("the detail is %q", d)
		}
	})
	inChangedWorld(t, without, func(t *testing.T, w *world) {
		o := w.outcome(policy.AfterCallNextCall)
		claimed := w.change(o.JobID, job.ClaimDelivery(w.now(), time.Minute))
		if err := w.table.Settle(t.Context(), claimed, w.now(), job.StateParked, ""); err != nil {
			t.Fatal(err)
		}
		w.send(w.unpark("call-2"))
		w.run(time.Minute)
		w.want(0, job.StateParked, "", 0)
	})
}
