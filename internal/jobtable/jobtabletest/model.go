package jobtabletest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// rules are what can happen to a job, and the state that it is in afterwards,
// by the state that it was in. With an exclamation mark it is the error; a
// hyphen says that it cannot happen. What depends on more than the state is in
// [world.happen]. What an attempt does itself, and who tells a result, may come
// long after it has lost the job. What stands further up is tried more often.
const rules = `
             absent     running    waiting    done       kept       delivered   undelivered  cancelled
suspend      -          waiting    !changed   !finished  !finished  !finished   !finished    !finished
wake         !notfound  running    running    !finished  !finished  !finished   !finished    !finished
claim        running    running    running    !finished  !finished  !finished   !finished    !finished
keep         -          running    !changed   !finished  !finished  !finished   !finished    !finished
progress     !notfound  running    waiting    !finished  !finished  !finished   !finished    !finished
tell         !notfound  running    waiting    !stale     !stale     !stale      !stale       !stale
told         -          running    waiting    done       kept       delivered   undelivered  cancelled
release      -          running    !changed   !finished  !finished  !finished   !finished    !finished
complete     !notfound  done       done       !finished  !finished  !finished   !finished    !finished
finish       -          done       !changed   !finished  !finished  !finished   !finished    !finished
put          -          -          -          kept       kept       !settled    !settled     -
revive       !notfound  !notdone   !notdone   done       done       !notkept    !notkept     !notkept
deliver      !notfound  !notdone   !notdone   done       !settled   !settled    !settled     !settled
callback     -          -          -          done       !changed   !changed    !changed     -
postpone     -          -          -          done       !changed   !changed    !changed     -
calloff      -          -          -          done       !changed   !changed    !changed     -
delivered    -          -          -          delivered  !settled   delivered   !settled     -
undelivered  -          -          -          undelivered !settled  !settled    undelivered  -
redrive      -          !settled   !settled   !settled   !settled   done        done         !settled
cancel       !notfound  done       done       !finished  !finished  !finished   !finished    !finished
replace      !notfound  cancelled  cancelled  !finished  !finished  !finished   !finished    !finished
`

// drawing is the ways between states that the comment of [job.State] draws.
var drawing = map[job.State][]job.State{
	"":                   {job.StateRunning},
	job.StateRunning:     {job.StateWaiting, job.StateDone, job.StateCancelled},
	job.StateWaiting:     {job.StateRunning, job.StateDone, job.StateCancelled},
	job.StateDone:        {job.StateParked, job.StateDelivered, job.StateUndelivered},
	job.StateParked:      {job.StateDone},
	job.StateDelivered:   {job.StateDone}, // redriven
	job.StateUndelivered: {job.StateDone}, // redriven
}

type move struct {
	to         job.State
	err        error
	impossible bool
}

func readRules(t *testing.T) (events []string, moves map[string]map[job.State]move) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(rules), "\n")
	states := strings.Fields(lines[0])
	moves = make(map[string]map[job.State]move)
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) != 1+len(states) {
			t.Fatalf("the row %q has %d cells", line, len(cells))
		}
		row := make(map[job.State]move)
		for i, cell := range cells[1:] {
			state := job.State(states[i])
			if state == "absent" {
				state = ""
			}
			name, fails := strings.CutPrefix(cell, "!")
			err := map[string]error{
				"notfound": jobtable.ErrNotFound, "changed": jobtable.ErrChanged, "finished": job.ErrFinished, "stale": job.ErrStale,
				"notdone": job.ErrNotDone, "settled": job.ErrSettled, "notkept": job.ErrNotParked,
			}[name]
			if fails != (err != nil) {
				t.Fatalf("the row %q says %q", line, cell)
			}
			row[state] = move{to: job.State(name), err: err, impossible: cell == "-"}
		}
		events, moves[cells[0]] = append(events, cells[0]), row
	}
	return events, moves
}

// steps is how many events each check of the model has. With some more, each job
// gets to its end.
const steps = 80

// world is the model of a few jobs, beside the table that it is compared with.
type world struct {
	*rapid.T
	t     *testing.T
	store jobtable.JobStore
	table table
	moves map[string]map[job.State]move
	jobs  []*modelJob
}

// modelJob is what the model knows of a job.
type modelJob struct {
	job      job.Job
	state    job.State // empty: it has no record
	changes  int64     // how often it was changed, which is its revision
	created  time.Time
	updated  time.Time
	deadline time.Time

	owner   int // the attempt that holds it, as an index; none: -1
	attempt int
	until   time.Time // nobody else may claim it, or its result, before
	reason  string

	kept    bool // somebody outside can complete it
	wakes   int
	wakeAt  time.Time
	outside bool
	memory  string

	lines   int
	lineAt  time.Time
	line    string
	told    int
	held    bool
	telling time.Time

	content   string // of its result
	exhausted bool
	calling   bool
	revivedIn string
	settled   int // how often its result was told or given up
	redriven  int

	attempts   []job.Record // as they were claimed
	deliveries []job.Record
	tellings   []job.Record
}

// memories are states of tools, as the tools' package encodes them.
var memories = []string{
	"", `null`, `""`, `0`, `{}`, `{"page":12345678901234567890,"rate":1.50}`, `"\u003cb\u003e ä 日本 😀 \u2028 \\ \" \u0000"`, `[1,[2,[3,null]]]`,
	`"` + strings.Repeat("ä", 32<<10-1) + `"`,
}

// testModel compares a table with a plain model of it over random events, in
// any order.
func testModel(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	events, moves := readRules(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, t: t, store: open(t), moves: moves}
		w.table = newTable(w.store)
		for i := range 3 {
			call := fmt.Sprintf("call-%d", i/2) // two jobs of one call, one of another
			id := fmt.Sprintf("t%d", i)
			w.jobs = append(w.jobs, &modelJob{owner: -1, deadline: start.Add(time.Duration(i+1) * time.Hour), job: job.Job{
				ID: job.ID(call, id), ToolCallID: id, Tool: "weather", Call: job.Call{ID: call}, CallEnds: start.Add(90 * time.Minute),
			}})
		}
		often := rapid.SampledFrom([]bool{true, true, true, false})
		for range steps {
			w.pass()
			m := rapid.SampledFrom(w.jobs).Draw(rt, "job")
			// Most of the time it is something that the state allows, as
			// the ends would not be come to otherwise.
			likely := slices.DeleteFunc(slices.Clone(events), func(event string) bool {
				to := moves[event][m.state]
				return to.impossible || to.err != nil || to.to == job.StateCancelled
			})
			event := rapid.SampledFrom(events).Draw(rt, "event")
			if len(likely) > 0 && often.Draw(rt, "likely") {
				event = rapid.SampledFrom(likely).Draw(rt, "likely event")
			}
			before := m.state
			if w.happen(event, m) {
				w.check(m, before)
			}
		}
		for _, m := range w.jobs {
			w.checkCall(m.job.Call.ID)
		}
	})
}

// pass lets some time pass, often up to a moment that counts.
func (w *world) pass() {
	now := w.table.now()
	moments := []time.Time{now, now, now, now.Add(time.Second), now.Add(job.ProgressPause), now.Add(lease)}
	for _, m := range w.jobs {
		for _, moment := range []time.Time{m.until, m.until, m.wakeAt, m.telling, m.telling, m.lineAt.Add(job.ProgressPause)} {
			if moment.After(now) && moment.Before(now.Add(10*lease)) {
				moments = append(moments, moment)
			}
		}
	}
	if rapid.IntRange(0, 99).Draw(w.T, "long") == 99 {
		for _, m := range w.jobs {
			moments = append(moments, m.wakeAt, m.deadline, m.deadline.Add(1))
		}
	}
	moments = slices.DeleteFunc(moments, func(moment time.Time) bool { return moment.Before(now) })
	w.table.pass(rapid.SampledFrom(moments).Draw(w.T, "now").Sub(now))
}

// latest draws one of what was claimed, most of the time the last.
func latest(w *world, claimed []job.Record) int {
	if rapid.Bool().Draw(w.T, "latest") {
		return len(claimed) - 1
	}
	return rapid.IntRange(0, len(claimed)-1).Draw(w.T, "which")
}

// happen has an event happen to a job, in the table and in the model. It gives
// false where there is nothing that it could happen to.
func (w *world) happen(event string, m *modelJob) bool {
	ctx, id, now := w.t.Context(), m.job.ID, w.table.now()
	wait := time.Duration(rapid.SampledFrom([]int{0, 1, 60, 300}).Draw(w.T, "wait")) * time.Second
	flag := rapid.Bool().Draw(w.T, "flag")
	text := fmt.Sprintf("%s at change %d", event, m.changes)
	result := job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: text}

	// What it comes to beside the state, where it comes about.
	var do func() (job.Record, error)
	var then func(r job.Record)
	unchanged := false // it comes about, and nothing is saved
	touched := true    // what is saved counts as a change
	var refused error  // what depends on more than the state

	switch event {
	case "claim", "wake":
		switch {
		case m.state == job.StateRunning && now.Before(m.until):
			refused = &job.BusyError{Until: m.until}
		case m.state == job.StateWaiting && now.Before(m.wakeAt):
			refused = &job.SuspendedError{Until: m.wakeAt}
		}
		holder := fmt.Sprintf("message-%d", len(m.attempts)%2)
		do = func() (job.Record, error) {
			if event == "wake" {
				return w.table.Change(ctx, id, job.Claim(now, holder, lease))
			}
			// What it was claimed with first is what counts.
			return w.table.Claim(ctx, job.NewRecord(m.job, terms, m.deadline.Add(time.Duration(m.changes)), holder, now, lease))
		}
		then = func(r job.Record) {
			if m.state == "" {
				m.created = now
			}
			if m.state == job.StateWaiting {
				m.attempt = 0
			}
			m.attempts = append(m.attempts, r)
			m.attempt++
			m.owner, m.until = len(m.attempts)-1, now.Add(lease)
		}

	case "finish", "release", "suspend", "keep":
		if len(m.attempts) == 0 {
			return false
		}
		i := latest(w, m.attempts)
		claimed := m.attempts[i]
		if i != m.owner {
			refused = jobtable.ErrChanged
		}
		memory := json.RawMessage(rapid.SampledFrom(memories).Draw(w.T, "memory"))
		switch event {
		case "finish":
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.Finish(now, result, flag, ""))
			}
			then = func(job.Record) {
				m.owner, m.until, m.content, m.exhausted = -1, time.Time{}, text, flag
				if m.wakes > 0 && !now.Before(m.deadline) {
					m.deadline = now.Add(20 * time.Minute)
					if m.job.CallEnds.After(m.deadline) {
						m.deadline = m.job.CallEnds
					}
				}
			}
		case "release":
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.Release(now, wait, flag, text))
			}
			then = func(job.Record) {
				m.owner, m.until, m.reason = -1, now.Add(wait), text
				if flag {
					// Its number is given again: who gave it back must
					// not come back.
					m.attempt--
					m.attempts = slices.Delete(slices.Clone(m.attempts), i, i+1)
				}
			}
		case "suspend":
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.Suspend(now, m.job, now.Add(wait), flag, memory))
			}
			then = func(job.Record) {
				m.owner, m.until, m.kept, m.outside, m.wakeAt, m.memory = -1, time.Time{}, true, flag, now.Add(wait), string(memory)
				m.wakes++
				if flag {
					m.wakeAt = m.deadline
				}
			}
		case "keep":
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.StoreJob(now, m.job))
			}
			then = func(job.Record) { m.kept = true }
		}

	case "complete":
		if now.After(m.deadline) || !m.kept {
			refused = job.ErrExpired
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Complete(now, result)) }
		then = func(job.Record) {
			m.owner, m.until, m.content = -1, time.Time{}, text
			if least := now.Add(time.Minute); m.deadline.Before(least) {
				m.deadline = least
			}
		}
	case "cancel":
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Cancel(now, result, text)) }
		then = func(job.Record) { m.owner, m.until, m.content, m.reason = -1, time.Time{}, text, text }
	case "replace":
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Replace(now, text)) }
		then = func(job.Record) { m.owner, m.until, m.reason = -1, time.Time{}, text }

	case "progress":
		if until := m.lineAt.Add(job.ProgressPause); m.lines > 0 && now.Before(until) {
			refused = &job.TooSoonError{Until: until}
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.AddProgress(now, text)) }
		then = func(job.Record) { m.lines, m.lineAt, m.line = m.lines+1, now, text }
	case "tell":
		sequence := rapid.IntRange(0, m.lines).Draw(w.T, "sequence")
		if flag {
			sequence = m.lines
		}
		switch {
		case sequence < m.lines, sequence == 0 && m.held, sequence > 0 && sequence <= m.told:
			refused = job.ErrStale
		case now.Before(m.telling):
			refused = &job.BusyError{Until: m.telling}
		}
		do = func() (job.Record, error) {
			return w.table.Change(ctx, id, job.ClaimProgress(now, sequence, lease))
		}
		then = func(r job.Record) {
			if sequence == 0 {
				m.held = true
			}
			m.told, m.telling = sequence, now.Add(lease)
			m.tellings = append(m.tellings, r)
		}
	case "told":
		if len(m.tellings) == 0 {
			return false
		}
		claimed := m.tellings[latest(w, m.tellings)]
		unchanged = !claimed.ProgressLeaseExpiry.Equal(m.telling)
		do = func() (job.Record, error) {
			return job.Record{}, errorOf(w.table.Change(ctx, claimed.ID, job.EndProgress(now, claimed)))
		}
		then = func(job.Record) { m.telling = time.Time{} }

	case "deliver":
		switch {
		case now.Before(m.until):
			refused = &job.BusyError{Until: m.until}
		case now.Before(m.telling):
			refused = &job.BusyError{Until: m.telling}
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.ClaimDelivery(now, lease)) }
		then = func(r job.Record) {
			m.until = now.Add(lease)
			m.deliveries = append(m.deliveries, r)
		}
	case "postpone", "callback", "calloff", "delivered", "undelivered", "put":
		if len(m.deliveries) == 0 {
			return false
		}
		claimed := m.deliveries[latest(w, m.deliveries)]
		if claimed.Revision != m.changes {
			refused = jobtable.ErrChanged
		}
		settle := func(state job.State) func() (job.Record, error) {
			return func() (job.Record, error) {
				return job.Record{}, w.table.Settle(ctx, claimed, now, state, "")
			}
		}
		then = func(job.Record) { m.until, m.settled = time.Time{}, m.settled+1 }
		switch event {
		case "postpone":
			do = func() (job.Record, error) {
				return job.Record{}, errorOf(w.table.ChangeClaimed(ctx, claimed, job.ReleaseDelivery(now, wait)))
			}
			then = func(job.Record) { m.until = now.Add(wait) }
		case "callback":
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.RecordOutboundCall(now))
			}
			then = func(r job.Record) {
				m.calling = true
				m.deliveries = append(m.deliveries, r)
			}
			if !claimed.OutboundCallAt.IsZero() {
				refused = job.ErrSettled // whatever else is so by now
			}
		case "calloff":
			do = func() (job.Record, error) {
				return job.Record{}, errorOf(w.table.ChangeClaimed(ctx, claimed, job.RetractOutboundCall(now, wait)))
			}
			then = func(job.Record) { m.until, m.calling = now.Add(wait), false }
		case "delivered":
			// Whoever holds it by now, the first one counts.
			refused, unchanged = nil, m.state == job.StateDelivered
			do = settle(job.StateDelivered)
		case "undelivered":
			refused, unchanged = nil, m.state == job.StateUndelivered
			do = settle(job.StateUndelivered)
		case "put":
			// It is only kept for a next call by who holds it.
			unchanged = m.state == job.StateParked
			if unchanged || claimed.LeaseExpiry.Equal(m.until) {
				refused = nil
			}
			do = settle(job.StateParked)
			then = func(job.Record) { m.until = time.Time{} }
		}
	case "revive":
		call := rapid.SampledFrom([]string{"next", "one after"}).Draw(w.T, "next call")
		deadline := now.Add(wait)
		// What never reached the call that it was revived for goes to the
		// next one.
		late := m.revivedIn != "" && now.After(m.deadline) && !now.Before(m.until)
		if m.state == job.StateDone && m.revivedIn != call && !late {
			refused = job.ErrNotDone
		}
		touched = m.state != job.StateDone || m.revivedIn != call
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Unpark(now, call, deadline)) }
		then = func(job.Record) {
			if touched {
				m.revivedIn, m.deadline, m.until = call, deadline, time.Time{}
			}
		}
	case "redrive":
		if m.state == "" {
			return false
		}
		claimed, err := w.table.Load(ctx, id)
		if err != nil {
			w.Fatalf("load: %v", err)
		}
		if !m.exhausted || !now.After(m.deadline) {
			refused = job.ErrSettled
		}
		do = func() (job.Record, error) {
			return w.table.ChangeClaimed(ctx, claimed, job.Redrive(now, "redriven"))
		}
		then = func(job.Record) { m.exhausted, m.redriven, m.until = false, m.redriven+1, time.Time{} }
	default:
		w.t.Fatalf("there is no event %q", event)
	}

	to := w.moves[event][m.state]
	if to.impossible {
		w.Fatalf("%s of a job that is %q cannot be", event, m.state)
	}
	want := to.err
	// Only a call back looks at what it knew first.
	if want == nil || event == "callback" && errors.Is(refused, job.ErrSettled) {
		want = refused
	}
	r, err := do()
	if !is(err, want) {
		w.Fatalf("%s of a job that is %q: %v, want %v", event, m.state, err, want)
	}
	if errors.Is(want, job.ErrFinished) && (r.State != m.state || r.State == job.StateDone && r.Result.Content != m.content) {
		w.Fatalf("%s of a job that is %q gives the record %+v", event, m.state, r)
	}
	if want == nil && !unchanged {
		then(r)
		m.state, m.changes = to.to, m.changes+1
		if touched {
			m.updated = now
		}
	}
	return true
}

// is says whether an error is the one that is wanted, with its time.
func is(err, want error) bool {
	var busy *job.BusyError
	var asleep *job.SuspendedError
	var soon *job.TooSoonError
	switch want := want.(type) {
	case *job.BusyError:
		return errors.As(err, &busy) && busy.Until.Equal(want.Until)
	case *job.SuspendedError:
		return errors.As(err, &asleep) && asleep.Until.Equal(want.Until)
	case *job.TooSoonError:
		return errors.As(err, &soon) && soon.Until.Equal(want.Until)
	}
	return errors.Is(err, want)
}

// check compares a job with its record, and sees that what must always hold
// does so.
func (w *world) check(m *modelJob, before job.State) {
	r, err := w.table.Load(w.t.Context(), m.job.ID)
	if m.state == "" {
		if !errors.Is(err, jobtable.ErrNotFound) {
			w.Fatalf("a job that was never claimed has a record: %+v, %v", r, err)
		}
		return
	}
	if err != nil {
		w.Fatalf("load: %v", err)
	}
	if r.State != before && !slices.Contains(drawing[before], r.State) {
		w.Fatalf("no way leads from %q to %q", before, r.State)
	}
	if m.settled > 1+m.redriven {
		w.Fatalf("the result was told %d times, and redriven %d times", m.settled, m.redriven)
	}
	now := w.table.now()
	if !r.State.Active() {
		for sequence := range m.lines + 2 {
			if _, err := job.ClaimProgress(now, sequence, lease).Apply(r); !errors.Is(err, job.ErrStale) {
				w.Fatalf("line %d of a job that is %q can be told: %v", sequence, r.State, err)
			}
		}
	}
	if result := r.Result; (result != nil) != (r.State != job.StateCancelled && !r.State.Active()) || result != nil && result.Content != m.content {
		w.Fatalf("a job that is %q has the result %+v, want %q", r.State, result, m.content)
	}
	if string(r.ToolState) != m.memory {
		w.Fatalf("the tool's state is %.200q, want %.200q", r.ToolState, m.memory)
	}
	type seen struct {
		State                              job.State
		Revision                           int64
		Attempt, Wake, Lines, Told         int
		Held, Kept, Outside, Exhausted     bool
		Calling                            bool
		RevivedIn, Line, Reason            string
		Deadline, Updated, Created         time.Time
		Telling, Until, WakeAt             time.Time
		HeldByOwner, PendingWithoutMessage bool
	}
	got := seen{
		State: r.State, Revision: r.Revision, Attempt: r.Attempt, Wake: r.WakeUp, Told: r.ProgressDelivered, Held: r.HoldDelivered, Kept: r.StoredJob != nil,
		Outside: r.External, Exhausted: r.Exhausted, Calling: !r.OutboundCallAt.IsZero(), RevivedIn: r.NextCallID, Reason: r.Reason,
		Deadline: r.Deadline, Updated: r.Updated, Created: r.Created, Telling: r.ProgressLeaseExpiry, Until: r.LeaseExpiry, WakeAt: r.WakeAt,
		HeldByOwner: m.owner >= 0 && r.OwnedAs(m.attempts[m.owner]), PendingWithoutMessage: r.OutcomePending(),
	}
	if r.Progress != nil {
		got.Lines, got.Line = r.Progress.Sequence, r.Progress.Text
	}
	want := seen{
		State: m.state, Revision: m.changes, Attempt: m.attempt, Wake: m.wakes, Lines: m.lines, Told: m.told, Held: m.held, Kept: m.kept,
		Outside: m.outside, Exhausted: m.exhausted, Calling: m.calling, RevivedIn: m.revivedIn, Line: m.line, Reason: m.reason,
		Deadline: m.deadline, Updated: m.updated, Created: m.created, Telling: m.telling, Until: m.until, WakeAt: m.wakeAt,
		HeldByOwner: m.owner >= 0, PendingWithoutMessage: m.state == job.StateDone && m.until.IsZero(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Fatalf("the record (-want +got):\n%s", diff)
	}
	w.checkCall(m.job.Call.ID)
}

// checkCall compares what is known of a call's jobs.
func (w *world) checkCall(callID string) {
	var want []job.Summary
	for _, m := range w.jobs {
		if m.job.Call.ID != callID || m.state == "" {
			continue
		}
		s := job.Summary{ID: m.job.ID, Tool: m.job.Tool, State: m.state, Progress: m.line, Created: m.created, Updated: m.updated}
		if m.state == job.StateWaiting {
			s.WakeAt = m.wakeAt
		}
		want = append(want, s)
	}
	got, err := w.table.OfCall(w.t.Context(), callID)
	if err != nil {
		w.Fatalf("the jobs of %s: %v", callID, err)
	}
	// Which of two jobs of the same moment comes first is open.
	slices.SortStableFunc(want, func(a, b job.Summary) int { return a.Created.Compare(b.Created) })
	if !slices.IsSortedFunc(got, func(a, b job.Summary) int { return a.Created.Compare(b.Created) }) {
		w.Fatalf("the jobs of %s are not in order: %+v", callID, got)
	}
	byID := func(a, b job.Summary) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(want, byID)
	slices.SortFunc(got, byID)
	if diff := cmp.Diff(want, got, toTheMillisecond); diff != "" {
		w.Fatalf("the jobs of %s (-want +got):\n%s", callID, diff)
	}
}

// toTheMillisecond is as exact as a summary is.
var toTheMillisecond = cmp.Options{
	cmp.Comparer(func(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() }),
	cmpopts.EquateEmpty(),
}
