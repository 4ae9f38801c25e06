package eventbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func readSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("undelivered.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return &schema
}

// reasons returns the values of [job.Reason] in its source, so that a new one cannot be
// forgotten here.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../job/undelivered.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, value)
		}
		return true
	})
	slices.Sort(found)
	return found
}

// TestSchemaIsComplete compares the schema with the types that it describes.
func TestSchemaIsComplete(t *testing.T) {
	schema := readSchema(t)
	var fields, required []string
	for f := range reflect.TypeFor[job.Undelivered]().Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
		if options == "" {
			required = append(required, name)
		}
	}
	slices.Sort(fields)
	if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(schema.Properties))); diff != "" {
		t.Errorf("the properties (-fields +schema):\n%s", diff)
	}
	slices.Sort(required)
	if diff := cmp.Diff(required, slices.Sorted(slices.Values(schema.Required))); diff != "" {
		t.Errorf("required (-fields +schema):\n%s", diff)
	}
	for name, p := range schema.Properties {
		if p.Description == "" {
			t.Errorf("%s is not described", name)
		}
	}
	var described []string
	for _, alternative := range schema.Properties["why"].OneOf {
		described = append(described, (*alternative.Const).(string))
		if alternative.Description == "" {
			t.Errorf("%v is not described", *alternative.Const)
		}
	}
	slices.Sort(described)
	if diff := cmp.Diff(reasons(t), described); diff != "" {
		t.Errorf("why (-source +schema):\n%s", diff)
	}
}

type (
	post    func() vapiclient.Receipt
	call    vapiclient.CallReceipt
	nothing struct{}
)

func (p post) Post(context.Context, string, vapi.ControlMessage) vapiclient.Receipt { return p() }

func (nothing) CallStatus(_ context.Context, id string) vapiclient.CallStatus {
	known := vapiclient.KnownCall{ID: id, Type: "inboundPhoneCall", CustomerNumber: "+4930123456"}
	return vapiclient.CallStatus{Ended: true, Call: known, Status: http.StatusOK}
}

func (nothing) OpenCall(
	context.Context, job.Call, job.WaitingResult, string, time.Time,
) ([]string, *job.OpenCall, error) {
	return nil, nil, nil
}

func (nothing) CallMade(context.Context, job.Call, string, string, []string, time.Time) error {
	return nil
}
func (nothing) NoCall(context.Context, job.Call, string, time.Time) error { return nil }
func (nothing) Wait(context.Context, job.Call, job.WaitingResult, time.Time) (bool, error) {
	return true, nil
}

func (c call) Call(context.Context, vapiclient.NewCall) vapiclient.CallReceipt {
	return vapiclient.CallReceipt(c)
}

func (nothing) CountCall(context.Context, time.Time, int) (bool, error) { return true, nil }
func (nothing) UncountCall(context.Context, time.Time) error            { return nil }

func (nothing) Load(context.Context, string) (job.CallRecord, error)              { return job.CallRecord{}, nil }
func (nothing) Learn(context.Context, string, vapi.Architecture, time.Time) error { return nil }
func (nothing) Ended(context.Context, string) (time.Time, error)                  { return time.Time{}, nil }

func (nothing) End(context.Context, string, time.Time) error { return nil }

// Park refuses every result, as if the list were full.
func (nothing) Park(context.Context, job.Call, time.Time, job.ParkedResult) (bool, error) {
	return false, nil
}

func (nothing) ChangeVisibility(context.Context, string, time.Duration) error { return nil }
func (nothing) Send(_ context.Context, m []queue.Message) []error             { return make([]error, len(m)) }

// brokenTable is a jobs table whose changes fail.
type brokenTable struct{ callback.Table }

func (brokenTable) Change(context.Context, string, job.Rule) (job.Record, error) {
	return job.Record{}, errors.New("the table is down")
}

// TestSchemaFitsEvents makes the callback function give up results for every reason, and
// checks what EventBridge receives.
func TestSchemaFitsEvents(t *testing.T) {
	described := readSchema(t)
	schema, err := described.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := job.Result{
		Status: job.StatusOK, Delivery: policy.DeliveryRespond,
		Content: "Your report: \u202e<b>Grüße</b>\x00 " + strings.Repeat("日本 ", 4000),
	}
	answers := func(verdict vapiclient.Verdict, status int) post {
		return func() vapiclient.Receipt {
			return vapiclient.Receipt{
				Verdict: verdict, Status: status, Err: errors.New("the control URL answered " + strconv.Itoa(status)),
			}
		}
	}
	after := func(after policy.AfterCall) func(*job.Outcome) {
		return func(o *job.Outcome) { o.AfterCall = after }
	}
	inGPTLive := func(o *job.Outcome) { o.Call.Architecture = vapi.ArchitectureGPTLive }
	seen := make(map[string]bool)
	for name, row := range map[string]struct {
		why       job.Reason
		post      post
		call      call
		result    job.Result
		change    func(*job.Outcome)
		receives  int
		broken    bool // the table
		forgotten bool // its customer, while it was parked
	}{
		"gone":   {why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404), result: text},
		"no URL": {why: job.ReasonNoControlURL, result: text, change: func(o *job.Outcome) { o.Call.ControlURL = "" }},
		"late": {
			why: job.ReasonDeadline, result: text, change: func(o *job.Outcome) { o.Deadline = time.Now().Add(-time.Second) },
		},
		"forbidden": {why: job.ReasonMisconfigured, post: answers(vapiclient.Misconfigured, 401), result: text},
		"refused":   {why: job.ReasonRefused, post: answers(vapiclient.MessageRefused, 400), result: text},
		"a refused action": {
			why: job.ReasonRefused, post: answers(vapiclient.MessageRefused, 422),
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl, Content: "One moment.",
				Control: json.RawMessage(`{"type":"transfer","destination":{"type":"number","number":"+1555"}}`),
			},
		},
		"down": {
			why: job.ReasonUnreachable, post: answers(vapiclient.TryAgain, 503), result: text, receives: callback.MaxPosts,
		},
		"no message": {
			why: job.ReasonUnspeakable,
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl, Control: json.RawMessage(`{"type":"dance"}`),
			},
		},
		"table": {why: job.ReasonUnclaimed, result: text, receives: callback.MaxPosts + 1, broken: true},
		"called?": {
			why: job.ReasonOutboundCallUnconfirmed, post: answers(vapiclient.Gone, 404),
			call: call{Verdict: vapiclient.Unknown, Err: errors.New("no answer")}, result: text,
			change: after(policy.AfterCallOutboundCall),
		},
		"not called": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404),
			call:   call{Verdict: vapiclient.Refused, Err: errors.New("403")},
			result: text, change: after(policy.AfterCallOutboundCall),
		},
		"not kept": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404), result: text, change: after(policy.AfterCallNextCall),
		},
		"no next call": {
			why: job.ReasonNoNextCall, result: text, change: func(o *job.Outcome) { o.NoNextCall = true },
		},
		"forgotten": {why: job.ReasonForgotten, result: text, forgotten: true},
		"a chat": {
			why: job.ReasonNoControlURL, result: text,
			change: func(o *job.Outcome) { o.Call.Type, o.Call.ControlURL = "chat", "" },
		},
		"a failure": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404),
			result: job.Result{Status: job.StatusError, Delivery: policy.DeliverySay, Content: "sorry"},
		},
		"a transfer": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404),
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl, Content: "One moment.",
				Control: json.RawMessage(`{"type":"transfer","destination":{"type":"number","number":"+15550100100"}}`),
			},
		},
		"an action": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404),
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl, Control: json.RawMessage(`{"type":"end-call"}`),
			},
		},
		"a web call": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404), result: text,
			change: func(o *job.Outcome) { o.Call.CustomerNumber, o.Call.AssistantID, o.Call.OrgID = "", "", "" },
		},
		"invisible": {
			why:    job.ReasonUnspeakable,
			result: job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "\u200b"},
		},
		"unconfirmed": {
			why: job.ReasonUnconfirmed, post: answers(vapiclient.Unconfirmed, 502), result: text, change: inGPTLive,
		},
		"an action of classic calls": {
			why: job.ReasonUnsupported, change: inGPTLive,
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl,
				Control: json.RawMessage(`{"type":"control","control":"mute-customer"}`),
			},
		},
		"a huge call": {
			why: job.ReasonCallGone, post: answers(vapiclient.Gone, 404),
			result: job.Result{
				Status: job.StatusOK, Delivery: policy.DeliveryControl,
				Control: json.RawMessage(
					`{"type":"handoff","destination":{"type":"assistant","x":"` + strings.Repeat("x", 500<<10) + `"}}`,
				),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []byte
				bus := answering(t, http.StatusOK, `{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}`, &asked)
				records := jobtable.New(new(memtable.Store))
				j := job.Job{ID: "call/t", ToolCallID: "t", Tool: "report", Call: job.Call{
					ID: "call", OrgID: "org", AssistantID: "assistant", PhoneNumberID: "phone", CustomerNumber: "+4930123456",
					ControlURL: "https://x.vapi.ai/call/control", Architecture: vapi.ArchitectureClassic,
				}}
				r, err := records.Claim(
					t.Context(), job.NewRecord(j, job.Policy{}, time.Now().Add(time.Hour), "m", time.Now(), time.Minute),
				)
				if err == nil {
					r, err = records.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), row.result, false, ""))
				}
				if err != nil {
					t.Fatal(err)
				}
				if row.forgotten {
					for _, rule := range []job.Rule{
						job.Settle(time.Now(), job.StateParked, ""), job.ForgetCustomer(time.Now()),
					} {
						if r, err = records.Change(t.Context(), r.ID, rule); err != nil {
							t.Fatal(err)
						}
					}
				}
				o := j.Outcome(r)
				if row.change != nil {
					row.change(&o)
				}
				body, err := o.Encode()
				if err != nil {
					t.Fatal(err)
				}
				cfg := callback.Config{
					Table: records, ControlClient: row.post, Results: nothing{}, Events: bus,
					CallTracker: nothing{}, Customers: nothing{}, CallLookup: nothing{},
					Log:           slog.New(slog.DiscardHandler),
					OutboundCalls: &callback.OutboundCalls{Client: row.call, Next: func(now time.Time) time.Time { return now }},
				}
				if row.broken {
					cfg.Table = brokenTable{records}
				}
				handler, err := callback.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := handler.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{{
					MessageId: "m", Body: body,
					Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(max(row.receives, 1))},
				}}}); err != nil {
					t.Fatal(err)
				}

				var in struct{ Entries []struct{ Detail string } }
				if err := json.Unmarshal(asked, &in); err != nil || len(in.Entries) != 1 {
					t.Fatalf("EventBridge received %.300s, %v", asked, err)
				}
				if n := len(in.Entries[0].Detail); n > 256<<10 {
					t.Errorf("EventBridge refuses an event of %d bytes", n)
				}
				var detail map[string]any
				if err := json.Unmarshal([]byte(in.Entries[0].Detail), &detail); err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(detail); err != nil {
					t.Errorf("%v: %.1000s", err, in.Entries[0].Detail)
				}
				// Readers must expect further fields, but each one here is described.
				for name := range detail {
					if described.Properties[name] == nil {
						t.Errorf("the schema does not describe %s", name)
					}
				}
				if detail["why"] != string(row.why) {
					t.Errorf("why is %v, want %s", detail["why"], row.why)
				}
				if strings.Contains(in.Entries[0].Detail, "/control") {
					t.Errorf("the event holds the control URL: %.1000s", in.Entries[0].Detail)
				}
				if content, _ := detail["content"].(string); strings.ContainsAny(content, "\u202e\x00") {
					t.Errorf("the content could pass for something else: %.40q", content)
				}
				// The schema refuses other reasons.
				detail["why"] = "because"
				if schema.Validate(detail) == nil {
					t.Error("the schema accepts any reason")
				}
				seen[string(row.why)] = true
			})
		})
	}
	if diff := cmp.Diff(reasons(t), slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("reasons (-source +tested):\n%s", diff)
	}
}
