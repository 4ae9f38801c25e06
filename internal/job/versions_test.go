package job_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
)

// TestFormsOfTheVersionBefore reads the messages and records that the version before wrote, and writes
// them again. The files in testdata/before were written by it, with every member that it knew. This
// version adds only what the table lists.
func TestFormsOfTheVersionBefore(t *testing.T) {
	message := func(m interface{ Encode() (string, error) }, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return m.Encode()
	}
	onJobs := func(text string) (string, error) {
		m, err := job.DecodeMessage(text)
		if err != nil {
			return "", err
		}
		return message(m.(interface{ Encode() (string, error) }), nil)
	}
	onResults := func(text string) (string, error) { return message(job.DecodeOutcome(text)) }
	record := func(kind string) func(string) (string, error) {
		return func(text string) (string, error) {
			r, err := load(kind, []byte(text))
			if err != nil {
				return "", err
			}
			b, err := job.EncodeRecord(r)
			return string(b), err
		}
	}
	version := map[string]any{"version": 1.0}
	for name, row := range map[string]struct {
		rewrite func(string) (string, error)
		adds    map[string]any
	}{
		"job":                  {onJobs, nil},
		"wake-up":              {onJobs, nil},
		"arrival":              {onJobs, nil},
		"outcome":              {onResults, nil},
		"outcomes":             {onResults, nil}, // several in one message, of version 2
		"progress":             {onResults, nil},
		"record":               {record("job"), version},
		"record-of-a-call":     {record("call"), version},
		"record-of-a-customer": {record("customer"), version},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadFile(filepath.Join("testdata/before", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			now, err := row.rewrite(string(before))
			if err != nil {
				t.Fatal(err)
			}
			var want, got map[string]any
			if err := errors.Join(json.Unmarshal(before, &want), json.Unmarshal([]byte(now), &got)); err != nil {
				t.Fatal(err)
			}
			for member, value := range row.adds {
				want[member] = value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("written again (-want +got):\n%s", diff)
			}
		})
	}
	files, err := filepath.Glob("testdata/before/*.json")
	if err != nil || len(files) != 9 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestNewForms lists the forms of messages that are new in this version, and whether the version before
// reads them. If it does not, the stack updates the reader before the writer, and the message is
// retried for longer than the update takes: see docs/deploy.md.
func TestNewForms(t *testing.T) {
	earlier := newJob()
	hashed := newJob()
	hashed.ID = job.ID(hashed.Call.ID, hashed.ToolCallID, hashed.Tool, hashed.Arguments)
	earlier.ID = job.EarlierID(earlier.Call.ID, earlier.ToolCallID)
	quick := earlier
	quick.AnswerUntil = start
	live := earlier
	live.Call.Architecture = vapi.ArchitectureGPTLive
	outcome := func(j job.Job, asked string, own bool) job.Outcome {
		return j.Outcome(job.Record{
			Result:   &job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "Done.", Own: own},
			Deadline: start, Asked: asked,
		})
	}
	unstored := outcome(earlier, "", false)
	unstored.Unstored = &job.Unstored{Reason: "it is down"}
	for _, row := range []struct {
		form   string
		m      interface{ Encode() (string, error) }
		before bool // whether the version before reads it
	}{
		{"a job that it accepted", earlier, true},
		{"a job with a hashed id", hashed, false},
		{"a job of a GPT-Live call", live, true},
		{"a job whose result may be in the answer", quick, true},
		{"a wake-up of a job with a hashed id", job.WakeUp{JobID: hashed.ID, Number: 1}, true},
		{"a check", job.Check{JobID: earlier.ID}, false},
		{"a sweep", job.Sweep{}, false},
		{"an arrival", job.NewArrival(live.Call, start, start.Add(time.Hour)), true},
		{"an outcome of a job that it accepted", outcome(earlier, `{"city":"Bonn"}`, true), true},
		{"an outcome of a job with a hashed id", outcome(hashed, "", false), false},
		// That version retries it, since the record has no result.
		{"an outcome whose result is not stored", unstored, true},
		// That version must not read it: it would deliver the outcome again.
		{"a mark", outcome(earlier, "", false).Mark(job.StateDelivered, ""), false},
		// That version adds it to the conversation and keeps the assistant silent.
		{"a progress line of an external system", earlier.ExternalProgressOutcome(false, job.Record{
			Deadline: start, Progress: &job.ProgressLine{Sequence: 1, Text: "Half."},
			Policy: job.Policy{ExternalProgress: policy.DeliveryRespond},
		}), true},
		{"a progress line", earlier.ProgressOutcome(1, "Half.", false, job.Record{Deadline: start, Asked: "{}"}), true},
	} {
		text, err := row.m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := readBefore(t, text); got != row.before {
			t.Errorf("%s: the version before reads it: %t, want %t: %s", row.form, got, row.before, text)
		}
		_, onJobs := job.DecodeMessage(text)
		_, onResults := job.DecodeOutcome(text)
		if onJobs != nil && onResults != nil {
			t.Errorf("%s: this version does not read it: %v, %v", row.form, onJobs, onResults)
		}
	}
}

// readBefore reports whether the version before reads a message: it has the checks of that version's
// reader that a message of this version can fail. That version ignores unknown members.
func readBefore(t *testing.T, text string) bool {
	t.Helper()
	var m struct {
		Version    int
		Kind       string
		ID         string
		JobID      string
		ToolCallID string
		Wake       int
		Earlier    bool
		With       []any
		Call       struct{ ID string }
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	fits := m.ID+m.JobID == m.Call.ID+"/"+m.ToolCallID
	switch m.Kind {
	case "":
		return m.Version == 1 && fits
	case "wake":
		return m.Version == 1 && m.JobID != "" && m.Wake > 0
	case "arrival":
		return m.Version == 1 && m.Call.ID != ""
	case "final", "progress":
		return (m.Version == 1 && len(m.With) == 0 || m.Version == 2 && len(m.With) > 0) && (fits || m.Earlier)
	}
	return false
}
