package pipeline_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// scanRecords looks for values in the records of settled jobs, and in all records of calls, customers and
// leases. It returns how many jobs are settled. A result stays, and may repeat what it was asked.
func (w *world) scanRecords(values ...string) (settled int) {
	w.t.Helper()
	scan := func(name string, record any) {
		w.t.Helper()
		encoded, err := job.EncodeRecord(record)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, value := range values {
			if strings.Contains(string(encoded), value) {
				w.t.Errorf("%q is in the record of %s: %.2000s", value, name, encoded)
			}
		}
	}
	for _, r := range w.Records.Records() {
		if r.State.Settled() {
			settled++
			r.Result = nil
			scan(string(r.State)+" "+r.ID, r)
		}
	}
	for _, r := range w.Records.Calls().(interface{ Records() []job.CallRecord }).Records() {
		scan("call "+r.CallID, r)
	}
	for _, r := range w.Records.Customers().(interface{ Records() []job.CustomerRecord }).Records() {
		scan("customer "+r.Customer, r)
	}
	for _, r := range w.Records.Renewals().(interface{ Records() []job.Renewal }).Records() {
		scan("lease "+r.JobID, r)
	}
	return settled
}

// TestSettledRecords ends jobs in every way, and looks for the arguments, the secrets in them, the number, the
// control URL and the tool state in their records.
func TestSettledRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "planted-secret-4711"
		argument := `{"text":"planted argument ` + secret + ` ` + plantedNumber + `"}`
		calls := receipts(func(controlURL string) vapiclient.Receipt {
			if strings.Contains(controlURL, "gone") {
				return gone
			}
			return delivered
		})
		o := new(office)
		now := func(t time.Time) time.Time { return t }
		w := newWorld(t, all(calls.decorate, outside, func(cfg *pipeline.Config) {
			cfg.OutboundCalls = &callback.OutboundCalls{
				Client: new(simcall.API), Next: now, AssistantID: "assistant", PhoneNumberID: "line",
			}
		}), o.approval(24*time.Hour),
			changed("suspends", func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				call.Progress(ctx, "Looking for "+in.Text)
				if call.Resumes == 0 {
					return asynctool.ResumeIn(time.Minute, in), nil
				}
				return asynctool.Text("Done."), nil
			}, func(t *asynctool.Tool[input]) { t.Deadline = time.Hour }),
			changed("drops", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Text("Done."), nil
			}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.Drop }),
			changed("parks", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Text("Done."), nil
			}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall }),
			changed("rings", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Text("Done."), nil
			}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.CallBack }),
			changed("replaces", func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if call.Resumes == 0 {
					return asynctool.ResumeIn(time.Minute, in), nil
				}
				return asynctool.Text("Done."), nil
			}, func(t *asynctool.Tool[input]) { t.Deadline, t.Repeat = time.Hour, asynctool.Replace }),
			tool("fails", 2, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Result{}, errors.New("it is closed")
			}),
			takes("cancels", time.Hour, true))
		for _, callID := range []string{"live", "gone"} {
			w.post(webhook(callID, "https://x.vapi.ai/"+callID+"/planted/control",
				toolCall{"a", "approval", argument}, toolCall{"b", "suspends", argument}, toolCall{"c", "drops", argument},
				toolCall{"d", "parks", argument}, toolCall{"e", "rings", argument}, toolCall{"f", "replaces", argument},
				toolCall{"g", "fails", argument}, toolCall{"h", "cancels", argument}, toolCall{"i", "unknown", argument},
				toolCall{"j", "fails", `{"wrong":` + argument + `}`}))
			w.post(webhook(callID, "https://x.vapi.ai/"+callID+"/planted/control", toolCall{"k", "replaces", argument}))
			time.Sleep(10 * time.Second)
			w.cancels(callID, "l", `{}`)
			if status := w.complete(o.url(callID+"/a"), `{"result":"Approved."}`); status != http.StatusOK {
				t.Errorf("the completion was answered with %d", status)
			}
		}
		time.Sleep(2 * time.Hour)
		w.drained()
		w.post(statusUpdate("next", "in-progress")) // the parked result
		time.Sleep(time.Hour)
		w.drained()
		states := make(map[job.State]int)
		for _, r := range w.Records.Records() {
			states[r.State]++
			if r.Result != nil && (r.Result.Content == "" || r.Result.Content == argument) {
				t.Errorf("the result of %s %s is %+v", r.Tool, r.State, r.Result)
			}
		}
		n := w.scanRecords("planted", secret)
		if n != 22 || states[job.StateDelivered] < 8 || states[job.StateUndelivered] < 5 || states[job.StateCancelled] < 2 {
			t.Errorf("%d jobs are settled: %v", n, states)
		}
	})
}

// TestForgottenCustomer deletes what is stored about a customer whose result is parked. It ends in an event, also
// if the operator's message is lost, and the customer's next call hears nothing.
func TestForgottenCustomer(t *testing.T) {
	for name, lost := range map[string]bool{"sent": false, "the message is lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := receipts(func(controlURL string) vapiclient.Receipt {
					if controlURL == "first" {
						return gone
					}
					return delivered
				})
				w := newWorld(t, calls.decorate,
					changed("report", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
						return asynctool.Text("the planted report"), nil
					}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall }))
				w.post(webhook("first", "", toolCall{"a", "report", `{"text":"x"}`}))
				w.drained()
				cfg := operator.CustomersConfig{
					Table: w.Table, Lists: w.Customers, Outcomes: w.Results, Search: w.Records.Search,
					Copies: operator.CustomerCopies{
						Names: w.Customers.ReplayNames, Search: w.Records.ReplaysOf, Delete: w.Records.Replays().Delete,
					},
					Log: slog.New(slog.DiscardHandler),
				}
				if lost {
					cfg.Outcomes = failing{}
				}
				customers, err := operator.NewCustomers(cfg)
				if err != nil {
					t.Fatal(err)
				}
				found, err := customers.Find(t.Context(), plantedNumber, "", nil)
				if err != nil || len(found.Parked) != 1 || found.Lists != 1 {
					t.Fatalf("%+v, %v", found, err)
				}
				if f, err := customers.Forget(t.Context(), found); err != nil || f.Results != 1 || (f.Unsent == 1) != lost {
					t.Errorf("%+v, %v", f, err)
				}
				w.post(statusUpdate("second", "in-progress"))
				time.Sleep(3 * 24 * time.Hour)
				w.drained()
				sent := w.Events.Sent()
				if len(sent) != 1 || sent[0].Reason != job.ReasonForgotten || sent[0].CustomerNumber != "" ||
					strings.Contains(sent[0].Content, "planted") {
					t.Errorf("%+v", sent)
				}
				if heard := w.messages("second"); len(heard) != 0 {
					t.Errorf("the next call heard %q", heard)
				}
				if r := w.record("first/a"); r.State != job.StateUndelivered {
					t.Errorf("the record is %s", r.State)
				}
			})
		})
	}
}

// failing is a queue that refuses every message.
type failing struct{}

func (failing) Send(_ context.Context, messages []queue.Message) []error {
	return slices.Repeat([]error{errors.New("down")}, len(messages))
}
