package job_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

// words generates texts like those of callers, models and attackers.
func words() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringOfN(
			rapid.SampledFrom([]rune("\x00\x01\x1b\x7f\u0080<>&\"\\/\n\t\u2028\uFFFD\uFFFE\uFFFFü日😀")), 0, 20, -1,
		),
		rapid.StringMatching(`[a-z0-9-]{1,40}`),
	)
}

func times() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		seconds := rapid.Int64Range(0, 4e9).Draw(t, "seconds")
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "zone"))
		return time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).In(zone)
	})
}

func object() *rapid.Generator[json.RawMessage] {
	return rapid.Custom(func(t *rapid.T) json.RawMessage {
		b, err := json.Marshal(rapid.MapOfN(words(), words(), 0, 4).Draw(t, "object"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func calls() *rapid.Generator[job.Call] {
	return rapid.Custom(func(t *rapid.T) job.Call {
		return job.Call{
			ID: words().Draw(t, "call"), OrgID: words().Draw(t, "org"), Type: words().Draw(t, "type"),
			AssistantID: words().Draw(t, "assistant"), CustomerNumber: words().Draw(t, "number"),
			ControlURL:    words().Draw(t, "control URL"),
			PhoneNumberID: words().Draw(t, "phone number"), SessionID: words().Draw(t, "session"),
			Architecture: vapi.Architecture(words().Draw(t, "architecture")),
		}
	})
}

func jobs() *rapid.Generator[job.Job] {
	return rapid.Custom(func(t *rapid.T) job.Job {
		j := job.Job{
			Version: 1, ToolCallID: words().Draw(t, "tool call"), Tool: "t" + words().Draw(t, "tool"),
			Arguments: object().Draw(t, "arguments"), Call: calls().Draw(t, "call"), Async: rapid.Bool().Draw(t, "async"),
			ReceivedAt: times().Draw(t, "received at"), CallEnds: times().Draw(t, "call ends"),
			AnswerUntil: times().Draw(t, "answer until"),
		}
		j.ID = job.ID(j.Call.ID, j.ToolCallID, j.Tool, j.Arguments)
		if rapid.Bool().Draw(t, "accepted by an earlier version") {
			j.ID = job.EarlierID(j.Call.ID, j.ToolCallID)
		}
		return j
	})
}

// jsonText compares JSON by its values, as encoding it again may escape more.
var jsonText = cmp.Transformer("JSON", func(m json.RawMessage) (v any) {
	if len(m) > 0 && json.Unmarshal(m, &v) != nil {
		return string(m)
	}
	return v
})

func TestJobRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := jobs().Draw(t, "job")
		message, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := (queue.Message{Body: message}).Check(); err != nil {
			t.Fatalf("refused by the queue: %v", err)
		}
		got, err := job.Decode(message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, jsonText); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
		if again, err := got.Encode(); err != nil || again != message {
			t.Fatalf("encoded again: %q, want %q (%v)", again, message, err)
		}
	})
}

func TestOutcomeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := jobs().Draw(t, "job")
		result := job.Result{
			Status: rapid.SampledFrom([]job.Status{job.StatusOK, job.StatusError}).Draw(t, "status"),
			Delivery: rapid.SampledFrom(
				[]policy.Delivery{policy.DeliveryRespond, policy.DeliverySilent, policy.DeliverySay, policy.DeliveryControl},
			).Draw(t, "delivery"),
			Content: "c" + words().Draw(t, "content"),
		}
		if result.Delivery == policy.DeliveryControl {
			result.Control = object().Draw(t, "control")
		}
		r := job.Record{Result: &result, Deadline: times().Draw(t, "deadline"), Asked: words().Draw(t, "asked")}
		r.Policy.AfterCall = rapid.SampledFrom(
			[]policy.AfterCall{
				policy.AfterCallEvent, policy.AfterCallDrop, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
			},
		).Draw(t, "after the call")
		want := j.Outcome(r)
		switch rapid.IntRange(0, 2).Draw(t, "what it is of") {
		case 1:
			want = j.ProgressOutcome(
				rapid.IntRange(0, 1e9).Draw(t, "sequence"), "c"+words().Draw(t, "line"), rapid.Bool().Draw(t, "silent"), r,
			)
		case 2:
			// A result that is delivered in a later call still belongs to the job.
			j.Call = calls().Draw(t, "later call")
			r.ID = j.ID
			want = job.ParkedResult{JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool}.Outcome(r, j.Call)
		}
		if want.JobID != j.ID || want.Tool != j.Tool || want.Call != j.Call || want.ToolCallID != j.ToolCallID {
			t.Fatalf("the outcome %+v belongs to another job", want)
		}
		message, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := (queue.Message{Body: message}).Check(); err != nil {
			t.Fatalf("refused by the queue: %v", err)
		}
		got, err := job.DecodeOutcome(message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, jsonText); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
	})
}

func TestOutcomeOfARecord(t *testing.T) {
	j := newJob()
	result := job.Result{Status: job.StatusError, Delivery: policy.DeliverySay, Content: "sorry"}
	r := job.Record{
		ID: j.ID, Result: &result, Deadline: start, Asked: `{"city":"Rome"}`,
		Policy: job.Policy{Delivery: policy.DeliverySilent, AfterCall: policy.AfterCallOutboundCall},
	}
	want := job.Outcome{
		Version: 1, JobID: "call/tool-call", ToolCallID: "tool-call", Tool: "weather", Call: j.Call,
		Kind: job.KindFinal, Result: result, Deadline: start, AfterCall: policy.AfterCallOutboundCall,
		Asked: `{"city":"Rome"}`,
	}
	if diff := cmp.Diff(want, j.Outcome(r)); diff != "" {
		t.Errorf("the result (-want +got):\n%s", diff)
	}
	want.Call, want.Earlier = job.Call{ID: "next", ControlURL: "https://calls.example/next"}, true
	if diff := cmp.Diff(
		want, job.ParkedResult{JobID: j.ID, ToolCallID: "tool-call", Tool: "weather"}.Outcome(r, want.Call),
	); diff != "" {
		t.Errorf("the parked result (-want +got):\n%s", diff)
	}
	line := func(sequence int, delivery policy.Delivery, own, respond bool) job.Outcome {
		return job.Outcome{
			Version: 1, JobID: "call/tool-call", ToolCallID: "tool-call", Tool: "weather", Call: j.Call,
			Kind: job.KindProgress, Sequence: sequence, Respond: respond, Deadline: start, Asked: `{"city":"Rome"}`,
			Result: job.Result{Status: job.StatusOK, Delivery: delivery, Content: "half", Own: own},
		}
	}
	r.Progress = &job.ProgressLine{Sequence: 3, Text: "half", At: start}
	silent, asking := r, r
	silent.Policy.ExternalProgress, asking.Policy.ExternalProgress = policy.DeliverySilent, policy.DeliveryRespond
	for name, row := range map[string]struct {
		got, want job.Outcome
		external  bool
	}{
		"a line":         {j.ProgressOutcome(3, "half", false, r), line(3, policy.DeliverySay, true, false), false},
		"a silent line":  {j.ProgressOutcome(3, "half", true, r), line(3, policy.DeliverySilent, true, false), false},
		"a hold message": {j.ProgressOutcome(0, "half", false, r), line(0, policy.DeliverySay, true, false), false},
		"a hold message of the version before": {
			line(0, policy.DeliverySay, false, false), line(0, policy.DeliverySay, false, false), false,
		},
		"a line of the version before": {
			line(3, policy.DeliverySay, false, false), line(3, policy.DeliverySay, false, false), true,
		},
		"of an external system": {
			j.ExternalProgressOutcome(false, r), line(3, policy.DeliverySilent, false, false), true,
		},
		"of an external system, silently": {
			j.ExternalProgressOutcome(false, silent), line(3, policy.DeliverySilent, false, false), true,
		},
		"of an external system that may ask for an answer": {
			j.ExternalProgressOutcome(false, asking), line(3, policy.DeliverySilent, false, true), true,
		},
		"of an external system that asks for none": {
			j.ExternalProgressOutcome(true, asking), line(3, policy.DeliverySilent, false, false), true,
		},
	} {
		if diff := cmp.Diff(row.want, row.got); diff != "" || row.got.ExternalProgress() != row.external {
			t.Errorf("%s: external %t, want %t; (-want +got):\n%s", name, row.got.ExternalProgress(), row.external, diff)
		}
	}
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want any
		var message string
		var err error
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			j := jobs().Draw(t, "job")
			want = j
			message, err = j.Encode()
		case 1:
			w := job.WakeUp{JobID: "j" + words().Draw(t, "job"), Number: rapid.IntRange(1, 1e9).Draw(t, "number")}
			want = w
			message, err = w.Encode()
		case 2:
			a := job.Arrival{Call: calls().Draw(t, "call"), CallEnds: times().Draw(t, "call ends")}
			a.Call.ID = "c" + a.Call.ID
			want = a
			message, err = a.Encode()
		case 3:
			c := job.Check{JobID: "j" + words().Draw(t, "job")}
			want = c
			message, err = c.Encode()
		case 4:
			s := job.Sweep{From: words().Draw(t, "from")}
			want = s
			message, err = s.Encode()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := (queue.Message{Body: message}).Check(); err != nil {
			t.Fatalf("refused by the queue: %v", err)
		}
		got, err := job.DecodeMessage(message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, jsonText); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
		// Another message is never decoded as a job, and none of them as an outcome.
		if _, err := job.Decode(message); (err == nil) != (reflect.TypeOf(want) == reflect.TypeFor[job.Job]()) {
			t.Fatalf("decoded as a job: %v", err)
		}
		if _, err := job.DecodeOutcome(message); err == nil {
			t.Fatal("decoded as an outcome")
		}
	})
}

// TestNonCharacters tests the two characters that JSON accepts unescaped and SQS
// refuses.
func TestNonCharacters(t *testing.T) {
	j := newJob()
	j.Arguments = json.RawMessage("{\"q\":\"a\uFFFEb\\\\\uFFFF\"}")
	message, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(message, "\uFFFE\uFFFF") {
		t.Errorf("not escaped in %q", message)
	}
	got, err := job.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	var arguments struct{ Q string }
	if err := json.Unmarshal(got.Arguments, &arguments); err != nil || arguments.Q != "a\uFFFEb\\\uFFFF" {
		t.Errorf("decoded %q, %v", arguments.Q, err)
	}
}

func TestEncodeFails(t *testing.T) {
	for name, arguments := range map[string]string{"no JSON": "{", "nothing": ""} {
		j := newJob()
		j.Arguments = json.RawMessage(arguments)
		if message, err := j.Encode(); err == nil {
			t.Errorf("arguments that are %s: %s", name, message)
		}
	}
	j := newJob()
	j.CallEnds = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	if message, err := j.Encode(); err == nil {
		t.Errorf("a year that JSON cannot encode: %s", message)
	}
}

func newJob() job.Job {
	return job.Job{
		ID: "call/tool-call", ToolCallID: "tool-call", Tool: "weather", Arguments: json.RawMessage(`{"city":"Riga"}`),
		Call: job.Call{ID: "call"}, ReceivedAt: start, CallEnds: start.Add(time.Hour),
	}
}

const hashed = "j_vuti7uhnx2lhl2ba5zawzxqoxx" // has the form of an id

var hashedID = regexp.MustCompile("^j_[a-z2-7]{26}$")

// These messages are from an earlier version.
const (
	aJob = `{"version":1,"id":"c/t","toolCallId":"t","tool":"weather","arguments":{},"call":{"id":"c"},` +
		`"async":true,"receivedAt":"2026-07-01T12:00:00Z","callEnds":"2026-07-01T13:00:00Z"}`
	aWake     = `{"version":1,"kind":"wake","jobId":"c/t","wake":2}`
	anArrival = `{"version":1,"kind":"arrival","call":{"id":"c"},"callEnds":"2026-07-01T13:00:00Z"}`
	aCheck    = `{"version":1,"kind":"check","jobId":"c/t"}`
	aPost     = `{"version":1,"kind":"post","jobId":"c/t","header":{"X-Sign":["a"]},"body":"/w==",` +
		`"received":"2026-07-01T12:00:00Z"}`
	anOutcome = `{"version":1,"jobId":"c/t","toolCallId":"t","tool":"weather","call":{"id":"c"},"kind":"final",` +
		`"result":{"status":"ok","content":"x","delivery":"respond"},"deadline":"2026-07-01T13:00:00Z"}`
)

func TestDecode(t *testing.T) {
	for name, row := range map[string]struct {
		old, new string // what is changed in a good job
		ok       bool
	}{
		"good":                      {ok: true},
		"the id of a hash":          {old: `"id":"c/t"`, new: `"id":"` + hashed + `"`, ok: true},
		"the id of a shorter hash":  {old: `"id":"c/t"`, new: `"id":"` + hashed[:27] + `"`},
		"the id of another hash":    {old: `"id":"c/t"`, new: `"id":"` + strings.ToUpper(hashed) + `"`},
		"a member of a later minor": {old: `"async"`, new: `"later":1,"async"`, ok: true},
		"an older version":          {old: `"version":1`, new: `"version":0`},
		"a newer version":           {old: `"version":1`, new: `"version":2`},
		"no version":                {old: `"version":1,`, new: ``},
		"a version that is a text":  {old: `"version":1`, new: `"version":"1"`},
		"another call's id":         {old: `"id":"c/t"`, new: `"id":"d/t"`},
		"another tool call's id":    {old: `"toolCallId":"t"`, new: `"toolCallId":"u"`},
		"no id":                     {old: `"id":"c/t"`, new: `"id":""`},
		"no tool":                   {old: `"tool":"weather"`, new: `"tool":""`},
		"no receipt time":           {old: `"receivedAt":"2026-07-01T12:00:00Z",`, new: ``},
		"no end of the call":        {old: `"callEnds":"2026-07-01T13:00:00Z"`, new: `"x":1`},
		"a time that is none":       {old: `"2026-07-01T13:00:00Z"`, new: `"soon"`},
		"a call that is no object":  {old: `{"id":"c"}`, new: `"c"`},
		"something after it":        {old: `13:00:00Z"}`, new: `13:00:00Z"} x`},
		"half of it": {
			old: `"async":true,"receivedAt":"2026-07-01T12:00:00Z","callEnds":"2026-07-01T13:00:00Z"}`, new: ``,
		},
		"an outcome in its place": {old: aJob, new: anOutcome},
		"nothing":                 {old: aJob, new: ``},
		"null":                    {old: aJob, new: `null`},
		"an array":                {old: aJob, new: `[]`},
		"many brackets":           {old: aJob, new: strings.Repeat("[", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := job.Decode(changed(t, aJob, row.old, row.new))
			verdict(t, err, row.ok)
			if row.ok && (j.ID != "c/t" && j.ID != hashed || j.Tool != "weather" || !j.Async || string(j.Arguments) != "{}") {
				t.Errorf("decoded %+v", j)
			}
		})
	}
}

func TestDecodeMessage(t *testing.T) {
	arrival := job.Arrival{Call: job.Call{ID: "c"}, CallEnds: start.Add(time.Hour)}
	wake := job.WakeUp{JobID: "c/t", Number: 2}
	post := job.Post{JobID: "c/t", Header: http.Header{"X-Sign": {"a"}}, Body: []byte("\xff"), Received: start}
	emptyPost := post
	emptyPost.Body = nil
	for name, row := range map[string]struct {
		message, old, new string
		want              any // nil means unreadable
	}{
		"wake":                        {message: aWake, want: wake},
		"wake of a later minor":       {message: aWake, old: `"wake":2`, new: `"wake":2,"later":[]`, want: wake},
		"wake of a newer version":     {message: aWake, old: `"version":1`, new: `"version":2`},
		"wake without a version":      {message: aWake, old: `"version":1,`, new: ``},
		"wake of no job":              {message: aWake, old: `"jobId":"c/t",`, new: ``},
		"wake without a number":       {message: aWake, old: `,"wake":2`, new: ``},
		"wake of number 0":            {message: aWake, old: `"wake":2`, new: `"wake":0`},
		"wake of a negative number":   {message: aWake, old: `"wake":2`, new: `"wake":-2`},
		"wake of a fraction":          {message: aWake, old: `"wake":2`, new: `"wake":1.5`},
		"arrival":                     {message: anArrival, want: arrival},
		"arrival of a newer version":  {message: anArrival, old: `"version":1`, new: `"version":2`},
		"arrival of no call":          {message: anArrival, old: `"call":{"id":"c"},`, new: ``},
		"arrival of null":             {message: anArrival, old: `{"id":"c"}`, new: `null`},
		"arrival of a call of no id":  {message: anArrival, old: `{"id":"c"}`, new: `{}`},
		"arrival without an end":      {message: anArrival, old: `,"callEnds":"2026-07-01T13:00:00Z"`, new: ``},
		"check":                       {message: aCheck, want: job.Check{JobID: "c/t"}},
		"check of no job":             {message: aCheck, old: `,"jobId":"c/t"`, new: ``},
		"sweep":                       {message: `{"version":1,"kind":"sweep"}`, want: job.Sweep{}},
		"sweep, continued":            {message: `{"version":1,"kind":"sweep","from":"x"}`, want: job.Sweep{From: "x"}},
		"sweep, newer version":        {message: `{"version":2,"kind":"sweep"}`},
		"check, newer version":        {message: aCheck, old: `"version":1`, new: `"version":2`},
		"post":                        {message: aPost, want: post},
		"post without a body":         {message: aPost, old: `,"body":"/w=="`, new: ``, want: emptyPost},
		"post of no job":              {message: aPost, old: `"jobId":"c/t",`, new: ``},
		"post without a time":         {message: aPost, old: `,"received":"2026-07-01T12:00:00Z"`, new: ``},
		"post, broken base64":         {message: aPost, old: `/w==`, new: `/w`},
		"post, newer version":         {message: aPost, old: `"version":1`, new: `"version":2`},
		"another kind":                {message: aWake, old: `"wake","`, new: `"sleep","`},
		"the kind of an outcome":      {message: anOutcome},
		"an empty kind":               {message: aWake, old: `"kind":"wake"`, new: `"kind":""`},
		"a kind that is null":         {message: aWake, old: `"kind":"wake"`, new: `"kind":null`},
		"a kind that is a number":     {message: aWake, old: `"kind":"wake"`, new: `"kind":1`},
		"a wake that lost its kind":   {message: aWake, old: `"kind":"wake",`, new: ``},
		"a job with a kind":           {message: aJob, old: `"version":1`, new: `"kind":"job","version":1`},
		"a job without a tool":        {message: aJob, old: `"tool":"weather"`, new: `"tool":""`},
		"nothing":                     {message: ``},
		"null":                        {message: `null`},
		"an array":                    {message: `[]`},
		"a text":                      {message: `"wake"`},
		"half of it":                  {message: aWake[:20]},
		"something behind it":         {message: aWake + "x"},
		"many brackets behind a kind": {message: `{"kind":` + strings.Repeat("[", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := job.DecodeMessage(changed(t, row.message, row.old, row.new))
			verdict(t, err, row.want != nil)
			if diff := cmp.Diff(row.want, got); row.want != nil && diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
	got, err := job.DecodeMessage(aJob)
	want, wantErr := job.Decode(aJob)
	if err != nil || wantErr != nil || cmp.Diff(any(want), got) != "" {
		t.Errorf("a job became %+v, %v", got, err)
	}
}

func TestDecodeOutcome(t *testing.T) {
	for name, row := range map[string]struct {
		old, new string
		ok       bool
	}{
		"good":      {ok: true},
		"a failure": {old: `"status":"ok"`, new: `"status":"error"`, ok: true},
		"silent":    {old: `"respond"`, new: `"silent"`, ok: true},
		"say":       {old: `"respond"`, new: `"say"`, ok: true},
		"control": {
			old: `"content":"x","delivery":"respond"`, new: `"delivery":"control","control":{"type":"end-call"}`, ok: true,
		},
		"control without a message": {old: `"respond"`, new: `"control"`},
		"an older version":          {old: `"version":1`, new: `"version":0`},
		"a newer version":           {old: `"version":1`, new: `"version":2`},
		"a line": {
			old: `"final","result":{"status":"ok","content":"x","delivery":"respond"}`,
			new: `"progress","sequence":1,"result":{"status":"ok","content":"x","delivery":"say"}`, ok: true,
		},
		"a silent line": {
			old: `"final","result":{"status":"ok","content":"x","delivery":"respond"}`,
			new: `"progress","sequence":1,"result":{"status":"ok","content":"x","delivery":"silent"}`, ok: true,
		},
		"the line of sequence 0": {
			old: `"final","result":{"status":"ok","content":"x","delivery":"respond"}`,
			new: `"progress","result":{"status":"ok","content":"x","delivery":"say"}`, ok: true,
		},
		"a line to answer to": {old: `"final"`, new: `"progress","sequence":1`},
		"a line that is a control": {
			old: `"final","result":{"status":"ok","content":"x","delivery":"respond"}`,
			new: `"progress","result":{"status":"ok","delivery":"control","control":{"type":"end-call"}}`,
		},
		"a line without content": {
			old: `"final","result":{"status":"ok","content":"x","delivery":"respond"}`,
			new: `"progress","result":{"status":"ok","delivery":"say"}`,
		},
		"a negative sequence":          {old: `"final"`, new: `"final","sequence":-1`},
		"a sequence that is a text":    {old: `"final"`, new: `"final","sequence":"1"`},
		"a kind that is not known yet": {old: `"final"`, new: `"partial"`},
		"announced after its call":     {old: `"kind"`, new: `"afterCall":"","kind"`, ok: true},
		"dropped after its call":       {old: `"kind"`, new: `"afterCall":"drop","kind"`, ok: true},
		"called back":                  {old: `"kind"`, new: `"afterCall":"call_back","kind"`, ok: true},
		"kept for the next call":       {old: `"kind"`, new: `"afterCall":"next_call","kind"`, ok: true},
		"an unknown after-call":        {old: `"kind"`, new: `"afterCall":"announce","kind"`},
		"of an earlier call":           {old: `"call":{"id":"c"}`, new: `"earlier":true,"call":{"id":"d"}`, ok: true},
		"of an earlier call, no id":    {old: `"jobId":"c/t"`, new: `"earlier":true,"jobId":""`},
		"the id of a hash":             {old: `"jobId":"c/t"`, new: `"jobId":"` + hashed + `"`, ok: true},
		"the id of a longer hash":      {old: `"jobId":"c/t"`, new: `"jobId":"` + hashed + `a"`},
		"of another call":              {old: `"call":{"id":"c"}`, new: `"earlier":false,"call":{"id":"d"}`},
		"no kind":                      {old: `"kind":"final",`, new: ``},
		"another call's id":            {old: `"jobId":"c/t"`, new: `"jobId":"d/t"`},
		"no id":                        {old: `"jobId":"c/t"`, new: `"jobId":""`},
		"no deadline":                  {old: `"deadline":"2026-07-01T13:00:00Z"`, new: `"x":1`},
		"no status":                    {old: `"status":"ok"`, new: `"status":""`},
		"another status":               {old: `"status":"ok"`, new: `"status":"OK"`},
		"no delivery":                  {old: `"respond"`, new: `""`},
		"another delivery":             {old: `"respond"`, new: `"shout"`},
		"no content":                   {old: `"content":"x",`, new: ``},
		"a job in its place":           {old: anOutcome, new: aJob},
		"nothing":                      {old: anOutcome, new: ``},
		"null":                         {old: anOutcome, new: `null`},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := job.DecodeOutcome(changed(t, anOutcome, row.old, row.new))
			verdict(t, err, row.ok)
			if row.ok && o.JobID != "c/t" && o.JobID != hashed {
				t.Errorf("decoded %+v", o)
			}
		})
	}
}

func changed(t *testing.T, message, old, new string) string {
	t.Helper()
	if old == "" {
		return message
	}
	if strings.Count(message, old) != 1 {
		t.Fatalf("found %q %d times", old, strings.Count(message, old))
	}
	return strings.Replace(message, old, new, 1)
}

func verdict(t *testing.T, err error, ok bool) {
	t.Helper()
	if ok && err != nil || !ok && !errors.Is(err, job.ErrUnreadable) {
		t.Errorf("error %v, want ErrUnreadable: %t", err, !ok)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(aJob)
	f.Add(anOutcome)
	f.Add(aWake)
	f.Add(`{"version":1,"id":"/","receivedAt":"0001-01-01T00:00:00Z"}`)
	f.Add(`{"version":1e0,"ID":"c/t","Id":"c/t"}`)
	f.Add(strings.Replace(aJob, "c/t", hashed, 1))
	f.Fuzz(func(t *testing.T, message string) {
		j, err := job.Decode(message)
		if err != nil {
			if !errors.Is(err, job.ErrUnreadable) {
				t.Errorf("error %v is not ErrUnreadable", err)
			}
			if j.ID != "" {
				t.Errorf("an error, and the job %+v", j)
			}
			return
		}
		if !hashedID.MatchString(j.ID) && j.ID != j.Call.ID+"/"+j.ToolCallID || j.Tool == "" {
			t.Errorf("decoded %+v", j)
		}
		roundTrip(t, j, j.Encode, job.Decode)
	})
}

func FuzzDecodeOutcome(f *testing.F) {
	f.Add(anOutcome)
	f.Add(aJob)
	f.Add(`{"version":1,"kind":"progress","jobId":"c/t","earlier":true,"sequence":2,"afterCall":"drop",` +
		`"deadline":"2026-07-01T13:00:00Z","result":{"status":"ok","content":"x","delivery":"say"}}`)
	f.Add(`{"version":1,"kind":"final","jobId":"/","deadline":"2026-07-01T13:00:00Z",` +
		`"result":{"status":"ok","delivery":"control","control":null}}`)
	f.Fuzz(func(t *testing.T, message string) {
		o, err := job.DecodeOutcome(message)
		if err != nil {
			if !errors.Is(err, job.ErrUnreadable) {
				t.Errorf("error %v is not ErrUnreadable", err)
			}
			if o.JobID != "" {
				t.Errorf("an error, and the outcome %+v", o)
			}
			return
		}
		if !o.Earlier && !hashedID.MatchString(o.JobID) && o.JobID != o.Call.ID+"/"+o.ToolCallID || o.Sequence < 0 ||
			o.Result.Content == "" && len(o.Result.Control) == 0 {
			t.Errorf("decoded %+v", o)
		}
		roundTrip(t, o, o.Encode, job.DecodeOutcome)
	})
}

func FuzzDecodeMessage(f *testing.F) {
	for _, message := range []string{
		aJob, aWake, anArrival, aCheck, aPost, anOutcome, `{"kind":null}`,
		`{"Kind":"wake","KIND":"arrival","version":1,"jobId":"j","wake":1e0}`, `{"kind":"\ufffe","version":1}`,
	} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		got, err := job.DecodeMessage(message)
		if err != nil {
			if !errors.Is(err, job.ErrUnreadable) {
				t.Errorf("error %v is not ErrUnreadable", err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		encode := func() (string, error) { return got.(interface{ Encode() (string, error) }).Encode() }
		switch m := got.(type) {
		case job.Job:
		case job.WakeUp:
			if m.JobID == "" || m.Number < 1 {
				t.Errorf("decoded %+v", m)
			}
		case job.Check:
			if m.JobID == "" {
				t.Errorf("decoded %+v", m)
			}
		case job.Sweep:
		case job.Arrival:
			if m.Call.ID == "" || m.CallEnds.IsZero() {
				t.Errorf("decoded %+v", m)
			}
		case job.Post:
			if m.JobID == "" || m.Received.IsZero() {
				t.Errorf("decoded %+v", m)
			}
		default:
			t.Fatalf("decoded a %T", got)
		}
		roundTrip(t, got, encode, job.DecodeMessage)
	})
}

// roundTrip tests that a decoded message can be encoded again.
func roundTrip[T any](t *testing.T, want T, encode func() (string, error), decode func(string) (T, error)) {
	t.Helper()
	message, err := encode()
	if err != nil {
		t.Fatalf("%+v cannot be encoded: %v", want, err)
	}
	got, err := decode(message)
	if err != nil {
		t.Fatalf("%s cannot be decoded: %v", message, err)
	}
	if diff := cmp.Diff(want, got, jsonText); diff != "" {
		t.Errorf("decoded again (-want +got):\n%s", diff)
	}
}

// TestErrorsQuoteNothing tests that errors do not quote an unreadable message, as they
// are logged.
func TestErrorsQuoteNothing(t *testing.T) {
	for name, message := range map[string]string{
		"no JSON":                 `{"id":"a/b" planted`,
		"a number for a string":   `{"call":{"customerNumber":4915100000001}}`,
		"an object for a string":  `{"call":{"controlUrl":{"url":"planted"}}}`,
		"a string for an object":  `{"call":"planted"}`,
		"no time":                 `{"receivedAt":"planted","deadline":"planted"}`,
		"another version":         `{"version":2,"id":"planted"}`,
		"an id that does not fit": `{"version":1,"id":"planted","jobId":"planted","kind":"final"}`,
		"a string":                `"planted"`,
		"a wake of another type":  `{"version":1,"kind":"wake","jobId":"planted","wake":"planted"}`,
		"a wake of nothing":       `{"version":1,"kind":"wake","jobId":"planted"}`,
		"an arrival of no time": `{"version":1,"kind":"arrival",` +
			`"call":{"id":"c","customerNumber":"planted","controlUrl":"planted"}}`,
		"an arrival of numbers": `{"version":1,"kind":"arrival","call":{"customerNumber":4915100000001}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, jobErr := job.Decode(message)
			_, outcomeErr := job.DecodeOutcome(message)
			_, messageErr := job.DecodeMessage(message)
			for _, err := range []error{jobErr, outcomeErr, messageErr} {
				if !errors.Is(err, job.ErrUnreadable) {
					t.Fatalf("error %v", err)
				}
				if strings.Contains(err.Error(), "planted") || strings.Contains(err.Error(), "4915100000001") {
					t.Errorf("the error quotes the message: %v", err)
				}
			}
		})
	}
}

// TestOutcomesTogether tests a message with several outcomes of a call.
func TestOutcomesTogether(t *testing.T) {
	outcome := func(call, id string) job.Outcome {
		j := job.Job{ID: job.ID(call, id, "weather", nil), ToolCallID: id, Tool: "weather", Call: job.Call{ID: call}}
		return j.Outcome(
			job.Record{
				Result:   &job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: id},
				Deadline: start,
			},
		)
	}
	several := outcome("call", "t1")
	several.With = []job.Outcome{outcome("call", "t2"), outcome("call", "t3")}
	message, err := several.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := job.DecodeOutcome(message)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(
		[]job.Outcome{outcome("call", "t1"), outcome("call", "t2"), outcome("call", "t3")}, got.All(),
		cmpopts.IgnoreFields(job.Outcome{}, "Version"),
	); diff != "" {
		t.Error(diff)
	}
	// A reader that only knows single outcomes must not accept it.
	var single struct{ Version int }
	if err := json.Unmarshal([]byte(message), &single); err != nil || single.Version == 1 {
		t.Errorf("version %d, %v", single.Version, err)
	}
	for name, change := range map[string]func(*job.Outcome){
		"of another call":   func(o *job.Outcome) { o.With = []job.Outcome{outcome("other", "t2")} },
		"within each other": func(o *job.Outcome) { o.With[0].With = []job.Outcome{outcome("call", "t3")} },
		"one cannot be":     func(o *job.Outcome) { o.With[1].Result.Content = "" },
	} {
		t.Run(name, func(t *testing.T) {
			o := several
			o.With = slices.Clone(several.With)
			change(&o)
			message, err := o.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := job.DecodeOutcome(message); !errors.Is(err, job.ErrUnreadable) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, wrong := range []string{
		strings.Replace(message, `"version":2`, `"version":1`, 1), strings.Replace(message, `"version":2`, `"version":3`, 1),
	} {
		if _, err := job.DecodeOutcome(wrong); !errors.Is(err, job.ErrUnreadable) {
			t.Errorf("%.30s…: error %v", wrong, err)
		}
	}
}

// TestMark tests a message that only marks an outcome. A reader that does not know its kind must not take
// it for the outcome.
// TestSavedOutcome checks which outcomes have the record of their job.
func TestSavedOutcome(t *testing.T) {
	j := newJob()
	saved := job.Record{
		ID: j.ID, Revision: 7, State: job.StateDone, Deadline: start, Unknown: `"newer":["<é>"]`,
		Result: &job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "Sunny."},
	}
	long := saved
	long.Reason = strings.Repeat("x", 4<<10)
	other := saved
	other.ID = job.EarlierID("call", "other")
	quick := j
	quick.AnswerUntil = start.Add(time.Second)
	for name, row := range map[string]struct {
		job    job.Job
		record job.Record
		now    time.Time
		spoil  func(*job.Outcome)
		wait   time.Duration
		want   bool
	}{
		"a record":              {job: j, record: saved, want: true},
		"a long record":         {job: j, record: long},
		"while an answer waits": {job: quick, record: saved, now: start, wait: time.Second},
		"when no answer waits":  {job: quick, record: saved, now: start.Add(time.Second), want: true},
		"none":                  {job: j, record: saved, spoil: func(o *job.Outcome) { o.Saved = nil }},
		"of another job":        {job: j, record: other},
		"of a later version":    {job: j, record: saved, spoil: func(o *job.Outcome) { o.Saved.Record = `{"version":9}` }},
		"a mark":                {job: j, record: saved, spoil: func(o *job.Outcome) { *o = o.Mark(job.StateDelivered, "") }},
	} {
		o, wait := row.job.SavedOutcome(row.record, row.now)
		if row.spoil != nil {
			row.spoil(&o)
		}
		message, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if o, err = job.DecodeOutcome(message); err != nil {
			t.Fatal(err)
		}
		got, ok := o.Record()
		if diff := cmp.Diff(row.record, got); wait != row.wait || ok != row.want || ok && diff != "" {
			t.Errorf("%s: waits %s, record %t, want %s, %t (-want +got):\n%s", name, wait, ok, row.wait, row.want, diff)
		}
	}
}

func TestMark(t *testing.T) {
	j := job.Job{ID: job.ID("call", "t1", "weather", nil), ToolCallID: "t1", Tool: "weather", Call: job.Call{ID: "call"}}
	o := j.Outcome(job.Record{
		Result:   &job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "Sunny."},
		Deadline: start,
	})
	for _, state := range []job.State{job.StateDelivered, job.StateUndelivered, job.StateReplayed} {
		message, err := o.Mark(state, strings.Repeat("x", 5000)).Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := job.DecodeOutcome(message)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kind != job.KindMark || got.State != state || got.AddsMessage() || len(got.Reason) > 1100 ||
			got.JobID != o.JobID {
			t.Errorf("%s: decoded %+v", state, got)
		}
	}
	for name, wrong := range map[string]job.Outcome{
		"no state":                  o.Mark("", ""),
		"a state that is no ending": o.Mark(job.StateDone, ""),
		"a parked one":              o.Mark(job.StateParked, ""),
		"a state of an outcome":     func() job.Outcome { o := o; o.State = job.StateDelivered; return o }(),
	} {
		message, err := wrong.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := job.DecodeOutcome(message); !errors.Is(err, job.ErrUnreadable) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestNewArrival checks that a long call takes parked results for an hour only.
func TestNewArrival(t *testing.T) {
	for _, row := range []struct{ life, want time.Duration }{
		{time.Minute, time.Minute}, {time.Hour, time.Hour}, {12 * time.Hour, time.Hour},
	} {
		a := job.NewArrival(job.Call{ID: "c"}, start, start.Add(row.life))
		if a.Call.ID != "c" || !a.CallEnds.Equal(start.Add(row.want)) {
			t.Errorf("%s: %+v", row.life, a)
		}
	}
}

func TestCustomerPhone(t *testing.T) {
	for number, want := range map[string]bool{
		"+15550100123": true, "+4915100000001": true, "+2902512": true, "+123456789012345": true, // 7 and 15 digits
		"+266696687": false, "+7378742833": false, "+86282452253": false, "+464": false, "+8656696": false,
		"+2562533": false, "+7748283": false, "+94844353": false,
		"anonymous": false, "Anonymous": false, "Restricted": false, "unknown": false, "": false, "+": false,
		"15550100123": false, "+05550100123": false, "+1 555 0100123": false, "+1555010012a": false,
		"+1234567890123456": false, "sip:ada@example.com": false, "+15550100123\n": false, "+١٥٥٥٠١٠٠": false,
	} {
		c := job.Call{ID: "c", OrgID: "org-1", CustomerNumber: number}
		got := c.CustomerPhone()
		if want && got != number || !want && got != "" || (job.Customer(c, nil) != "") != want {
			t.Errorf("%q: number %q, customer %q", number, got, job.Customer(c, nil))
		}
	}
	// The names are in the table, so they must stay the same.
	first := job.Call{OrgID: "org-1", CustomerNumber: "+15550100123"}
	for key, want := range map[string]string{
		"":    "f016cd473ead1c68c83703c71291ff326bd65130bf329c1ea6082565de12d5e1", // of earlier versions
		"key": "f81be8c290c50a800763d2303e00e76d558cc87c7099f43058bab75e251d1bdd",
	} {
		if got := job.Customer(first, []byte(key)); got != want {
			t.Errorf("with the key %q, the customer is %s", key, got)
		}
	}
}

func TestFitsIn(t *testing.T) {
	for name, row := range map[string]struct {
		parked job.ParkedResult
		want   []bool // in calls of a1 with p1, a1 with p2, a2 with p1, a2 with p2, and of neither
	}{
		"both": {
			job.ParkedResult{Scoped: true, AssistantID: "a1", PhoneNumberID: "p1"}, []bool{true, true, true, false, false},
		},
		"an assistant": {job.ParkedResult{Scoped: true, AssistantID: "a1"}, []bool{true, true, false, false, false}},
		"a phone number": {
			job.ParkedResult{Scoped: true, PhoneNumberID: "p1"}, []bool{true, false, true, false, false},
		},
		"neither":               {job.ParkedResult{Scoped: true}, []bool{false, false, false, false, true}},
		"of an earlier version": {job.ParkedResult{}, []bool{true, true, true, true, true}},
	} {
		for i, c := range []job.Call{
			{AssistantID: "a1", PhoneNumberID: "p1"}, {AssistantID: "a1", PhoneNumberID: "p2"},
			{AssistantID: "a2", PhoneNumberID: "p1"}, {AssistantID: "a2", PhoneNumberID: "p2"}, {},
		} {
			if got := row.parked.FitsIn(c); got != row.want[i] {
				t.Errorf("%s, in call %d: %t", name, i, got)
			}
		}
	}
}

// TestParkedAgain parks a result again, after a later call has ended, too. It keeps the assistant and the
// phone number of its own call.
func TestParkedAgain(t *testing.T) {
	for _, first := range []job.ParkedResult{
		{JobID: "j", Scoped: true, AssistantID: "a1", PhoneNumberID: "p1"}, {JobID: "j"},
	} {
		again := job.ParkedResult{JobID: "j", Scoped: true, AssistantID: "a2", PhoneNumberID: "p1", Revision: 7}
		r, _ := job.CustomerRecord{}.Add(first, start)
		r, ok := r.Add(again, start)
		again.Scoped, again.AssistantID, again.PhoneNumberID = first.Scoped, first.AssistantID, first.PhoneNumberID
		if !ok || len(r.Parked) != 1 || r.Parked[0] != again {
			t.Errorf("parked: %+v", r.Parked)
		}
	}
}
