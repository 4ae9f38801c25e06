// Package completion lets somebody outside complete a job: it makes the URLs
// that a job's result is posted to, and takes what is posted there.
package completion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// MaxBody is the largest body, in bytes. Of a result, no more than
	// [spoken.MaxContent] characters are told.
	MaxBody = 256 << 10

	// sendTimeout is longer than a function lives that answers a request (30 s,
	// Amazon API Gateway quotas), and so than it takes to send what it stored.
	sendTimeout = 30 * time.Second

	// cancelTimeout bounds what is done for tidiness only, while somebody
	// waits for the answer.
	cancelTimeout = 2 * time.Second
)

// Table is what is needed of the jobs table. It is made for [jobtable.Table].
type Table interface {
	Load(ctx context.Context, id string) (job.Record, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// Outcomes takes the outcomes: the results queue.
type Outcomes interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Schedules has the schedules that wake waiting jobs.
type Schedules interface {
	// Cancel deletes a schedule. One that does not exist is no error.
	Cancel(ctx context.Context, name string) error
}

// Config is what a handler is made of.
type Config struct {
	Keys     *Keys    // required
	Table    Table    // required
	Outcomes Outcomes // required

	// Schedules are tidied up when a job was completed. Nil means that they
	// come all the same, and find the job finished.
	Schedules Schedules

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler takes results and progress from outside.
type Handler struct{ cfg Config }

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Keys == nil || cfg.Table == nil || cfg.Outcomes == nil {
		return nil, errors.New("the completion handler needs keys, a table and a queue of outcomes")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Handler{cfg: cfg}, nil
}

var (
	errTooSoon = errors.New("the progress came too soon")
	errNotSent = errors.New("what was posted could not be sent on")
)

// refusals says what each failure looks like from outside. Every other failure
// is the table's, and passes.
var refusals = []httpjson.Refusal{
	{Err: httpjson.ErrMethod, Status: http.StatusMethodNotAllowed, Text: "use POST"},
	{Err: ErrToken, Status: http.StatusUnauthorized, Text: "the URL is not one that was handed out: its token is wrong"},
	{Err: ErrExpired, Status: http.StatusGone, Text: "the URL has expired: the job's time is over"},
	{Err: ErrKeys, Status: http.StatusServiceUnavailable, Text: "the keys cannot be read now; try again"},
	{Err: httpjson.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Text: "the body is larger than 256 KB"},
	{Err: httpjson.ErrEncoding, Status: http.StatusBadRequest, Text: "the body's base64 is broken"},
	{Err: httpjson.ErrUnreadable, Status: http.StatusBadRequest, Text: "the body cannot be read"},
	{Err: errBody, Status: http.StatusBadRequest},
	{Err: errTooSoon, Status: http.StatusTooManyRequests, Text: "progress can be posted every few seconds; leave this one away, or try again"},
	{Err: errNotSent, Status: http.StatusServiceUnavailable, Text: "it was stored, but could not be sent on; try again"},
	{Err: jobtable.ErrNotFound, Status: http.StatusNotFound, Text: "there is no such job, or it was forgotten"},
	{Err: job.ErrFinished, Status: http.StatusConflict, Text: "the job is finished: it has its result already, or is not wanted any more"},
	{Err: job.ErrExpired, Status: http.StatusGone, Text: "the job's time is over"},
	{Status: http.StatusServiceUnavailable, Text: "it cannot be stored now; try again"},
}

// ServeHTTP answers one post. Its path value "token" is that of the URL. What the
// sender must know is in the status. 200 says that the result is stored and on
// its way to the call; whether it was told shows later.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, log := r.Context(), h.cfg.Log
	jobID, p, err := h.take(r)
	if jobID != "" {
		log = log.With("job", jobID)
	}
	if err != nil {
		refusal := httpjson.Refuse(err, refusals)
		log.LogAttrs(ctx, refusal.Level(), "completion refused", slog.Int("status", refusal.Status), slog.Any("error", err))
		if soon, ok := errors.AsType[*job.TooSoonError](err); ok {
			seconds := int((soon.Until.Sub(h.cfg.Now()) + time.Second - 1) / time.Second)
			w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
		}
		refusal.Write(w)
		return
	}
	log.LogAttrs(ctx, slog.LevelInfo, "completion accepted", slog.String("kind", string(p.kind)), slog.Int("bytes", p.bytes))
	if p.kind == job.KindProgress {
		httpjson.Write(w, http.StatusAccepted, httpjson.Object("status", "noted"))
		return
	}
	httpjson.Write(w, http.StatusOK, httpjson.Object("status", "accepted"))
}

// take does what a post asks for, and says which job it was for, as soon as
// that is certain.
func (h *Handler) take(r *http.Request) (jobID string, p post, err error) {
	if r.Method != http.MethodPost {
		return "", p, httpjson.ErrMethod
	}
	ctx := r.Context()
	// First of all, so that strangers cost nothing and learn nothing.
	if jobID, err = h.cfg.Keys.Verify(ctx, r.PathValue("token"), h.cfg.Now()); err != nil {
		return "", p, err
	}
	body, err := httpjson.Body(r, MaxBody)
	if err != nil {
		return jobID, p, err
	}
	if p, err = parse(r.Header.Get("Content-Type"), body); err != nil {
		return jobID, p, err
	}
	p.bytes = len(body)
	if p.kind == job.KindProgress {
		return jobID, p, h.progress(ctx, jobID, p)
	}
	return jobID, p, h.complete(ctx, jobID, p)
}

// complete ends the job. Of many who try, the table lets one win. The result is
// stored first, so that whoever finds the job finished afterwards, who posts
// again or the job's wake, can send it where this one could not.
func (h *Handler) complete(ctx context.Context, jobID string, p post) error {
	record, err := h.cfg.Table.Load(ctx, jobID)
	if err != nil {
		return err
	}
	record, err = h.cfg.Table.Change(ctx, jobID, job.Complete(h.cfg.Now(), job.Result{
		Status: p.status, Content: p.text, Delivery: cmp.Or(record.Policy.Delivery, job.DeliveryRespond),
	}))
	if errors.Is(err, job.ErrFinished) {
		if h.unsent(record, p) {
			if err := h.send(ctx, record.StoredJob.Outcome(record)); err != nil {
				return err
			}
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := h.send(ctx, record.StoredJob.Outcome(record)); err != nil {
		return err
	}
	// Not before: until the outcome is sent, the wake is what saves it.
	h.cancel(ctx, record)
	return nil
}

// unsent says whether nobody may have sent the outcome of a finished job yet,
// and nobody else is about to: who posts the same result again came no further
// the first time; of whoever posted another one, it is known when the time to
// send it was up. A copy for nothing does no harm but where the outcome, once
// told, cannot be marked as such.
func (h *Handler) unsent(record job.Record, p post) bool {
	// A result that is told in a later call is on its way to that one.
	if !record.OutcomePending() || record.StoredJob == nil || record.NextCallID != "" {
		return false
	}
	return record.Result.Status == p.status && record.Result.Content == p.text || h.cfg.Now().Sub(record.Updated) > sendTimeout
}

// progress tells how far the job is.
func (h *Handler) progress(ctx context.Context, jobID string, p post) error {
	record, err := h.cfg.Table.Change(ctx, jobID, job.AddProgress(h.cfg.Now(), p.text))
	if soon, ok := errors.AsType[*job.TooSoonError](err); ok {
		return fmt.Errorf("%w: %w", errTooSoon, soon)
	}
	switch {
	case err != nil:
		return err
	case record.StoredJob == nil: // it was never prepared for this
		return job.ErrExpired
	case record.StoredJob.Call.Chat():
		// It is there for who asks. A chat would answer to it.
		return nil
	}
	return h.send(ctx, record.StoredJob.ProgressOutcome(record.Progress.Sequence, record.Progress.Text, p.silent, record.Deadline))
}

func (h *Handler) send(ctx context.Context, o job.Outcome) error {
	body, err := o.Encode()
	if err == nil {
		err = errors.Join(h.cfg.Outcomes.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(o.Call.ID)}})...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return nil
}

// cancel has the job not woken any more. It is for tidiness: a wake finds the
// job finished.
func (h *Handler) cancel(ctx context.Context, record job.Record) {
	if h.cfg.Schedules == nil || record.WakeUp == 0 {
		return
	}
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	if err := h.cfg.Schedules.Cancel(ctx, queue.ScheduleName(record.ID, record.WakeUp)); err != nil {
		h.cfg.Log.WarnContext(ctx, "the job will be woken in vain", "job", record.ID, "error", err)
	}
}
