package jobtabletest

import (
	"bytes"
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
	"github.com/ringback/ringback/internal/policy"
)

// rules lists the events that can happen to a job, and the job's state afterwards, by
// its state before. An exclamation mark stands for an error, a hyphen for an event that
// is impossible. [world.happen] knows what depends on more than the state. Attempts and
// deliveries may act long after they have lost the job. Events further up are tried
// more often.
const rules = `
             absent     running    waiting    done       kept       delivered   undelivered  cancelled
suspend      -          waiting    !changed   !finished  !finished  !finished   !finished    !finished
wake         !notfound  running    running    !finished  !finished  !finished   !finished    !finished
claim        running    running    running    !finished  !finished  !finished   !finished    !finished
renew        -          running    waiting    done       kept       delivered   undelivered  cancelled
store        -          running    !changed   !finished  !finished  !finished   !finished    !finished
addline      !notfound  running    waiting    !finished  !finished  !finished   !finished    !finished
claimline    !notfound  running    waiting    !stale     !stale     !stale      !stale       !stale
endline      -          running    waiting    done       kept       delivered   undelivered  cancelled
release      -          running    !changed   !finished  !finished  !finished   !finished    !finished
complete     !notfound  done       done       !finished  !finished  !finished   !finished    !finished
finish       -          done       !changed   !finished  !finished  !finished   !finished    !finished
park         -          -          -          kept       kept       !settled    !settled     -
unpark       !notfound  !notdone   !notdone   done       done       !notparked  !notparked   !notparked
endparking   !notfound  !notparked !notparked done       done       !notparked  !notparked   !notparked
deliver      !notfound  !notdone   !notdone   done       !settled   !settled    !settled     !settled
answer       !notfound  !notdone   !notdone   done       !settled   !settled    !settled     !settled
call         -          -          -          done       !changed   !changed    !changed     -
postpone     -          -          -          done       !changed   !changed    !changed     -
text         -          -          -          done       !changed   !changed    !changed     -
retract      -          -          -          done       !changed   !changed    !changed     -
delivered    -          -          -          delivered  !settled   delivered   !settled     -
undelivered  -          -          -          undelivered !settled  !settled    undelivered  -
redrive      -          !settled   !settled   !settled   !settled   done        done         !settled
redeliver    !notfound  !settled   !settled   !settled   !settled   done        !settled     !settled
cancel       !notfound  done       done       !finished  !finished  !finished   !finished    !finished
replace      !notfound  cancelled  cancelled  !finished  !finished  !finished   !finished    !finished
withdraw     !notfound  cancelled  cancelled  !finished  !finished  !finished   !finished    !finished
`

// drawing has the transitions that the comment of [job.State] draws.
var drawing = map[job.State][]job.State{
	"":                   {job.StateRunning},
	job.StateRunning:     {job.StateWaiting, job.StateDone, job.StateCancelled},
	job.StateWaiting:     {job.StateRunning, job.StateDone, job.StateCancelled},
	job.StateDone:        {job.StateParked, job.StateDelivered, job.StateUndelivered, job.StateReplayed},
	job.StateParked:      {job.StateDone},
	job.StateDelivered:   {job.StateDone}, // redriven or redelivered
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
				"notfound": jobtable.ErrNotFound, "changed": jobtable.ErrChanged, "finished": job.ErrFinished,
				"stale":   job.ErrStale,
				"notdone": job.ErrNotDone, "settled": job.ErrSettled, "notparked": job.ErrNotParked,
			}[name]
			if fails != (err != nil) {
				t.Fatalf("the row %q has %q", line, cell)
			}
			row[state] = move{to: job.State(name), err: err, impossible: cell == "-"}
		}
		events, moves[cells[0]] = append(events, cells[0]), row
	}
	return events, moves
}

// steps is how many events each run of the model has: enough for each job to end.
const steps = 80

// world is the model of a few jobs, and the table to compare it with.
type world struct {
	*rapid.T
	t     *testing.T
	table table
	moves map[string]map[job.State]move
	jobs  []*modelJob
}

// modelJob is what the model knows of a job.
type modelJob struct {
	job      job.Job
	policy   job.Policy
	state    job.State // empty means that it has no record
	revision int64
	created  time.Time
	updated  time.Time
	deadline time.Time

	owner   int // the index of the attempt that owns it; -1 means none
	attempt int
	expiry  time.Time // of the lease on it, or on its result

	renewable    bool // the lease of the last attempt
	renewedBy    job.AttemptID
	renewedUntil time.Time

	reason string

	stored    bool // an external system can complete it
	wakeUps   int
	suspended time.Time
	wakeAt    time.Time
	external  bool
	toolState string

	lines         int
	externalLines int
	lineAt        time.Time
	line          string
	delivered     int // the last line that was claimed
	held          bool
	lineExpiry    time.Time

	content    string // of its result
	exhausted  bool
	called     bool
	textAt     time.Time
	answered   bool
	nextCallID string
	settled    int // how often its result was delivered or given up
	again      int // how often its result was redriven or redelivered

	attempts   []job.Record // as they were claimed
	deliveries []job.Record
	claimed    []job.Record // lines
}

// leasedUntil returns until when no other attempt can claim the job.
func (m *modelJob) leasedUntil(now time.Time) time.Time {
	if !now.Before(m.expiry) && m.renewable && m.owner >= 0 && m.renewedBy == m.attempts[m.owner].AttemptID() {
		return m.renewedUntil
	}
	return m.expiry
}

// toolStates are states of tools as package asynctool encodes them.
var toolStates = []string{
	"", `null`, `""`, `0`, `{}`, `{"page":12345678901234567890,"rate":1.50}`, `"\u003cb\u003e ä 日本 😀 \u2028 \\ \" \u0000"`,
	`[1,[2,[3,null]]]`,
	`"` + strings.Repeat("ä", 32<<10-1) + `"`,
}

// testModel compares a table with a plain model of it, for random events in any order.
func testModel(t *testing.T, open func(*testing.T) jobtable.Stores) {
	events, moves := readRules(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, t: t, table: newTable(open(t)), moves: moves}
		for i := range 3 {
			call := fmt.Sprintf("call-%d", i/2) // two jobs of one call, one of another
			id := fmt.Sprintf("t%d", i)
			p := toolPolicy
			p.Cancellable = i < 2
			w.jobs = append(w.jobs, &modelJob{
				owner: -1, deadline: start.Add(time.Duration(i+1) * time.Hour), policy: p,
				job: job.Job{
					ID: job.ID(call, id, "weather", nil), ToolCallID: id, Tool: "weather",
					Arguments: json.RawMessage(`"planted argument"`),
					Call:      job.Call{ID: call, CustomerNumber: "planted number", ControlURL: "planted URL"},
					CallEnds:  start.Add(90 * time.Minute),
				},
			})
		}
		often := rapid.SampledFrom([]bool{true, true, true, false})
		for range steps {
			w.pass()
			m := rapid.SampledFrom(w.jobs).Draw(rt, "job")
			// Most events are ones that the state allows. Otherwise hardly any
			// job would end.
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

// pass lets some time pass, often until a moment that matters.
func (w *world) pass() {
	now := w.table.now()
	moments := []time.Time{now, now, now, now.Add(time.Second), now.Add(job.ProgressPause), now.Add(lease)}
	for _, m := range w.jobs {
		for _, moment := range []time.Time{
			m.expiry, m.expiry, m.renewedUntil, m.wakeAt, m.lineExpiry, m.lineExpiry, m.lineAt.Add(job.ProgressPause),
		} {
			if moment.After(now) && moment.Before(now.Add(10*lease)) {
				moments = append(moments, moment)
			}
		}
	}
	if rapid.IntRange(0, 99).Draw(w.T, "long") == 99 {
		for _, m := range w.jobs {
			moments = append(moments, m.wakeAt, m.deadline, m.deadline.Add(1), m.deadline.Add(24*time.Hour+1))
		}
	}
	moments = slices.DeleteFunc(moments, func(moment time.Time) bool { return moment.Before(now) })
	w.table.pass(rapid.SampledFrom(moments).Draw(w.T, "now").Sub(now))
}

// latest draws one of the claims, most of the time the last.
func latest(w *world, claimed []job.Record) int {
	if rapid.Bool().Draw(w.T, "latest") {
		return len(claimed) - 1
	}
	return rapid.IntRange(0, len(claimed)-1).Draw(w.T, "which")
}

// happen makes an event happen to a job, in the table and in the model. It reports
// false if there is nothing that it could happen to.
func (w *world) happen(event string, m *modelJob) bool {
	ctx, id, now := w.t.Context(), m.job.ID, w.table.now()
	wait := time.Duration(rapid.SampledFrom([]int{0, 1, 60, 300}).Draw(w.T, "wait")) * time.Second
	flag := rapid.Bool().Draw(w.T, "flag")
	text := fmt.Sprintf("%s at change %d", event, m.revision)
	result := job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: text}

	var do func() (job.Record, error)
	var then func(r job.Record) // changes the model beside its state, if the event succeeds
	unchanged := false          // it succeeds and saves nothing
	touched := true             // it changes what the summary shows, or claims the job
	var refused error           // depends on more than the state

	switch event {
	case "claim", "wake":
		switch {
		case m.state == job.StateRunning && now.Before(m.leasedUntil(now)):
			refused = &job.BusyError{Until: m.leasedUntil(now)}
		case m.state == job.StateWaiting && now.Before(m.wakeAt):
			refused = &job.SuspendedError{Until: m.wakeAt}
		}
		owner := fmt.Sprintf("message-%d", len(m.attempts)%2)
		do = func() (job.Record, error) {
			// The deadline of the first claim counts.
			deadline := m.deadline.Add(time.Duration(m.revision))
			first := job.NewRecord(m.job, m.policy, deadline, owner, now, lease)
			first.Asked = "planted argument"
			if first.Renewable = flag; event == "wake" {
				return w.table.ClaimAgain(ctx, first)
			}
			return w.table.Claim(ctx, first)
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
			m.owner, m.expiry, m.renewable = len(m.attempts)-1, now.Add(lease), flag
		}

	case "renew":
		if len(m.attempts) == 0 {
			return false
		}
		claimed := m.attempts[latest(w, m.attempts)]
		by, before := claimed.AttemptID(), claimed.LeaseExpiry
		later := m.renewedBy.WakeUp > by.WakeUp || m.renewedBy.WakeUp == by.WakeUp && m.renewedBy.Attempt >= by.Attempt
		if m.renewedBy == by {
			before, later = m.renewedUntil, false
		}
		if later || !now.Before(before) {
			refused = job.ErrLeaseLost
		}
		unchanged = true // the record
		do = func() (job.Record, error) {
			until, err := w.table.Renew(ctx, claimed, now, lease)
			if err == nil {
				m.renewedBy, m.renewedUntil = by, until
			}
			return job.Record{}, err
		}

	case "finish", "release", "suspend", "store":
		if len(m.attempts) == 0 {
			return false
		}
		i := latest(w, m.attempts)
		claimed := m.attempts[i]
		if i != m.owner {
			refused = jobtable.ErrChanged
		}
		change := w.table.ChangeClaimed
		if rapid.Bool().Draw(w.T, "read first") {
			change = w.table.ChangeLatest
		}
		state := json.RawMessage(rapid.SampledFrom(toolStates).Draw(w.T, "tool state"))
		switch event {
		case "finish":
			do = func() (job.Record, error) {
				return change(ctx, claimed, job.Finish(now, result, flag, ""))
			}
			then = func(job.Record) {
				m.owner, m.expiry, m.content, m.exhausted = -1, time.Time{}, text, flag
				if m.wakeUps > 0 && !now.Before(m.deadline) {
					m.deadline = now.Add(20 * time.Minute)
					if m.job.CallEnds.After(m.deadline) {
						m.deadline = m.job.CallEnds
					}
				}
			}
		case "release":
			do = func() (job.Record, error) {
				return change(ctx, claimed, job.Release(now, wait, flag, text))
			}
			then = func(job.Record) {
				m.owner, m.expiry, m.renewable, m.reason = -1, now.Add(wait), false, text
				if flag {
					// Its number is used again. The attempt that released it
					// must not act again.
					m.attempt--
					m.attempts = slices.Delete(slices.Clone(m.attempts), i, i+1)
				}
			}
		case "suspend":
			do = func() (job.Record, error) {
				return change(ctx, claimed, job.Suspend(now, m.job, now.Add(wait), flag, state))
			}
			then = func(job.Record) {
				m.owner, m.expiry, m.stored, m.external = -1, time.Time{}, true, flag
				m.suspended, m.wakeAt, m.toolState = now, now.Add(wait), string(state)
				m.wakeUps++
				if flag {
					m.wakeAt = m.deadline
				}
			}
		case "store":
			touched = false
			do = func() (job.Record, error) {
				return change(ctx, claimed, job.StoreJob(m.job))
			}
			then = func(job.Record) { m.stored = true }
		}

	case "complete":
		if now.After(m.deadline) || !m.stored {
			refused = job.ErrExpired
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Complete(now, result)) }
		then = func(job.Record) {
			m.owner, m.expiry, m.content = -1, time.Time{}, text
			if least := now.Add(time.Minute); m.deadline.Before(least) {
				m.deadline = least
			}
		}
	case "cancel":
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Cancel(now, result, text)) }
		then = func(job.Record) { m.owner, m.expiry, m.content, m.reason = -1, time.Time{}, text, text }
	case "replace", "withdraw":
		rule := job.Replace(now, text)
		if event == "withdraw" {
			rule = job.Withdraw(now, text)
			if !m.policy.Cancellable {
				refused = job.ErrNotCancellable
			}
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, rule) }
		then = func(job.Record) { m.owner, m.expiry, m.reason = -1, time.Time{}, text }

	case "addline":
		if until := m.lineAt.Add(job.ProgressPause); m.lines > 0 && now.Before(until) {
			refused = &job.TooSoonError{Until: until}
		}
		rule := job.AddProgress(now, text)
		if flag {
			rule = job.AddExternalProgress(now, text)
			if m.externalLines >= job.MaxExternalLines {
				refused = job.ErrManyLines
			}
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, rule) }
		then = func(job.Record) {
			m.lines, m.lineAt, m.line = m.lines+1, now, text
			if flag {
				m.externalLines++
			}
		}
	case "claimline":
		touched = false
		sequence := rapid.IntRange(0, m.lines).Draw(w.T, "sequence")
		if flag {
			sequence = m.lines
		}
		switch {
		case sequence < m.lines, sequence == 0 && m.held, sequence > 0 && sequence <= m.delivered:
			refused = job.ErrStale
		case now.Before(m.lineExpiry):
			refused = &job.BusyError{Until: m.lineExpiry}
		}
		do = func() (job.Record, error) {
			return w.table.Change(ctx, id, job.ClaimProgress(now, sequence, lease))
		}
		then = func(r job.Record) {
			if sequence == 0 {
				m.held = true
			}
			m.delivered, m.lineExpiry = sequence, now.Add(lease)
			m.claimed = append(m.claimed, r)
		}
	case "endline":
		touched = false
		if len(m.claimed) == 0 {
			return false
		}
		claimed := m.claimed[latest(w, m.claimed)]
		unchanged = !claimed.ProgressLeaseExpiry.Equal(m.lineExpiry)
		do = func() (job.Record, error) {
			return job.Record{}, errorOf(w.table.Change(ctx, claimed.ID, job.EndProgress(claimed)))
		}
		then = func(job.Record) { m.lineExpiry = time.Time{} }

	case "deliver", "answer":
		touched = false
		claim := job.ClaimDelivery(now, lease)
		if event == "answer" {
			claim = job.ClaimAnswer(now, lease)
		}
		switch {
		case now.Before(m.expiry):
			refused = &job.BusyError{Until: m.expiry}
		case now.Before(m.lineExpiry):
			refused = &job.BusyError{Until: m.lineExpiry}
		case event == "answer" && (m.called || m.nextCallID != ""):
			refused = job.ErrSettled
		case event == "answer" && now.After(m.deadline):
			refused = job.ErrExpired
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, claim) }
		then = func(r job.Record) {
			m.expiry, m.answered = now.Add(lease), event == "answer"
			m.deliveries = append(m.deliveries, r)
		}
	case "postpone", "text", "call", "retract", "delivered", "undelivered", "park":
		if len(m.deliveries) == 0 {
			return false
		}
		claimed := m.deliveries[latest(w, m.deliveries)]
		if claimed.Revision != m.revision {
			refused = jobtable.ErrChanged
		}
		settle := func(state job.State) func() (job.Record, error) {
			return func() (job.Record, error) {
				return job.Record{}, w.table.Settle(ctx, claimed, now, state, "")
			}
		}
		then = func(job.Record) { m.expiry, m.settled = time.Time{}, m.settled+1 }
		switch event {
		case "postpone":
			touched = false
			do = func() (job.Record, error) {
				return job.Record{}, errorOf(w.table.ChangeClaimed(ctx, claimed, job.ReleaseDelivery(now, wait)))
			}
			then = func(job.Record) { m.expiry = now.Add(wait) }
		case "text":
			touched = false
			do = func() (job.Record, error) {
				return job.Record{}, errorOf(w.table.ChangeClaimed(ctx, claimed, job.RecordText(now, wait)))
			}
			then = func(job.Record) { m.expiry, m.textAt = now.Add(wait), now }
		case "call":
			touched = false
			do = func() (job.Record, error) {
				return w.table.ChangeClaimed(ctx, claimed, job.RecordOutboundCall(now))
			}
			then = func(r job.Record) {
				m.called = true
				m.deliveries = append(m.deliveries, r)
			}
			if !claimed.OutboundCallAt.IsZero() {
				refused = job.ErrSettled // it is refused without a look at the table
			}
		case "retract":
			touched = false
			do = func() (job.Record, error) {
				return job.Record{}, errorOf(w.table.ChangeClaimed(ctx, claimed, job.RetractOutboundCall(now, wait)))
			}
			then = func(job.Record) { m.expiry, m.called = now.Add(wait), false }
		case "delivered":
			// The first one counts, even if another owns the delivery now.
			refused, unchanged = nil, m.state == job.StateDelivered
			do = settle(job.StateDelivered)
		case "undelivered":
			refused, unchanged = nil, m.state == job.StateUndelivered
			do = settle(job.StateUndelivered)
		case "park":
			// Only the owner of the delivery parks its result.
			unchanged = m.state == job.StateParked
			if unchanged || claimed.LeaseExpiry.Equal(m.expiry) {
				refused = nil
			}
			do = settle(job.StateParked)
			then = func(job.Record) { m.expiry = time.Time{} }
		}
	case "unpark":
		call := rapid.SampledFrom([]string{"next", "one after"}).Draw(w.T, "next call")
		deadline := now.Add(wait)
		// A result that never reached the call that it was unparked for goes to
		// the next one.
		late := m.nextCallID != "" && now.After(m.deadline) && m.expiry.IsZero()
		switch other := m.state == job.StateDone && m.nextCallID != call && !late; {
		case other && m.nextCallID != "" && now.After(m.deadline.Add(24*time.Hour)):
			refused = job.ErrNotParked // it reached that call, and was settled or will never be
		case other:
			refused = job.ErrNotDone
		}
		touched = m.state != job.StateDone || m.nextCallID != call
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Unpark(now, call, deadline)) }
		then = func(job.Record) {
			if touched {
				m.nextCallID, m.deadline, m.expiry, m.answered = call, deadline, time.Time{}, false
			}
		}
	case "endparking":
		// Not that much time passes here: the records would expire.
		refused = job.ErrNotDone
		if m.state == job.StateDone && (m.nextCallID == "" || !m.expiry.IsZero()) {
			refused = job.ErrNotParked
		}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.EndParking(now)) }
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
		then = func(job.Record) {
			m.exhausted, m.again, m.expiry, m.answered, m.nextCallID = false, m.again+1, time.Time{}, false, ""
		}
	case "redeliver":
		since := rapid.SampledFrom([]time.Duration{-time.Hour, 0, 5 * time.Minute, 5*time.Minute + 1}).Draw(w.T, "since")
		received := m.updated.Add(since)
		if m.called || m.nextCallID != "" || since <= 5*time.Minute {
			refused = job.ErrSettled
		}
		deadline := now.Add(wait)
		repeat := job.Job{ReceivedAt: received, CallEnds: deadline}
		do = func() (job.Record, error) { return w.table.Change(ctx, id, job.Redeliver(now, repeat, "")) }
		then = func(job.Record) {
			m.again, m.deadline, m.expiry, m.answered, m.textAt = m.again+1, deadline, time.Time{}, false, time.Time{}
			m.policy.AfterCall = policy.AfterCallEvent
		}
	default:
		w.t.Fatalf("there is no event %q", event)
	}

	to := w.moves[event][m.state]
	if to.impossible {
		w.Fatalf("%s of a job that is %q should be impossible", event, m.state)
	}
	want := to.err
	// Only RecordOutboundCall is refused without a look at the table.
	if want == nil || event == "call" && errors.Is(refused, job.ErrSettled) {
		want = refused
	}
	r, err := do()
	if !is(err, want) {
		w.Fatalf("%s of a job that is %q: %v, want %v", event, m.state, err, want)
	}
	if errors.Is(want, job.ErrFinished) &&
		(r.State != m.state || r.State == job.StateDone && r.Result.Content != m.content) {
		w.Fatalf("%s of a job that is %q returns the record %+v", event, m.state, r)
	}
	if want == nil && !unchanged {
		then(r)
		m.state, m.revision = to.to, m.revision+1
		if touched {
			m.updated = now
		}
		if m.state.Settled() || m.state == job.StateParked {
			m.toolState, m.lines, m.line, m.lineAt = "", 0, "", time.Time{}
		}
	}
	return true
}

// is reports whether an error is the wanted one, with the same time.
func is(err, want error) bool {
	var busy *job.BusyError
	var suspended *job.SuspendedError
	var soon *job.TooSoonError
	switch want := want.(type) {
	case *job.BusyError:
		return errors.As(err, &busy) && busy.Until.Equal(want.Until)
	case *job.SuspendedError:
		return errors.As(err, &suspended) && suspended.Until.Equal(want.Until)
	case *job.TooSoonError:
		return errors.As(err, &soon) && soon.Until.Equal(want.Until)
	}
	return errors.Is(err, want)
}

// check compares a job with its record, and checks the invariants.
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
		w.Fatalf("no transition is drawn from %q to %q", before, r.State)
	}
	if m.settled > 1+m.again {
		w.Fatalf("the result was settled %d times, and redriven or redelivered %d times", m.settled, m.again)
	}
	now := w.table.now()
	if !r.State.Active() {
		for sequence := range m.lines + 2 {
			if _, err := job.ClaimProgress(now, sequence, lease).Apply(r); !errors.Is(err, job.ErrStale) {
				w.Fatalf("line %d of a job that is %q can be claimed: %v", sequence, r.State, err)
			}
		}
	}
	if result := r.Result; (result != nil) != (r.State != job.StateCancelled && !r.State.Active()) ||
		result != nil && result.Content != m.content {
		w.Fatalf("a job that is %q has the result %+v, want %q", r.State, result, m.content)
	}
	got := modelJob{
		policy: r.Policy, state: r.State, revision: r.Revision, created: r.Created, updated: r.Updated, deadline: r.Deadline,
		owner: -1, attempt: r.Attempt, expiry: r.LeaseExpiry, reason: r.Reason,
		stored: r.StoredJob != nil, wakeUps: r.WakeUp, suspended: r.Suspended, wakeAt: r.WakeAt, external: r.External,
		toolState: string(r.ToolState), externalLines: r.ExternalLines,
		delivered: r.ProgressDelivered, held: r.HoldDelivered, lineExpiry: r.ProgressLeaseExpiry,
		exhausted: r.Exhausted, called: !r.OutboundCallAt.IsZero(), textAt: r.TextDeliveredAt, nextCallID: r.NextCallID,
		answered:  r.Answered,
		renewable: r.Renewable,
	}
	switch l, err := w.table.stores.Renewals().Load(w.t.Context(), m.job.ID); {
	case err == nil:
		got.renewedBy, got.renewedUntil = l.By, l.Expiry
	case !errors.Is(err, jobtable.ErrNotFound):
		w.Fatalf("load the renewal: %v", err)
	}
	if encoded, err := job.EncodeRecord(r); err != nil || r.State.Settled() && bytes.Contains(encoded, []byte("planted")) {
		w.Fatalf("a job that is %q has personal data: %s, %v", r.State, encoded, err)
	}
	if r.Progress != nil {
		got.lines, got.line, got.lineAt = r.Progress.Sequence, r.Progress.Text, r.Progress.At
	}
	if r.Result != nil {
		got.content = r.Result.Content
	}
	for i, attempt := range m.attempts {
		if r.OwnedAs(attempt) {
			got.owner = i
		}
	}
	want := *m
	want.job, want.attempts, want.deliveries, want.claimed = job.Job{}, nil, nil, nil
	want.settled, want.again = 0, 0
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(modelJob{})); diff != "" {
		w.Fatalf("the record (-want +got):\n%s", diff)
	}
	if pending := m.state == job.StateDone && (m.expiry.IsZero() || m.answered); r.OutcomePending() != pending {
		w.Fatalf("the outcome is pending: %t, want %t", r.OutcomePending(), pending)
	}
	w.checkCall(m.job.Call.ID)
}

// checkCall compares the summaries of a call's jobs.
func (w *world) checkCall(callID string) {
	var want []job.Summary
	for _, m := range w.jobs {
		if m.job.Call.ID != callID || m.state == "" {
			continue
		}
		s := job.Summary{
			ID: m.job.ID, Tool: m.job.Tool, State: m.state, Progress: m.line, Created: m.created, Updated: m.updated,
		}
		if m.state == job.StateWaiting {
			s.WakeAt = m.wakeAt
		}
		want = append(want, s)
	}
	got, err := w.table.OfCall(w.t.Context(), callID)
	if err != nil {
		w.Fatalf("the jobs of %s: %v", callID, err)
	}
	// The order of two jobs of the same moment is open.
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

// toTheMillisecond compares times as exactly as a summary has them.
var toTheMillisecond = cmp.Options{
	cmp.Comparer(func(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() }),
	cmpopts.EquateEmpty(),
}
