package job_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// fullRecords returns a record of each kind in which every object exists.
func fullRecords() map[string]any {
	j := newJob()
	return map[string]any{
		"job": job.Record{
			ID: j.ID, State: job.StateDone, Tool: j.Tool, CallID: j.Call.ID, Asked: `{"city":"<Bonn>"}`, Attempt: 1, Owner: "m",
			Result:   &job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "Done. <b>\u2028"},
			Deadline: start, Policy: job.Policy{AfterCall: policy.AfterCallDrop}, Created: start, Updated: start,
			StoredJob: &j, WakeUp: 1, WakeAt: start, ToolState: json.RawMessage(`{"page":1}`),
			Progress: &job.ProgressLine{Sequence: 1, Text: "half", At: start},
		},
		"call": job.CallRecord{
			CallID: "c", Started: 1, Slots: map[string]time.Time{"a": start},
			Questions: map[string]job.Question{"k\"": {By: "a", Also: []string{"b"}}, "l": {By: "b"}}, Updated: start,
		},
		"customer": job.CustomerRecord{
			Customer: "x", Updated: start,
			Parked: []job.ParkedResult{{JobID: "c/t", ToolCallID: "t", Tool: "weather"}, {JobID: "c/u", Tool: "weather"}},
			Open:   &job.OpenCall{JobID: "c/t", Until: start}, Waiting: []job.WaitingResult{{JobID: "c/v"}, {JobID: "c/w"}},
		},
		"renewal": job.Renewal{
			JobID: "c/t", By: job.AttemptID{WakeUp: 1, Attempt: 2, Owner: "m"}, Expiry: start, Updated: start,
		},
	}
}

// load decodes a record of a kind.
func load(kind string, b []byte) (any, error) {
	switch kind {
	case "job":
		var r job.Record
		err := job.DecodeRecord(b, &r)
		return r, err
	case "call":
		var r job.CallRecord
		err := job.DecodeRecord(b, &r)
		return r, err
	case "renewal":
		var r job.Renewal
		err := job.DecodeRecord(b, &r)
		return r, err
	default:
		var r job.CustomerRecord
		err := job.DecodeRecord(b, &r)
		return r, err
	}
}

// TestUnknownMembers adds members of a newer version to every object of a record. They are written again.
func TestUnknownMembers(t *testing.T) {
	// Some values are not objects of ours, and the identity of an attempt is compared as a whole.
	foreign := map[string]bool{"memory": true, "arguments": true, "control": true, "slots": true, "by": true}
	added := 0
	var extend func(value any) any
	extend = func(value any) any {
		switch value := value.(type) {
		case map[string]any:
			for name, member := range value {
				if !foreign[name] {
					value[name] = extend(member)
				}
			}
			added++
			value["future"] = map[string]any{"n": added, "text": "a \"b\" <c>", "list": []any{nil, map[string]any{}}}
			value["é\n\""] = nil
		case []any:
			for i := range value {
				value[i] = extend(value[i])
			}
		}
		return value
	}
	for kind, record := range fullRecords() {
		t.Run(kind, func(t *testing.T) {
			plain, err := job.EncodeRecord(record)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := load(kind, plain); err != nil || cmp.Diff(record, back) != "" {
				t.Errorf("without unknown members: %v (-want +got):\n%s", err, cmp.Diff(record, back))
			}
			var tree any
			if err := json.Unmarshal(plain, &tree); err != nil {
				t.Fatal(err)
			}
			if questions, ok := tree.(map[string]any)["questions"].(map[string]any); ok {
				// This object has the names of questions, so another member would be a question.
				for _, q := range questions {
					extend(q)
				}
				foreign["questions"] = true
			}
			newer, err := json.MarshalIndent(extend(tree), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			read, err := load(kind, newer)
			if err != nil {
				t.Fatal(err)
			}
			written, err := job.EncodeRecord(read)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal(written, &got), json.Unmarshal(newer, &want)); err != nil {
				t.Fatalf("%v: %s", err, written)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("written again (-want +got):\n%s", diff)
			}
		})
	}
	if added < 9 {
		t.Errorf("%d objects", added)
	}
}

// TestUnknownMembersOfJobs checks that a job in a record has the members of its message.
func TestUnknownMembersOfJobs(t *testing.T) {
	body, err := newJob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	body = strings.Replace(body, `"call":{`, `"future":1,"call":{"future":2,`, 1)
	decoded, err := job.DecodeMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	j := decoded.(job.Job)
	r, err := job.StoreJob(j).Apply(job.NewRecord(j, job.Policy{}, start, "m", start, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	b, err := job.EncodeRecord(r)
	if err != nil || !strings.Contains(string(b), `"future":1`) || !strings.Contains(string(b), `"future":2`) {
		t.Errorf("%v: %s", err, b)
	}
	for _, m := range []interface{ Encode() (string, error) }{j, job.NewArrival(j.Call, start, start.Add(time.Hour))} {
		if again, err := m.Encode(); err != nil || !strings.Contains(again, `"future":2`) {
			t.Errorf("%T: %v: %s", m, err, again)
		}
	}
}

// TestRecordVersions reads records of earlier and of newer versions.
func TestRecordVersions(t *testing.T) {
	for _, row := range []struct {
		record string
		ok     bool
	}{
		{`{"id":"c/t","state":"running"}`, true}, // before there were versions
		{`{"version":1,"id":"c/t","state":"running"}`, true},
		{`{"id":"c/t","state":"running","version":1}`, true},
		{`{"version":2,"id":"c/t","state":"running"}`, false},
		{`{"id":"c/t","job":{"version":2},"version":2}`, false},
		{`{"id":"c/t","job":{"version":2}}`, true}, // the job's own version
		{`{"version":"2","id":"c/t"}`, false},
		{`{"version":1.5,"id":"c/t"}`, false},
		{`{"id":["c/t"]}`, false}, // a member that is no longer what it was
		{`{"id":"c/t"`, false},
		{`[]`, false},
	} {
		var r job.Record
		err := job.DecodeRecord([]byte(row.record), &r)
		if row.ok && (err != nil || r.ID != "c/t") || !row.ok && !errors.Is(err, job.ErrUnreadable) {
			t.Errorf("%s: %v", row.record, err)
		}
		if err != nil && strings.Contains(err.Error(), "c/t") {
			t.Errorf("the error quotes the record: %v", err)
		}
	}
	for kind, record := range fullRecords() {
		b, err := job.EncodeRecord(record)
		if err != nil || !strings.HasPrefix(string(b), `{"version":1,"`) || strings.Count(string(b), `"version":1`) > 2 {
			t.Errorf("%s: %v: %.100s", kind, err, b)
		}
		if again, err := load(kind, b); err != nil || cmp.Diff(record, again) != "" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// BenchmarkDecodeRecord compares the reading of an ordinary record with that of [json.Unmarshal].
func BenchmarkDecodeRecord(b *testing.B) {
	encoded, err := job.EncodeRecord(fullRecords()["job"])
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func(any) error{
		"json":   func(r any) error { return json.Unmarshal(encoded, r) },
		"record": func(r any) error { return job.DecodeRecord(encoded, r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				var r job.Record
				if err := decode(&r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
