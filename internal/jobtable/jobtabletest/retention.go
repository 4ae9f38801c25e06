package jobtabletest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// What the record of a job has while it is not settled.
const (
	plantedArgument = "planted argument"
	plantedNumber   = "+4915100000001"
	plantedURL      = "https://x.vapi.ai/planted/control"
	plantedState    = "planted tool state"
	plantedProgress = "planted progress"
)

// testRetention tests that the write which settles a job deletes its personal data, and that the rest stays.
func testRetention(t *testing.T, open func(*testing.T) jobtable.Stores) {
	newer := job.Unknown(`"newer":{"a":[3]}`)
	suspended := func(table table) job.Record {
		j := table.job
		j.Arguments = json.RawMessage(`{"city":"` + plantedArgument + `"}`)
		j.Call.CustomerNumber, j.Call.ControlURL, j.Call.OrgID = plantedNumber, plantedURL, "org"
		j.Unknown, j.Call.Unknown = newer, newer
		first := job.NewRecord(j, toolPolicy, deadline, "owner", table.now(), lease)
		first.Policy.Cancellable = true
		first.Asked, first.Unknown = plantedArgument, newer
		r := must(t)(table.Claim(t.Context(), first))
		r = must(t)(table.Change(t.Context(), r.ID, job.AddProgress(table.now(), plantedProgress)))
		state := json.RawMessage(`"` + plantedState + `"`)
		return must(t)(table.ChangeClaimed(t.Context(), r, job.Suspend(table.now(), j, start, false, state)))
	}
	done := job.Complete(start, result)
	settled := func(state job.State) []job.Rule { return []job.Rule{done, job.Settle(start, state, "")} }
	personal := []string{plantedArgument, plantedNumber, plantedURL, plantedState, plantedProgress}
	for name, row := range map[string]struct {
		rules []job.Rule
		stays []string
	}{
		"waiting":     {nil, personal},
		"done":        {[]job.Rule{done}, personal},
		"parked":      {settled(job.StateParked), []string{plantedArgument, plantedNumber}}, // what was asked
		"delivered":   {settled(job.StateDelivered), nil},
		"undelivered": {settled(job.StateUndelivered), nil},
		"cancelled":   {[]job.Rule{job.Withdraw(start, "")}, nil},
		"replaced":    {[]job.Rule{job.Replace(start, "")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(open(t))
			suspended(table)
			revision := int64(3)
			for _, rule := range row.rules {
				must(t)(table.Change(t.Context(), table.job.ID, rule))
				revision++
			}
			r := must(t)(table.Load(t.Context(), table.job.ID))
			if r.Revision != revision {
				t.Errorf("%d writes, want %d", r.Revision, revision)
			}
			encoded, err := job.EncodeRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range personal {
				stays := strings.Contains(strings.Join(row.stays, "\n"), value)
				if strings.Contains(string(encoded), value) != stays {
					t.Errorf("it has %q: %t\n%s", value, !stays, encoded)
				}
			}
			// The record is still that of its job. Newer members stay, and so does the result.
			if r.Unknown != newer || r.StoredJob.Unknown != newer || r.StoredJob.Call.Unknown != newer {
				t.Errorf("members of a newer version are lost: %s", encoded)
			}
			if j := r.Job(); j.ID != table.job.ID || j.ToolCallID != "tool-call" || j.Call.ID != "call" ||
				j.Call.OrgID != "org" || r.State != job.StateCancelled && row.rules != nil && r.Result.Content != result.Content {
				t.Errorf("it lost more than personal data: %s", encoded)
			}
		})
	}
	t.Run("settled by an earlier version", func(t *testing.T) {
		table := newTable(open(t))
		r := suspended(table)
		r.State, r.Result, r.ProgressLeaseExpiry = job.StateDelivered, &result, start.Add(time.Second)
		if _, err := table.stores.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		// The end of a progress line changes a settled record.
		r = must(t)(table.Change(t.Context(), r.ID, job.EndProgress(r)))
		encoded, err := job.EncodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range personal {
			if strings.Contains(string(encoded), value) {
				t.Errorf("it has %q: %s", value, encoded)
			}
		}
	})
}
