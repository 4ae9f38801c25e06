package process_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

var errDied = errors.New("the function died")

// life is one invocation of the function.
type life struct {
	mu   sync.Mutex
	dead bool
}

type lifeKey struct{}

func (l *life) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

// step is one call of what is around the function. A function that has died
// takes no further one.
func step[T any](ctx context.Context, w *world, name string, do func() (T, error)) (T, error) {
	var none T
	life, _ := ctx.Value(lifeKey{}).(*life)
	if life != nil && life.over() {
		return none, errDied
	}
	w.mu.Lock()
	var err error
	if w.fault != nil {
		err = w.fault(name)
	}
	w.steps = append(w.steps, name)
	dies := len(w.steps) == w.die && life != nil
	w.mu.Unlock()
	if err != nil {
		return none, err
	}
	time.Sleep(w.takes)
	if dies && !w.done {
		life.end()
		return none, errDied
	}
	v, err := do()
	if dies {
		life.end()
		return none, errDied
	}
	return v, err
}

// failing has one step fail from now on.
func (w *world) failing(step string, err error) {
	w.fault = func(s string) error {
		if s == step {
			return err
		}
		return nil
	}
}

// failingTimes has one step fail n times.
func (w *world) failingTimes(step string, n int) {
	w.fault = func(s string) error {
		if s != step || n == 0 {
			return nil
		}
		n--
		return fmt.Errorf("%s is throttled", step)
	}
}

type nothing = struct{}

// around is what is around the function, as far as the methods' names are
// different.
type around struct{ *world }

func (w around) Claim(ctx context.Context, first job.Record) (job.Record, error) {
	return step(ctx, w.world, "Claim", func() (job.Record, error) { return w.table.Claim(ctx, first) })
}

func (w around) Load(ctx context.Context, id string) (job.Record, error) {
	return step(ctx, w.world, "Load", func() (job.Record, error) { return w.table.Load(ctx, id) })
}

// Change is a step that the rule names.
func (w around) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	return step(ctx, w.world, rule.Name, func() (job.Record, error) { return w.table.Change(ctx, id, rule) })
}

// ChangeClaimed is a step that the rule names.
func (w around) ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	return step(ctx, w.world, rule.Name, func() (job.Record, error) { return w.table.ChangeClaimed(ctx, claimed, rule) })
}

func (w around) Parked(ctx context.Context, customer string) ([]job.ParkedResult, error) {
	return step(ctx, w.world, "Kept", func() ([]job.ParkedResult, error) { return w.customers.Parked(ctx, customer) })
}

func (w around) Unpark(ctx context.Context, customer string, now time.Time, p job.ParkedResult) error {
	_, err := step(ctx, w.world, "Forget", func() (nothing, error) { return nothing{}, w.customers.Unpark(ctx, customer, now, p) })
	return err
}

func (w around) At(ctx context.Context, name string, at time.Time, body string) error {
	_, err := step(ctx, w.world, "At", func() (nothing, error) {
		w.arranged(wake{At: at.Sub(w.start), Scheduled: true})
		err := w.schedules.At(ctx, name, at, body)
		return nothing{}, err
	})
	return err
}

func (w *world) arranged(made wake) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakes = append(w.wakes, made)
}

// calls are the world's admission and its tracker of calls.
type calls struct{ *world }

func (w calls) Admit(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error {
	_, err := step(ctx, w.world, "Admit", func() (nothing, error) { return nothing{}, w.admission.Admit(ctx, j, now, lease) })
	return err
}

func (w calls) Leave(ctx context.Context, j job.Job, now time.Time) error {
	_, err := step(ctx, w.world, "Leave", func() (nothing, error) { return nothing{}, w.admission.Leave(ctx, j, now) })
	return err
}

func (w calls) Ask(
	ctx context.Context, j job.Job, now time.Time, key string, join bool, active func(context.Context, string) (bool, error),
) (string, error) {
	return step(ctx, w.world, "Ask", func() (string, error) { return w.admission.Ask(ctx, j, now, key, join, active) })
}

func (w calls) Live(ctx context.Context, callID string, now time.Time) (bool, error) {
	return step(ctx, w.world, "Live", func() (bool, error) { return w.tracker.Live(ctx, callID, now) })
}

// jobs is the world's jobs queue.
type jobs struct{ *world }

func (w jobs) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	_, err := step(ctx, w.world, "ChangeVisibility", func() (nothing, error) { return nothing{}, w.world.jobs.ChangeVisibility(ctx, receipt, d) })
	return err
}

func (w jobs) Send(ctx context.Context, messages []queue.Message) []error {
	errs, err := step(ctx, w.world, "Send", func() ([]error, error) {
		for _, m := range messages {
			if message, err := job.DecodeMessage(m.Body); err == nil {
				if _, ok := message.(job.WakeUp); ok {
					w.arranged(wake{At: time.Since(w.start) + m.Delay})
				}
			}
		}
		return w.world.jobs.Send(ctx, messages), nil
	})
	return every(messages, errs, err)
}

// outcomes is the world's results queue.
type outcomes struct{ *world }

func (w outcomes) Send(ctx context.Context, messages []queue.Message) []error {
	errs, err := step(ctx, w.world, "Outcome", func() ([]error, error) { return w.out.Send(ctx, messages), nil })
	return every(messages, errs, err)
}

// every gives the errors of a request, or the request's own for all messages.
func every(messages []queue.Message, errs []error, err error) []error {
	if err == nil {
		return errs
	}
	errs = make([]error, len(messages))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// outbox is a results queue that remembers what it took.
type outbox struct {
	takes  time.Duration           // how long a request takes
	fail   func(job.Outcome) error // nil: nothing fails
	then   func(job.Outcome)       // what becomes of what it took; may be nil
	mu     sync.Mutex
	sent   []job.Outcome
	at     []time.Duration // when each was sent, since the start
	delays []time.Duration
	sends  int
	start  time.Time
}

func (o *outbox) Send(ctx context.Context, messages []queue.Message) []error {
	time.Sleep(o.takes)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sends++
	errs := make([]error, len(messages))
	for i, m := range messages {
		outcome, err := job.DecodeOutcome(m.Body)
		if err == nil && m.Group != outcome.Call.ID {
			err = fmt.Errorf("group %q", m.Group)
		}
		if err == nil {
			err = m.Check()
		}
		if err == nil && o.fail != nil {
			err = o.fail(outcome)
		}
		if err == nil {
			err = ctx.Err()
		}
		if errs[i] = err; err == nil {
			o.sent = append(o.sent, outcome)
			o.at = append(o.at, time.Since(o.start))
			o.delays = append(o.delays, m.Delay)
			if o.then != nil {
				then := o.then
				time.AfterFunc(m.Delay+time.Second, func() { then(outcome) })
			}
		}
	}
	return errs
}

// results are the final results.
func (o *outbox) results() []job.Result {
	o.mu.Lock()
	defer o.mu.Unlock()
	var results []job.Result
	for _, s := range o.sent {
		if s.Kind == job.KindFinal {
			results = append(results, s.Result)
		}
	}
	return results
}

// telling is what the call was told.
type telling struct{ Call, Job, Text string }

// answer has what is sent be told, as the callback function does. Of the calls
// that are gone, results are kept where their tools want that.
func (w *world) answer(gone ...string) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	w.out.then = func(o job.Outcome) { w.tell(o, gone) }
}

func (w *world) tell(o job.Outcome, gone []string) {
	ctx := context.Background()
	note := func(to *[]telling) {
		w.mu.Lock()
		defer w.mu.Unlock()
		*to = append(*to, telling{Call: o.Call.ID, Job: o.JobID, Text: o.Result.Content})
	}
	check := func(err error) {
		if err != nil {
			w.t.Error(err)
		}
	}
	later := func(until time.Time) { time.AfterFunc(time.Until(until), func() { w.tell(o, gone) }) }
	var busy *job.BusyError
	if o.Kind == job.KindProgress {
		record, err := w.table.Change(ctx, o.JobID, job.ClaimProgress(time.Now(), o.Sequence, 10*time.Second))
		switch {
		case errors.As(err, &busy):
			later(busy.Until)
		case err == nil:
			note(&w.progress)
			_, err = w.table.Change(ctx, record.ID, job.EndProgress(time.Now(), record))
			check(err)
		case !errors.Is(err, job.ErrStale):
			check(err)
		}
		return
	}
	record, err := w.table.Change(ctx, o.JobID, job.ClaimDelivery(time.Now(), 10*time.Second))
	switch {
	case errors.Is(err, job.ErrSettled):
	case errors.As(err, &busy):
		later(busy.Until)
	case err != nil:
		check(err)
	case time.Now().After(o.Deadline):
		note(&w.announced)
		check(w.table.Settle(ctx, record, time.Now(), job.StateUndelivered, "too late"))
	case slices.Contains(gone, o.Call.ID) && o.AfterCall == job.AfterCallNextCall:
		_, err := w.customers.Park(ctx, job.Customer(o.Call), time.Now(), job.ParkedResult{JobID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool, Revision: record.Revision})
		check(err)
		check(w.table.Settle(ctx, record, time.Now(), job.StateParked, ""))
	case slices.Contains(gone, o.Call.ID):
		note(&w.announced)
		check(w.table.Settle(ctx, record, time.Now(), job.StateUndelivered, "gone"))
	default:
		note(&w.told)
		check(w.table.Settle(ctx, record, time.Now(), job.StateDelivered, ""))
	}
}

// wantTold checks what was told, whatever the order of jobs is.
func (w *world) wantTold(want ...telling) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	byJob := cmpopts.SortSlices(func(a, b telling) bool { return a.Job < b.Job })
	if diff := cmp.Diff(want, w.told, byJob, cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("told (-want +got):\n%s", diff)
	}
	if len(w.announced) > 0 {
		w.t.Errorf("announced: %v", w.announced)
	}
}
