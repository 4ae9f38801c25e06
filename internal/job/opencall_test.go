package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
)

// TestOpenCall tests which result may lead an outbound call, and which ones share it.
func TestOpenCall(t *testing.T) {
	result := func(id string) job.WaitingResult { return job.WaitingResult{JobID: id, AssistantID: "a"} }
	other := job.WaitingResult{JobID: "other", AssistantID: "b"}
	var r job.CustomerRecord
	open := func(id, ended string, now time.Time, wantOpened bool, wantOthers ...string) {
		t.Helper()
		next, others, opened := r.OpenCall(result(id), ended, now)
		if r = next; opened != wantOpened {
			t.Errorf("%s opens a call: %v", id, opened)
		}
		if diff := cmp.Diff(wantOthers, others); diff != "" {
			t.Errorf("%s: those that wait (-want +got):\n%s", id, diff)
		}
	}
	open("1", "", start, true)
	open("2", "", start, false)
	open("2", "call-1", start, false) // the id of the open call is not known
	open("1", "", start, true, "2")   // again, as the function died
	r = r.CallMade("1", "call-1", nil, start)
	r, first := r.Wait(other, start)
	if !first {
		t.Error("another assistant's result is not the first of its kind")
	}
	open("3", "", start.Add(12*time.Hour), false) // a call can last so long
	open("3", "call-0", start, false)
	open("3", "call-1", start, true, "2")
	r = r.NoCall("3", start)
	open("4", "", start, true, "2")
	r = r.CallMade("4", "", []string{"2"}, start)
	open("5", "", start.Add(14*time.Minute), false)
	open("6", "", start.Add(16*time.Minute), true, "5") // nothing is known of the call before
	for i := range 40 {
		r, _ = r.Wait(result(fmt.Sprint("more-", i)), start)
	}
	if len(r.Waiting) != 20 {
		t.Errorf("%d results wait", len(r.Waiting))
	}
}

// TestJoinOutboundCall checks that a result is joined only while no function has it, and before its deadline.
func TestJoinOutboundCall(t *testing.T) {
	done := job.Record{State: job.StateDone, Deadline: start.Add(time.Hour), LeaseExpiry: start}
	apply := func(r job.Record, rules ...job.Rule) job.Record {
		t.Helper()
		for _, rule := range rules {
			var err error
			if r, err = rule.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	minute := start.Add(time.Minute)
	waiting := apply(done, job.WaitForOutboundCall(start, time.Minute))
	joined := apply(waiting, job.JoinOutboundCall(start, minute, "first"))
	for name, tt := range map[string]struct {
		r    job.Record
		at   time.Time
		want bool
	}{
		"it waits":         {waiting, start, true},
		"its lease passed": {waiting, start.Add(30 * time.Minute), true},
		"it never waited":  {done, start, false},
		"it is postponed":  {apply(done, job.PostponeOutboundCall(start, time.Minute)), start, false},
		"it is claimed":    {apply(waiting, job.ClaimDelivery(minute, time.Minute)), minute, false},
		"it is joined":     {joined, start, false},
		"it is parted": {
			apply(joined, job.RetractOutboundCall(start, joined.WaitsUntil.Sub(start))), start, true,
		},
		"it is settled": {apply(waiting, job.Settle(start, job.StateDelivered, "")), start, false},
		"it is late":    {waiting, start.Add(2 * time.Hour), false},
	} {
		if _, err := job.JoinOutboundCall(tt.at, tt.at.Add(time.Minute), "first").Apply(tt.r); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := job.ClaimDelivery(start, time.Minute).Apply(joined); err == nil {
		t.Error("a joined result can be claimed")
	}
	if joined.OutboundCallBy != "first" || apply(joined, job.RetractOutboundCall(start, 0)).OutboundCallBy != "" {
		t.Errorf("it joined the call of %q, or still does after it was parted", joined.OutboundCallBy)
	}
	leads := apply(done, job.RecordOutboundCall(start, "a", "b"))
	if diff := cmp.Diff([]string{"a", "b"}, leads.OutboundCallFor); diff != "" {
		t.Errorf("the results in the call (-want +got):\n%s", diff)
	}
	if others := apply(leads, job.RetractOutboundCall(start, 0)).OutboundCallFor; others != nil {
		t.Errorf("the call that was not made still has %v", others)
	}
	joined.Exhausted, joined.Policy.CallBound = true, true
	late := start.Add(24 * time.Hour)
	again := apply(joined, job.Settle(start, job.StateDelivered, ""), job.Redrive(late, "message"))
	if again.OutboundCallBy != "" || again.OutboundCallAt.IsZero() {
		t.Error("a failure that is redriven ends as the one that led its call did")
	}
}
