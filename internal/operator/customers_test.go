package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
)

// customers is implemented by [operator.Customers] and [operator.Local].
type customers interface {
	Find(ctx context.Context, number, orgID string, read func(records int)) (operator.Stored, error)
	Forget(ctx context.Context, s operator.Stored) (operator.Forgotten, error)
}

const (
	number = "+15550100100" // of every job: see [world.claim]
	secret = "the planted result"
)

// park stores a parked result, with its entry in the customer's list.
func (w *world) park(t *testing.T, callID, org string) job.Job {
	t.Helper()
	j, r := w.claim(t, callID, "p")
	j.Call.OrgID = org
	result := job.Result{Status: job.StatusOK, Content: secret, Delivery: policy.DeliveryRespond}
	for _, rule := range []job.Rule{
		job.StoreJob(j), job.Finish(w.now, result, false, ""), job.Settle(w.now, job.StateParked, ""),
	} {
		if _, err := w.table.Change(t.Context(), r.ID, rule); err != nil {
			t.Fatal(err)
		}
	}
	p := job.ParkedResult{JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool}
	if ok, err := w.lists.Park(t.Context(), j.Call, w.now, p); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return j
}

// parkUnnamed stores a parked result whose record has no number, as earlier versions parked it.
func (w *world) parkUnnamed(t *testing.T, callID, org string) job.Job {
	t.Helper()
	j := w.park(t, callID, org)
	r, err := w.table.Load(t.Context(), j.ID)
	if err == nil {
		r.StoredJob = nil
		_, err = w.store.Save(t.Context(), r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestForget deletes what is stored about one of two customers.
func TestForget(t *testing.T) {
	for name, row := range map[string]struct {
		of     func(w *world) customers
		unsent bool
	}{
		"deployment": {of: func(w *world) customers { return w.customers }},
		"local":      {of: func(w *world) customers { return w.far }},
		"the queue is unavailable": {
			of: func(w *world) customers { return w.customers }, unsent: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, c := t.Context(), row.of(w)
			parked := w.park(t, "c1", "org")
			w.wait(t, "c2", "b")                // a suspended job
			running, _ := w.claim(t, "c3", "c") // has no number in its record
			settled, r := w.claim(t, "c4", "d") // by an earlier version
			r.State, r.StoredJob, r.Result = job.StateDelivered, &settled, &job.Result{Content: "x"}
			if _, err := w.store.Save(ctx, r); err != nil {
				t.Fatal(err)
			}
			other, r := w.claim(t, "c5", "e")
			other.Call.CustomerNumber = number + "9"
			other.Arguments = json.RawMessage(`{"friend":"` + number + `"}`)
			if _, err := w.table.Change(ctx, r.ID, job.StoreJob(other)); err != nil {
				t.Fatal(err)
			}
			if row.unsent {
				w.out.err = errors.New("down")
			}

			s, err := c.Find(ctx, " +1 (555) 010-0100", "", nil)
			if err != nil || len(s.Parked) != 1 || s.Parked[0].ID != parked.ID || len(s.Others) != 2 || s.Lists != 1 ||
				s.Mentions != 1 || s.Number != number {
				t.Fatalf("%+v, %v", s, err)
			}
			f, err := c.Forget(ctx, s)
			want := operator.Forgotten{Results: 1, Numbers: 2, Lists: 1}
			if row.unsent {
				want.Unsent = 1
			}
			if err != nil || f != want {
				t.Errorf("%+v, %v, want %+v", f, err, want)
			}

			// What is left of the customer is what other records mention.
			found, _, _, err := w.store.Search(ctx, number, "")
			if err != nil || len(found) != 1 || found[0].ID != other.ID || found[0].Job().Call != other.Call {
				t.Errorf("%+v, %v", found, err)
			}
			if found, _, _, err := w.store.Search(ctx, secret, ""); err != nil || len(found) != 0 {
				t.Errorf("the result is still there: %+v, %v", found, err)
			}
			if lists, err := w.lists.Lists(ctx, parked.Call); err != nil || len(lists) != 0 {
				t.Errorf("%+v, %v", lists, err)
			}
			// The suspended job continues, and the one that runs is not changed.
			for id, state := range map[string]job.State{"c2/b": job.StateWaiting, running.ID: job.StateRunning} {
				if r, err := w.table.Load(ctx, id); err != nil || r.State != state ||
					state == job.StateWaiting && r.Job().Call.ControlURL == "" {
					t.Errorf("%+v, %v", r, err)
				}
			}
			// The result ends in an event. If it is not sent now, the daily sweep finds the job.
			r, err = w.table.Load(ctx, parked.ID)
			if err != nil || r.State != job.StateDone || !r.OutcomePending() || r.Forgotten.IsZero() || !r.NoNextCall {
				t.Errorf("%+v, %v", r, err)
			}
			if !r.Summary().Overdue(w.now.Add(time.Hour)) {
				t.Error("no sweep finds the job")
			}
			if row.unsent {
				return
			}
			if len(w.out.sent) != 1 || strings.Contains(w.out.sent[0].Body, number) ||
				strings.Contains(w.out.sent[0].Body, secret) {
				t.Fatalf("sent %+v", w.out.sent)
			}
			if o, err := job.DecodeOutcome(w.out.sent[0].Body); err != nil || o.JobID != parked.ID || !o.NoNextCall ||
				o.Call.ID != "c1" {
				t.Errorf("%+v, %v", o, err)
			}
			if s, err := c.Find(ctx, number, "org", nil); err != nil || len(s.Parked)+len(s.Others)+s.Lists != 0 {
				t.Errorf("found again: %+v, %v", s, err)
			}
		})
	}
}

// TestForgetWithoutANumber forgets a result whose record has no number, as earlier versions parked it. Its list
// is found if the organisation is named.
func TestForgetWithoutANumber(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	parked := w.parkUnnamed(t, "c1", "org")
	if s, err := w.customers.Find(ctx, number, "", nil); err != nil || s.Lists != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	read := 0
	s, err := w.customers.Find(ctx, number, "org", func(n int) { read = n })
	if err != nil || s.Lists != 1 || len(s.Parked) != 1 || read != 1 {
		t.Fatalf("%+v, %v, %d records", s, err, read)
	}
	if f, err := w.customers.Forget(ctx, s); err != nil || f != (operator.Forgotten{Results: 1, Lists: 1}) {
		t.Errorf("%+v, %v", f, err)
	}
	if o, err := job.DecodeOutcome(w.out.sent[0].Body); err != nil || o.JobID != parked.ID {
		t.Errorf("%+v, %v", o, err)
	}
}

// interrupted ends a command after some writes.
type interrupted struct {
	*jobtable.Table
	*jobtable.Customers
	writes int
}

func (i *interrupted) write() error {
	if i.writes--; i.writes < 0 {
		return errors.New("interrupted")
	}
	return nil
}

func (i *interrupted) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	if err := i.write(); err != nil {
		return job.Record{}, err
	}
	return i.Table.Change(ctx, id, rule)
}

func (i *interrupted) Forget(ctx context.Context, list job.CustomerRecord) error {
	if err := i.write(); err != nil {
		return err
	}
	return i.Customers.Forget(ctx, list)
}

// TestForgetInterrupted ends the command after each of its writes, and repeats it. One of two results is in a record
// without the number, as earlier versions parked it.
func TestForgetInterrupted(t *testing.T) {
	for writes := 0; ; writes++ {
		w := newWorld(t)
		ctx := t.Context()
		named := w.park(t, "c1", "org")
		w.parkUnnamed(t, "c2", "org")
		i := &interrupted{Table: w.table, Customers: w.lists, writes: writes}
		first, err := operator.NewCustomers(operator.CustomersConfig{
			Table: i, Lists: i, Outcomes: w.out, Search: w.store.Search, Now: func() time.Time { return w.now },
			Copies: operator.CustomerCopies{
				Names: w.lists.ReplayNames, Search: w.store.ReplaysOf, Delete: w.store.Replays().Delete,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		for _, c := range []*operator.Customers{first, w.customers} {
			s, err := c.Find(ctx, number, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Forget(ctx, s); c == first {
				failed = err
			} else if err != nil {
				t.Errorf("after %d writes: %v", writes, err)
			}
		}
		for _, text := range []string{number, secret} {
			if found, _, _, err := w.store.Search(ctx, text, ""); err != nil || len(found) != 0 {
				t.Errorf("after %d writes, %q is still there: %+v, %v", writes, text, found, err)
			}
		}
		if lists, err := w.lists.Lists(ctx, named.Call); err != nil || len(lists) != 0 {
			t.Errorf("after %d writes, there are still lists: %+v, %v", writes, lists, err)
		}
		if failed == nil {
			if writes != 3 {
				t.Errorf("the command has %d writes, want one for each result and one for the list", writes)
			}
			return
		}
	}
}

// TestForgetMeanwhile parks another result after the search.
func TestForgetMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.park(t, "c1", "org")
	s, err := w.customers.Find(t.Context(), number, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.park(t, "c2", "org")
	if f, err := w.customers.Forget(t.Context(), s); err == nil || f != (operator.Forgotten{}) {
		t.Errorf("%+v, %v", f, err)
	}
	if s, err = w.customers.Find(t.Context(), number, "", nil); err != nil || len(s.Parked) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]string{
		"+15550100100": number, "+1 555 010-0100": number, "+1 (555) 010.0100": number, "+1/555\u00a00100100": number,
		"15550100100": "", "0049 151 1": "", "anonymous": "", "": "", "+266696687": "", "+1555010010x": "",
	} {
		if got, err := operator.Number(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
