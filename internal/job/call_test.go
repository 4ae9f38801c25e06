package job_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
)

// TestCallRecord tests the questions and the end of a call. The table's tests cover
// the slots.
func TestCallRecord(t *testing.T) {
	none := time.Time{}
	first := job.CallRecord{CallID: "c"}.Ask("key", "c/a", nil, start, start)
	replaced := []string{"c/a", hashed, "c/b"}
	second := first.Ask("key", hashed, replaced, none, start.Add(1))
	third := second.Ask("other", "c/c", nil, none, start.Add(2))
	if by, got := second.Asked("key"); by != hashed || !slices.Equal(got, replaced) {
		t.Errorf("%s asks after %s", by, got)
	}
	if by, got := second.Asked("other"); by != "" || got != nil {
		t.Errorf("%s asks after %s, and no job should", by, got)
	}
	asked := job.Question{By: hashed, Before: "a", Also: []string{hashed, "b"}}
	for name, row := range map[string]struct {
		got  job.CallRecord
		want map[string]job.Question
		at   time.Time
	}{
		"first":  {first, map[string]job.Question{"key": {By: "a", At: start}}, start},
		"second": {second, map[string]job.Question{"key": asked}, start.Add(1)},
		"third":  {third, map[string]job.Question{"key": asked, "other": {By: "c"}}, start.Add(2)},
	} {
		if diff := cmp.Diff(job.CallRecord{CallID: "c", Questions: row.want, Updated: row.at}, row.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if want := row.at.Add(job.Retention); !row.got.Expires().Equal(want) {
			t.Errorf("%s expires at %s, want %s", name, row.got.Expires(), want)
		}
	}

	ended, err := third.End(start.Add(time.Hour))
	want := third
	want.Ended, want.Updated = start.Add(time.Hour), start.Add(time.Hour)
	if diff := cmp.Diff(want, ended); diff != "" || err != nil {
		t.Errorf("ended: %v (-want +got):\n%s", err, diff)
	}
	live, err := ended.Learn(vapi.ArchitectureGPTLive, start.Add(90*time.Minute))
	want.Architecture, want.Updated = vapi.ArchitectureGPTLive, start.Add(90*time.Minute)
	if diff := cmp.Diff(want, live); diff != "" || err != nil {
		t.Errorf("learned: %v (-want +got):\n%s", err, diff)
	}
	if again, err := live.Learn(vapi.ArchitectureGPTLive, start.Add(2*time.Hour)); !errors.Is(err, job.ErrUnchanged) {
		t.Errorf("learned again: %+v, %v", again, err)
	}
	want = ended
	again, err := ended.End(start.Add(2 * time.Hour))
	if diff := cmp.Diff(want, again); diff != "" || !errors.Is(err, job.ErrUnchanged) {
		t.Errorf("ended again: %v (-want +got):\n%s", err, diff)
	}
}

func TestCustomerRecord(t *testing.T) {
	kept := func(i int) job.ParkedResult {
		return job.ParkedResult{JobID: fmt.Sprintf("call-%d/t", i), ToolCallID: "t", Tool: "weather"}
	}
	r := job.CustomerRecord{Customer: "x", Updated: start}
	for i := range 20 {
		before, _ := json.Marshal(r)
		next, ok := r.Add(kept(i), start.Add(1))
		if after, _ := json.Marshal(r); !ok || string(before) != string(after) {
			t.Fatalf("add %d: %t; the record before it: %s", i, ok, after)
		}
		r = next
	}
	if got, ok := r.Add(kept(20), start.Add(2)); ok || cmp.Diff(r, got) != "" {
		t.Errorf("a result too many: %t, %+v", ok, got)
	}
	// A result that is parked once more replaces the first one.
	again := kept(7)
	again.Revision = 9
	if got, ok := r.Add(again, start.Add(2)); !ok || len(got.Parked) != 20 || got.Parked[19] != again ||
		slices.Contains(got.Parked, kept(7)) || !got.Updated.Equal(start.Add(2)) {
		t.Errorf("a result twice: %t, %+v", ok, got)
	} else if got, err := got.Remove(kept(7), start.Add(3)); !errors.Is(err, job.ErrUnchanged) || len(got.Parked) != 20 {
		t.Errorf("removed in its earlier revision: %+v, %v", got, err)
	}
	less, err := r.Remove(kept(7), start.Add(3))
	if err != nil || len(less.Parked) != 19 || len(r.Parked) != 20 || less.Parked[7] != kept(8) ||
		r.Parked[7] != kept(7) || !less.Updated.Equal(start.Add(3)) {
		t.Errorf("removed from %+v: %+v", r, less)
	}
	if got, err := less.Remove(kept(7), start.Add(4)); !errors.Is(err, job.ErrUnchanged) || len(got.Parked) != 19 {
		t.Errorf("removed twice: %+v, %v", got, err)
	}
	if got, ok := less.Add(kept(20), start.Add(4)); !ok || got.Parked[19] != kept(20) ||
		!got.Expires().Equal(start.Add(4+job.Retention)) {
		t.Errorf("room again: %t, %+v", ok, got)
	}
}

func TestCustomer(t *testing.T) {
	key := []byte("key")
	call := job.Call{ID: "c", OrgID: "org", CustomerNumber: "+15550100123", AssistantID: "a"}
	one := job.Customer(call, key)
	if one == "" || strings.Contains(one, "5550100123") || strings.ContainsAny(one, "/ ") {
		t.Errorf("a customer is called %q", one)
	}
	for name, row := range map[string]struct {
		call job.Call
		same bool
	}{
		"their next call": {
			job.Call{ID: "d", OrgID: "org", CustomerNumber: "+15550100123", Type: "inboundPhoneCall"}, true,
		},
		"another number":       {job.Call{OrgID: "org", CustomerNumber: "+15550100124"}, false},
		"another organisation": {job.Call{OrgID: "gro", CustomerNumber: "+15550100123"}, false},
		"the same letters":     {job.Call{OrgID: "org+", CustomerNumber: "15550100123"}, false},
		"no number":            {job.Call{OrgID: "org"}, false},
	} {
		if got := job.Customer(row.call, key); (got == one) != row.same {
			t.Errorf("%s is called %q", name, got)
		}
	}
	if got := job.Customer(job.Call{OrgID: "org"}, key); got != "" {
		t.Errorf("a customer without a number is called %q", got)
	}
	// Without the key, the name cannot be made from the number. The name of earlier versions can.
	other, unkeyed := job.Customer(call, []byte("other")), sha256.Sum256([]byte("org\x00+15550100123"))
	if earlier := hex.EncodeToString(unkeyed[:]); other == one || one == earlier || job.Customer(call, nil) != earlier {
		t.Errorf("with another key, the customer is called %q, and without one %q", other, job.Customer(call, nil))
	}
}

func TestChat(t *testing.T) {
	if !(job.Call{Type: "chat"}).Chat() || (job.Call{Type: "webCall"}).Chat() || (job.Call{}).Chat() {
		t.Error("only a call of the type chat is a chat")
	}
}
