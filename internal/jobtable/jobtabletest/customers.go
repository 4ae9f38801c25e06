package jobtabletest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// customerKey is the key that names customers, and olderKey the one before it.
var customerKey, olderKey = []byte("the current key"), []byte("the key before")

func keys(keys ...[]byte) jobtable.CustomerKeys {
	return func(context.Context) ([][]byte, error) { return keys, nil }
}

// customerCall returns a call of a customer in an organisation.
func customerCall(org string) job.Call { return job.Call{OrgID: org, CustomerNumber: plantedNumber} }

func testCustomers(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx := t.Context()
	customers := jobtable.NewCustomers(open(t).Customers(), keys(customerKey))
	result := func(i int) job.ParkedResult {
		return job.ParkedResult{JobID: fmt.Sprintf("call-%d/t", i), ToolCallID: "t", Tool: "weather"}
	}
	park := func(customer string, i int, want bool) error {
		ok, err := customers.Park(ctx, customerCall(customer), start, result(i))
		if err == nil && ok != want {
			err = fmt.Errorf("park %d: %t", i, ok)
		}
		return err
	}
	check := func(customer string, want ...job.ParkedResult) {
		t.Helper()
		got, err := customers.Parked(ctx, customerCall(customer))
		if err != nil {
			t.Fatal(err)
		}
		sorted := cmpopts.SortSlices(func(a, b job.ParkedResult) bool { return a.JobID < b.JobID })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), sorted); diff != "" {
			t.Errorf("parked for %s (-want +got):\n%s", customer, diff)
		}
	}
	check("a")
	// Jobs that end at the same time park their results, and some of them twice.
	if err := errors.Join(atOnce(12, func(i int) error { return park("a", i/2, true) })...); err != nil {
		t.Error(err)
	}
	var want []job.ParkedResult
	for i := range 6 {
		want = append(want, result(i))
	}
	check("a", want...)
	check("b")
	if err := customers.Unpark(ctx, customerCall("b"), start, result(1)); err != nil {
		t.Errorf("unpark what was never parked: %v", err)
	}
	for range 2 {
		if err := customers.Unpark(ctx, customerCall("a"), start, result(0)); err != nil {
			t.Error(err)
		}
	}
	check("a", want[1:]...)
	for i := range 20 {
		if err := park("full", i, true); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range map[int]bool{7: true, 20: false} {
		if err := park("full", i, want); err != nil {
			t.Errorf("with twenty parked results: %v", err)
		}
	}
}

// testCustomerNames rotates the key that names customers, after an update from a version without keys. What
// was parked under an earlier name is found, and keeps its assistant when it is parked again.
func testCustomerNames(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, c := t.Context(), customerCall("org")
	for name, row := range map[string]struct {
		parked []byte   // the key under which a result was parked
		keys   [][]byte // that are stored now
		found  bool
	}{
		"the current key":       {customerKey, [][]byte{customerKey}, true},
		"rotated":               {olderKey, [][]byte{customerKey, olderKey}, true},
		"rotated, and dropped":  {olderKey, [][]byte{customerKey}, false},
		"by an earlier version": {nil, [][]byte{customerKey}, true},
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t).Customers()
			p := job.ParkedResult{JobID: "call-1/t", ToolCallID: "t", Tool: "weather", Scoped: true, AssistantID: "first"}
			record, _ := job.CustomerRecord{Customer: job.Customer(c, row.parked)}.Add(p, start)
			if _, err := store.Save(ctx, record); err != nil {
				t.Fatal(err)
			}
			customers := jobtable.NewCustomers(store, keys(row.keys...))
			parked, err := customers.Parked(ctx, c)
			if err != nil || row.found != (len(parked) == 1) {
				t.Fatalf("parked: %+v, %v", parked, err)
			}
			if !row.found {
				return
			}
			again := p
			again.Revision, again.AssistantID = 9, "second"
			if ok, err := customers.Park(ctx, c, start, again); !ok || err != nil {
				t.Fatal(ok, err)
			}
			again.AssistantID = "first"
			if parked, err = customers.Parked(ctx, c); err != nil || len(parked) != 1 || parked[0] != again {
				t.Errorf("parked again: %+v, %v", parked, err)
			}
			if r, err := store.Load(ctx, job.Customer(c, customerKey)); err != nil || len(r.Parked) != 1 {
				t.Errorf("under the current name: %+v, %v", r, err)
			}
			if err := customers.Unpark(ctx, c, start, again); err != nil {
				t.Error(err)
			}
			if parked, err = customers.Parked(ctx, c); err != nil || len(parked) != 0 {
				t.Errorf("parked: %+v, %v", parked, err)
			}
		})
	}

	t.Run("without a key", func(t *testing.T) {
		for name, customers := range map[string]*jobtable.Customers{
			"none": jobtable.NewCustomers(open(t).Customers(), nil),
			"cannot be read": jobtable.NewCustomers(open(t).Customers(), func(context.Context) ([][]byte, error) {
				return nil, errors.New("down")
			}),
		} {
			p := job.ParkedResult{JobID: "call-1/t", ToolCallID: "t", Tool: "weather"}
			if ok, err := customers.Park(ctx, c, start, p); ok || err == nil {
				t.Errorf("%s: parked: %t, %v", name, ok, err)
			}
			if _, err := customers.Parked(ctx, c); err == nil {
				t.Errorf("%s: the list was read", name)
			}
			if ok, err := customers.Park(ctx, job.Call{CustomerNumber: "anonymous"}, start, p); ok || err != nil {
				t.Errorf("%s: parked for an unknown customer: %t, %v", name, ok, err)
			}
		}
	})

	t.Run("forgotten", func(t *testing.T) {
		customers := jobtable.NewCustomers(open(t).Customers(), keys(customerKey))
		park := func(i int) []job.CustomerRecord {
			p := job.ParkedResult{JobID: fmt.Sprint("call-1/t", i), ToolCallID: "t", Tool: "weather"}
			if ok, err := customers.Park(ctx, c, start, p); !ok || err != nil {
				t.Fatal(ok, err)
			}
			lists, err := customers.Lists(ctx, c)
			if err != nil || len(lists) != 1 {
				t.Fatalf("%+v, %v", lists, err)
			}
			return lists
		}
		early, lists := park(1), park(2)
		if err := customers.Forget(ctx, early[0]); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("a list that has changed: %v", err)
		}
		if err := customers.Forget(ctx, lists[0]); err != nil {
			t.Error(err)
		}
		if lists, err := customers.Lists(ctx, c); err != nil || len(lists) != 0 {
			t.Errorf("%+v, %v", lists, err)
		}
		if err := customers.Forget(ctx, lists[0]); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("a list that is gone: %v", err)
		}
		park(3)
	})
}
