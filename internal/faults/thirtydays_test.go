package faults_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
)

const (
	day        = 24 * time.Hour
	parkedTime = 30 * day // how long a result waits for its customer, as promised
)

// patientTools are tools whose jobs and results wait for days.
var patientTools = func() *asynctool.Set {
	wait := func(asynctool.Call) (asynctool.Result, error) { return asynctool.Wait(), nil }
	tool := func(name string, deadline time.Duration, after asynctool.AfterCall) asynctool.Tool[input] {
		return asynctool.Tool[input]{Name: name, Attempts: 2, Deadline: deadline, AfterCall: after}
	}
	return newTools([]timedTool{
		{2600 * time.Millisecond, nil, done, tool("parks", 0, asynctool.NextCall)},
		{2100 * time.Millisecond, checkState, inStages(3*day, time.Minute, 20*day), tool("sleeps", 60*day, "")},
		{2150 * time.Millisecond, checkState, inStages(40 * day), tool("sleeps_long", 60*day, "")},
		{2200 * time.Millisecond, checkState, inStages(5 * day), tool("sleeps_and_parks", 60*day, asynctool.NextCall)},
		{2300 * time.Millisecond, handOver, wait, tool("waits", 25*day, "")},
	})
}()

// thirtyDays is the scenario of results that wait for a customer, who calls in time, too late, or never, and of
// jobs that take weeks.
var thirtyDays = func() []webhook {
	gone := []int{404}
	parked := func(call, tool, want string) webhook {
		return webhook{call: call, group: call, customer: call, answers: gone, calls: one("x", tool, want)}
	}
	again := func(customer, call string, at time.Duration, answers ...int) webhook {
		return webhook{
			call: call, group: customer, customer: customer, status: "in-progress", at: after(at), answers: answers,
		}
	}
	const noCall, ok, either = "published no_next_call", "delivered ok", "delivered ok|published no_next_call"
	return []webhook{
		parked("never", "parks", noCall),
		parked("in-time", "parks", ok), again("in-time", "calls-in-time", 29*day),
		parked("too-late", "parks", noCall), again("too-late", "calls-too-late", 32*day),
		// When the sweep finds the result.
		parked("at-once", "parks", either), again("at-once", "calls-at-once", 31*day),
		parked("hangs-up", "parks", noCall), again("hangs-up", "calls-and-hangs-up", 20*day, 404),
		{call: "two", answers: gone, calls: []toolCall{
			{id: "one", tool: "parks", want: noCall}, {id: "other", tool: "parks", want: noCall},
		}},
		parked("later", "sleeps_and_parks", noCall),
		{call: "asleep", calls: one("x", "sleeps", ok)},
		{call: "long-asleep", calls: one("x", "sleeps_long", ok)},
		{call: "external", calls: []toolCall{
			{id: "x", tool: "waits", want: ok, posters: []poster{{at: 20 * day, body: result("done in the end")}}},
		}},
		{call: "external-never", calls: one("x", "waits", "delivered error")},
		{call: "operated", calls: []toolCall{{id: "x", tool: "waits", want: "delivered error", cancelled: 10 * day}}},
	}
}()

// thirtyDaysLast is how long a run takes: until the last record has expired.
const thirtyDaysLast = 100 * day

// TestThirtyDays lets months pass, without faults, with single ones and with pairs. Records are deleted as soon
// as they expire, or days later. Each result that no call got becomes an event before that.
func TestThirtyDays(t *testing.T) {
	random := chosenSeed()
	noSweeps := outage{
		name: "sweeps", function: "scheduler", ops: []string{"send wake-up"}, kind: errorKind, from: 25*day + time.Hour,
		lasts: 14 * day,
	}
	for name, row := range map[string]struct {
		late    time.Duration // until an expired record is deleted
		outages []outage
		lose    bool // the first wake-up of each job
	}{
		"records are deleted at once":        {},
		"records are deleted two days later": {late: 2 * day},
		"two weeks without sweeps":           {outages: []outage{noSweeps}},
		"a wake-up of each job is lost":      {lose: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setting{
				scenario: thirtyDays, tools: patientTools, lasts: thirtyDaysLast, outages: row.outages,
				store: func(t *testing.T, w *world, _ *memtable.Store) (jobtable.Stores, func() []job.Record) {
					return inExpiringDynamoDB(t, w, row.late)
				},
			}
			play := func(p faultPlan) *world {
				s.plan = p.plan()
				if row.lose {
					s.wakeUps, _ = loseOne()
				}
				return run(t, s)
			}
			first := play(nil)
			for _, v := range append(first.violations(), first.unexpected()...) {
				t.Errorf("without faults: %.600s", v)
			}
			if n := len(first.expiry.records()); n != len(first.ids()) {
				t.Errorf("the records of %d of %d jobs have expired", n, len(first.ids()))
			}
			if !row.lose {
				s.endings = first.endedAfter()
			}
			// Of the daily sweeps, those that find something.
			all := faultsAt(slices.DeleteFunc(slices.Clone(first.trace), func(s step) bool {
				return s.n > 6 && s.n < 29 || s.n > 55
			}), true)
			rng := rand.New(rand.NewPCG(random, 0))
			some := pick(rng, plans(slices.Clone(all)), choose(20, 1000))
			for range choose(15, 500) {
				some = append(some, choice(rng, all, 2+rng.IntN(2)))
			}
			for _, p := range some {
				for _, v := range play(p).violations() {
					t.Errorf("%s (seed %d): %.600s", p, random, v)
				}
			}
		})
	}
}

// inExpiringDynamoDB is like inDynamoDB. Expired items are deleted, some time later.
func inExpiringDynamoDB(t *testing.T, w *world, late time.Duration) (jobtable.Stores, func() []job.Record) {
	client := &dynamoClient{Client: minidyn.NewClient(), world: w, expiry: &expiry{
		late: late, at: make(map[string]time.Time), waits: make(map[string]time.Time),
	}}
	if err := client.makeTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expiry = client.expiry
	return dynamotable.New(client, "jobs"), client.records
}

// expiry is the time to live of the items in a table. A nil *expiry deletes nothing.
type expiry struct {
	late time.Duration // until an expired item is deleted

	mu      sync.Mutex
	at      map[string]time.Time // when items are deleted, by id
	waits   map[string]time.Time // since when the result of a job is parked, or meant for a next call
	expired []job.Record
}

// save notes when an item is deleted.
func (e *expiry) save(item map[string]types.AttributeValue) {
	if e == nil {
		return
	}
	seconds, err := strconv.ParseInt(item["expires"].(*types.AttributeValueMemberN).Value, 10, 64)
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at[text(item, "id")] = time.Unix(seconds, 0).Add(e.late)
	if r, ok := recordIn(item); ok && (r.State == job.StateParked || r.State == job.StateDone && r.NextCallID != "") {
		e.waits[r.ID] = time.Now()
	}
}

func (e *expiry) records() []job.Record {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.expired)
}

// expire deletes the items whose time has come. A job must have ended by then.
func (c *dynamoClient) expire() {
	if c.expiry == nil {
		return
	}
	c.expiry.mu.Lock()
	defer c.expiry.mu.Unlock()
	for id, at := range c.expiry.at {
		if time.Now().Before(at) {
			continue
		}
		delete(c.expiry.at, id)
		out, err := c.Client.DeleteItem(context.Background(), &dynamodb.DeleteItemInput{
			TableName: new("jobs"), Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}},
			ReturnValues: types.ReturnValueAllOld,
		})
		if err != nil {
			panic(err)
		}
		r, ok := recordIn(out.Attributes)
		if !ok {
			continue
		}
		c.expiry.expired = append(c.expiry.expired, r)
		if r.State != job.StateDelivered && r.State != job.StateUndelivered && r.State != job.StateCancelled {
			c.world.mu.Lock()
			c.world.wrong("lost", id, "its record has expired: %s", show(r))
			c.world.mu.Unlock()
		}
	}
}

// judgeParking checks when a result became an event because no call got it: not before parkedTime, and with the
// next sweep after that. Each fault may cost a sweep.
func (w *world) judgeParking(id string, u job.Undelivered) {
	if w.expiry == nil || u.Reason != job.ReasonNoNextCall {
		return
	}
	most := parkedTime + day*time.Duration(1+len(w.given.plan)) + time.Hour
	for _, o := range w.outages {
		most += o.lasts
	}
	if after := u.At.Sub(w.expiry.waits[id]); after < parkedTime || after > most {
		w.wrong("late", id, "it became an event %s after it was parked; from %s to %s are right", after, parkedTime, most)
	}
}
