package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// MaxDead bounds a list of dead letters.
	MaxDead = 100

	// MaxDeadHandled bounds the dead letters that [Dead.Show], [Dead.Redrive] and [Dead.Drop] look at.
	MaxDeadHandled = 1000

	// hideListed is for how long a list may hide a message if this program ends before it shows the message again.
	hideListed = 30 * time.Second

	// hideHandled is the same for a message that may be sent or dropped, with up to [MaxDeadHandled] others.
	hideHandled = 2 * time.Minute

	// showTimeout bounds what makes messages visible again.
	showTimeout = 10 * time.Second
)

// DeadRetention is how long after it was first sent SQS deletes a message in a dead-letter queue.
const DeadRetention = 14 * 24 * time.Hour

// Names of the dead-letter queues.
const (
	JobsQueue    = "jobs"
	ResultsQueue = "results"
)

// DeadQueue is a dead-letter queue.
type DeadQueue interface {
	// Receive returns up to most messages, and hides them for a while. It returns none if no message is visible.
	Receive(ctx context.Context, most int, hide time.Duration) ([]queue.DeadLetter, error)
	// ChangeVisibility hides a received message for d, counted from now.
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
	// Delete deletes a received message.
	Delete(ctx context.Context, receipt string) error
	// Count returns about how many messages the queue has.
	Count(ctx context.Context) (int, error)
}

// DeadTable is implemented by [jobtable.Table].
type DeadTable interface {
	Claim(ctx context.Context, first job.Record) (job.Record, error)
	Load(ctx context.Context, id string) (job.Record, error)
	LeaseExpiry(ctx context.Context, r job.Record) (time.Time, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// DeadConfig selects the dead letters. All of it is required, except LongJobs, Now and Log.
type DeadConfig struct {
	Table DeadTable

	DeadJobs, DeadResults DeadQueue

	Jobs, Results Queue
	// LongJobs is the queue of the jobs of long tools, and LongJobsName the last part of its ARN. Nil means that there
	// is none: their messages go to Jobs, on which every job can run.
	LongJobs     Queue
	LongJobsName string

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Dead are the dead letters of a deployment: the messages that the queues, or EventBridge Scheduler, gave up.
type Dead struct{ cfg DeadConfig }

// NewDead returns the dead letters of a deployment.
func NewDead(cfg DeadConfig) (*Dead, error) {
	if cfg.Table == nil || cfg.DeadJobs == nil || cfg.DeadResults == nil || cfg.Jobs == nil || cfg.Results == nil {
		return nil, errors.New("an operator needs the jobs table, both queues and both dead-letter queues")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Dead{cfg: cfg}, nil
}

// DeadLetter is a message in a dead-letter queue.
type DeadLetter struct {
	ID       string    `json:"id"`             // of the message
	Queue    string    `json:"queue"`          // [JobsQueue] or [ResultsQueue]
	Kind     string    `json:"kind"`           // see [decodeDead]
	Job      string    `json:"job,omitempty"`  // its name in logs; empty if the message is of no job
	Tool     string    `json:"tool,omitempty"` // empty if it is unknown
	Call     string    `json:"call,omitempty"` // its name in logs
	Sent     time.Time `json:"sent"`           // SQS deletes the message 14 days later
	Receives int       `json:"receives"`
	Why      string    `json:"why"`             // it is here
	State    job.State `json:"state,omitempty"` // of the job; empty if it has no record
	Loss     Loss      `json:"loss"`            // if the message is dropped
}

// Loss is what a message takes with it if it is dropped.
type Loss string

const (
	LossNothing Loss = "nothing" // the job has ended, or something else does the same
	// LossJob means that the job ends: its caller hears of it, or an undelivered event follows.
	LossJob Loss = "job"
	// LossDelivery means that the result becomes an undelivered event.
	LossDelivery Loss = "delivery"
	LossLine     Loss = "line" // a line of progress
	LossPost     Loss = "post" // what an external system has posted; the job waits on
	// LossUnknown means that this version cannot read the message, or the record of its job.
	LossUnknown Loss = "unknown"
	// LossRefused means that the message cannot be dropped now: its job runs, or its result would be delivered twice.
	LossRefused Loss = "refused"
)

// DeadList are dead letters, the oldest first.
type DeadList struct {
	Letters []DeadLetter `json:"letters"`
	All     bool         `json:"all"`   // the list is complete
	Count   int          `json:"count"` // about how many there are
}

// DeadDetails describe a dead letter with its content.
type DeadDetails struct {
	DeadLetter
	Source     string            `json:"source,omitempty"`     // the name of the queue that it comes from
	Attributes map[string]string `json:"attributes,omitempty"` // those of EventBridge Scheduler
	Data       *Data             `json:"data,omitempty"`
	CallID     string            `json:"callId,omitempty"` // empty without Data, as in [Details]
}

// DeadSelection selects dead letters.
type DeadSelection struct {
	Queue string // [JobsQueue] or [ResultsQueue]; empty means both

	// IDs are those of messages or of jobs. Nil means all messages.
	IDs []string

	// Unreadable includes messages that this version cannot read, if they are dropped.
	Unreadable bool
}

func (s DeadSelection) has(l DeadLetter, jobID string) bool {
	return s.IDs == nil || slices.ContainsFunc(s.IDs, func(id string) bool {
		return id == l.ID || id == l.Job && id != "" || id == jobID && id != ""
	})
}

// Handled is what became of the selected messages.
type Handled struct {
	Done   []DeadLetter  `json:"done"`             // were sent, or dropped
	Failed []FailedDeath `json:"failed,omitempty"` // stay where they are
	More   bool          `json:"more,omitempty"`   // there are more than [MaxDeadHandled]
}

// FailedDeath is a message that could not be sent or dropped.
type FailedDeath struct {
	DeadLetter
	Error string `json:"error"`

	cause error
}

// deadQueue is one of the two queues.
type deadQueue struct {
	name string
	DeadQueue
}

func (d *Dead) queues(name string) ([]deadQueue, error) {
	all := []deadQueue{{JobsQueue, d.cfg.DeadJobs}, {ResultsQueue, d.cfg.DeadResults}}
	switch name {
	case "":
		return all, nil
	case JobsQueue:
		return all[:1], nil
	case ResultsQueue:
		return all[1:], nil
	}
	return nil, fmt.Errorf("there is no dead-letter queue %q; use %s or %s", name, JobsQueue, ResultsQueue)
}

// letter is a received message with what it carries.
type letter struct {
	queue.DeadLetter
	content any // see [decodeDead]; nil if this version cannot read it
	shown   DeadLetter
	record  job.Record // of its job
	found   bool       // the job has a record
	newer   bool       // a newer version has written the record, or the message
	jobID   string
}

// scan receives up to most messages of a queue. It calls do for each, and makes those visible again for which do
// returns false. The others have been deleted. It returns whether there may be more.
func (d *Dead) scan(
	ctx context.Context, q deadQueue, most int, hide time.Duration, do func(ctx context.Context, l *letter) (gone bool),
) (more bool, err error) {
	seen, receipts := map[string]bool{}, map[string]string{}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), showTimeout)
		defer stop()
		for id, receipt := range receipts {
			if err := q.ChangeVisibility(ctx, receipt, 0); err != nil {
				d.cfg.Log.WarnContext(ctx, "cannot show dead letter again; it is hidden for a while",
					"message_id", id, "for", hide, "error", err)
			}
		}
	}()
	for until := d.cfg.Now().Add(hide); ; {
		if len(seen) >= most || d.cfg.Now().After(until) {
			return true, nil
		}
		received, err := q.Receive(ctx, min(most-len(seen), queue.MaxBatch), hide)
		if err != nil || len(received) == 0 {
			return false, err
		}
		for _, r := range received {
			receipts[r.ID] = r.Receipt
			if seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			l, err := d.open(ctx, q.name, r)
			if err != nil {
				return false, err
			}
			if do(ctx, l) {
				delete(receipts, r.ID)
			}
		}
	}
}

// open reads a message and the record of its job.
func (d *Dead) open(ctx context.Context, name string, r queue.DeadLetter) (*letter, error) {
	l := &letter{DeadLetter: r}
	l.shown = DeadLetter{ID: r.ID, Queue: name, Sent: r.Sent, Receives: r.Receives}
	var err error
	l.content, l.Body, err = decodeDead(name, r)
	callID := ""
	switch m := l.content.(type) {
	case job.Job:
		l.shown.Kind, l.shown.Tool, l.jobID, callID = "job", m.Tool, m.ID, m.Call.ID
	case job.WakeUp:
		l.shown.Kind, l.jobID = "wake-up", m.JobID
	case job.Check:
		l.shown.Kind, l.jobID = "check", m.JobID
	case job.Post:
		l.shown.Kind, l.jobID = "post", m.JobID
	case job.Arrival:
		l.shown.Kind, callID = "arrival", m.Call.ID
	case job.Sweep:
		l.shown.Kind = "sweep"
	case job.Outcome:
		l.shown.Kind, l.shown.Tool, l.jobID, callID = "result", m.Tool, m.JobID, m.Call.ID
		if m.Kind != job.KindFinal {
			l.shown.Kind = string(m.Kind)
		}
	default:
		l.shown.Kind, l.newer = "unreadable", true
	}
	if l.jobID != "" {
		if err := d.load(ctx, l); err != nil {
			return nil, err
		}
		l.shown.Job = job.ShownID(l.jobID)
	}
	if l.found {
		l.shown.State, l.shown.Tool = l.record.State, l.record.Tool
		if callID == "" {
			callID = l.record.CallID
		}
	}
	l.shown.Call = job.CallHash(callID)
	l.shown.Why = why(l, err)
	l.shown.Loss, err = d.loss(ctx, l)
	return l, err
}

func (d *Dead) load(ctx context.Context, l *letter) error {
	r, err := d.cfg.Table.Load(ctx, l.jobID)
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		return nil
	case errors.Is(err, job.ErrUnreadable):
		l.newer = true
		return nil
	}
	l.record, l.found = r, err == nil
	return err
}

// why returns why a message is in the dead-letter queue. err is why it cannot be read.
func why(l *letter, err error) string {
	received := fmt.Sprintf("received %d times", l.Receives)
	code, scheduled := l.Scheduled()
	switch {
	case err != nil:
		return received + ": " + err.Error()
	case scheduled:
		return "EventBridge Scheduler could not send it: " + code
	case l.found && l.record.Reason != "" && l.shown.Queue == JobsQueue:
		return received + ": " + l.record.Reason
	}
	return received
}

// loss returns what is lost if the message is dropped.
func (d *Dead) loss(ctx context.Context, l *letter) (Loss, error) {
	if l.newer {
		return LossUnknown, nil
	}
	switch m := l.content.(type) {
	case job.Sweep, job.Arrival: // there is one each day; parked results wait for the customer's next call
		return LossNothing, nil
	case job.Outcome:
		switch {
		case m.Kind == job.KindProgress:
			return LossLine, nil
		case l.found && (l.record.State.Settled() || l.record.State == job.StateParked):
			return LossNothing, nil
		case m.Kind == job.KindMark:
			return LossRefused, nil
		}
		return LossDelivery, nil
	case job.Post:
		if l.found && l.record.State.Active() {
			return LossPost, nil
		}
		return LossNothing, nil
	}
	_, isJob := l.content.(job.Job)
	switch {
	case !l.found && isJob:
		return LossJob, nil
	case l.found && l.record.State == job.StateRunning:
		until, err := d.cfg.Table.LeaseExpiry(ctx, l.record)
		if d.cfg.Now().Before(until) {
			return LossRefused, err
		}
		return LossJob, err
	case l.found && l.record.OutcomePending() && l.record.NextCallID == "":
		return LossJob, nil
	}
	return LossNothing, nil // the daily sweep resumes a suspended job
}

// List returns the dead letters of a queue, or of both. It hides them for a moment.
func (d *Dead) List(ctx context.Context, name string) (DeadList, error) {
	queues, err := d.queues(name)
	if err != nil {
		return DeadList{}, err
	}
	list := DeadList{Letters: []DeadLetter{}, All: true}
	for _, q := range queues {
		n, err := q.Count(ctx)
		if err != nil {
			return DeadList{}, err
		}
		list.Count += n
		more := len(list.Letters) >= MaxDead && n > 0
		if !more {
			more, err = d.scan(ctx, q, MaxDead-len(list.Letters), hideListed, func(_ context.Context, l *letter) bool {
				list.Letters = append(list.Letters, l.shown)
				return false
			})
		}
		if err != nil {
			return DeadList{}, err
		}
		list.All = list.All && (!more || list.Count <= len(list.Letters))
	}
	list.Count = max(list.Count, len(list.Letters))
	slices.SortStableFunc(list.Letters, func(a, b DeadLetter) int { return a.Sent.Compare(b.Sent) })
	return list, nil
}

// ErrNoDeadLetter means that there is no message with an id.
var ErrNoDeadLetter = errors.New("no such dead letter")

// Show returns the dead letter with the id of a message or a job, with its content if data is true. It returns
// [ErrNoDeadLetter].
func (d *Dead) Show(ctx context.Context, id string, data bool) (DeadDetails, error) {
	selection := DeadSelection{IDs: []string{id}}
	queues, err := d.queues("")
	if err != nil {
		return DeadDetails{}, err
	}
	var found *letter
	for _, q := range queues {
		_, err := d.scan(ctx, q, MaxDeadHandled, hideHandled, func(_ context.Context, l *letter) bool {
			if found == nil && selection.has(l.shown, l.jobID) {
				found = l
			}
			return false
		})
		if err != nil {
			return DeadDetails{}, err
		}
	}
	if found == nil {
		return DeadDetails{}, ErrNoDeadLetter
	}
	details := DeadDetails{DeadLetter: found.shown, Source: nameOf(found.From()), Attributes: found.Attributes}
	if data {
		details.Data = new(Data)
		switch m := found.content.(type) {
		case job.Job:
			details.Data.Arguments, details.CallID = m.Arguments, m.Call.ID
		case job.Outcome:
			details.Data.Result, details.Data.Control, details.CallID = m.Result.Content, m.Result.Control, m.Call.ID
		case job.Post:
			details.Data.Post = string(m.Body)
		case job.Arrival:
			details.CallID = m.Call.ID
		}
	}
	return details, nil
}

// nameOf returns the name of the queue with an ARN.
func nameOf(arn string) string {
	for i := len(arn) - 1; i >= 0; i-- {
		if arn[i] == ':' {
			return arn[i+1:]
		}
	}
	return arn
}

// QueueName returns the name of the queue with a URL, which is also the last part of its ARN.
func QueueName(url string) string { return path.Base(url) }

// Redrive sends the selected messages to the queue that they belong to, and then deletes them here. If this program
// ends in between, a message is in both queues. That does no harm: a job is claimed, and a result is delivered, once.
//
// No tool runs again whose attempts are used up. If the job's deadline has passed, its failure becomes an
// undelivered event.
func (d *Dead) Redrive(ctx context.Context, s DeadSelection) (Handled, error) {
	return d.handle(ctx, s, func(ctx context.Context, l *letter) error {
		if l.Truncated() {
			return errors.New("EventBridge Scheduler shortened it; drop it, and the daily sweep resumes the job")
		}
		to := d.cfg.Results
		if l.shown.Queue == JobsQueue {
			to = d.cfg.Jobs
			if d.cfg.LongJobs != nil && nameOf(l.From()) == d.cfg.LongJobsName {
				to = d.cfg.LongJobs
			}
		}
		return errors.Join(to.Send(ctx, []queue.Message{{Body: l.Body, Group: l.Group}})...)
	})
}

// RedriveJob is [Dead.Redrive] for the messages of one job, and returns how many were sent. It returns
// [ErrNoDeadLetter] if there is none among the first [MaxDeadHandled] messages of each queue.
func (d *Dead) RedriveJob(ctx context.Context, id string) (int, error) {
	handled, err := d.Redrive(ctx, DeadSelection{IDs: []string{id}})
	for _, f := range handled.Failed {
		err = errors.Join(err, f.cause)
	}
	if err == nil && len(handled.Done) == 0 {
		err = ErrNoDeadLetter
	}
	return len(handled.Done), err
}

// handle calls do for each selected message, and deletes those for which it succeeds.
func (d *Dead) handle(
	ctx context.Context, s DeadSelection, do func(ctx context.Context, l *letter) error,
) (Handled, error) {
	queues, err := d.queues(s.Queue)
	if err != nil {
		return Handled{}, err
	}
	h := Handled{Done: []DeadLetter{}}
	for _, q := range queues {
		more, err := d.scan(ctx, q, MaxDeadHandled, hideHandled, func(ctx context.Context, l *letter) bool {
			if !s.has(l.shown, l.jobID) {
				return false
			}
			err := do(ctx, l)
			if err == nil {
				if err = q.Delete(ctx, l.Receipt); err != nil {
					err = fmt.Errorf("it was handled, and is still here: %w", err)
				}
			}
			if err != nil {
				h.Failed = append(h.Failed, FailedDeath{l.shown, err.Error(), err})
				return false
			}
			h.Done = append(h.Done, l.shown)
			return true
		})
		h.More = h.More || more
		if err != nil {
			return h, err
		}
	}
	if s.IDs != nil && len(h.Done)+len(h.Failed) == 0 && !h.More {
		return h, ErrNoDeadLetter
	}
	return h, nil
}
