// Package completion lets an external system complete a job. It makes the URL that the job's result
// is posted to (keys.go), and receives results and progress that are posted there.
package completion

import (
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
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// MaxBody is the largest body, in bytes. At most [spoken.MaxContent] characters of a result are
	// delivered.
	MaxBody = 256 << 10

	// sendTimeout is longer than a function that answers a request can live (30 s, Amazon API
	// Gateway quotas). So it is longer than such a function takes to send what it stored.
	sendTimeout = 30 * time.Second

	// checkTimeout bounds a precaution that a sender waits for.
	checkTimeout = 2 * time.Second
)

// Table is the part of [jobtable.Table] that the handler needs.
type Table interface {
	Load(ctx context.Context, id string) (job.Record, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// Queue sends messages.
type Queue interface {
	// Send returns an error for each message, which is nil if the message was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Config configures a [Handler].
type Config struct {
	Keys     *Keys // required
	Table    Table // required
	Outcomes Queue // the results queue; required
	Jobs     Queue // the jobs queue; required

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler receives results and progress from external systems. It is an [http.Handler].
type Handler struct {
	cfg     Config
	refused httpjson.RefusalLog
}

// New returns a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Keys == nil || cfg.Table == nil || cfg.Outcomes == nil || cfg.Jobs == nil {
		return nil, errors.New("the completion handler needs keys, a table, and the queues of jobs and outcomes")
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
	errTooSoon = errors.New("progress is posted too often")
	errNotSent = errors.New("cannot send what was posted")

	errHeaders   = errors.New("the headers are too large")
	errNotQueued = errors.New("cannot queue what was posted")

	errCancelled = errors.New("the job is cancelled")
)

// refusals maps each error to its answer. All other errors are the table's, and pass.
var refusals = []httpjson.Refusal{
	{Err: httpjson.ErrMethod, Status: http.StatusMethodNotAllowed, Text: "use POST"},
	{Err: ErrToken, Status: http.StatusUnauthorized, Text: "this is not a completion URL: its token is wrong"},
	{Err: ErrExpired, Status: http.StatusGone, Text: "the URL has expired: the job's deadline has passed"},
	{Err: ErrKeys, Status: http.StatusServiceUnavailable, Text: "cannot read the keys; try again"},
	{Err: httpjson.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Text: "the body is larger than 256 KB"},
	{Err: httpjson.ErrEncoding, Status: http.StatusBadRequest, Text: "the body is not valid base64"},
	{Err: httpjson.ErrUnreadable, Status: http.StatusBadRequest, Text: "cannot read the body"},
	{Err: errBody, Status: http.StatusBadRequest},
	{Err: errHeaders, Status: http.StatusRequestHeaderFieldsTooLarge, Text: "the headers have more than 16 KB"},
	{
		Err: errTooSoon, Status: http.StatusTooManyRequests,
		Text: "progress can be posted every few seconds; drop this update, or try again",
	},
	{ // no status that clients repeat by themselves, and not the one of a job that has ended
		Err: job.ErrManyLines, Status: http.StatusForbidden,
		Text: fmt.Sprintf("the job accepts no more progress after %d posts; post its result", job.MaxExternalLines),
	},
	{Err: errNotSent, Status: http.StatusServiceUnavailable, Text: "stored, but not sent yet; try again"},
	{Err: errNotQueued, Status: http.StatusServiceUnavailable, Text: "cannot queue it; try again"},
	{Err: jobtable.ErrNotFound, Status: http.StatusNotFound, Text: "there is no such job; it may have been deleted"},
	{
		Err: errCancelled, Status: http.StatusConflict,
		Text: "the job was cancelled or replaced: its result is no longer needed",
	},
	{
		Err: job.ErrFinished, Status: http.StatusConflict,
		Text: "the job is finished: it has a result already, or its result is no longer needed",
	},
	{Err: job.ErrExpired, Status: http.StatusGone, Text: "the job's deadline has passed"},
	{Status: http.StatusServiceUnavailable, Text: "cannot store it; try again"},
}

// ServeHTTP answers one post. The request's path value "token" is the last part of the completion
// URL. The status says what the sender must know. 200 means that the result is stored and on its way
// to the call, not that it was delivered. If the tool reads its posts itself, 202 means that the post is
// queued for it, not that the tool believes it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, log := r.Context(), h.cfg.Log
	jobID, p, err := h.receive(r)
	if jobID != "" {
		log = log.With(job.LogJob(jobID), job.LogTrace(p.traceparent))
	}
	if err != nil {
		refusal := httpjson.Refuse(err, refusals)
		h.refused.Log(ctx, log, h.cfg.Now(), "completion refused", refusal)
		if soon, ok := errors.AsType[*job.TooSoonError](err); ok {
			seconds := int((soon.Until.Sub(h.cfg.Now()) + time.Second - 1) / time.Second)
			w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
		}
		refusal.Write(w)
		return
	}
	log.LogAttrs(ctx, slog.LevelInfo, "completion accepted",
		slog.String("kind", string(p.kind)), slog.Int("bytes", p.bytes))
	switch p.kind {
	case job.KindProgress:
		httpjson.Write(w, http.StatusAccepted, httpjson.Object("status", "noted"))
		return
	case kindForwarded, kindLate:
		httpjson.Write(w, http.StatusAccepted, httpjson.Object("status", string(p.kind)))
		return
	}
	httpjson.Write(w, http.StatusOK, httpjson.Object("status", "accepted"))
}

// receive does what a post asks for. The job's id is empty until the token is verified.
func (h *Handler) receive(r *http.Request) (jobID string, p post, err error) {
	if r.Method != http.MethodPost {
		return "", p, httpjson.ErrMethod
	}
	ctx := r.Context()
	// Verify the token first, so that an attacker costs nothing and learns nothing.
	token, err := h.cfg.Keys.Verify(ctx, r.PathValue("token"), h.cfg.Now())
	if err != nil {
		return "", p, err
	}
	jobID = token.JobID
	document, err := httpjson.Body(r, MaxBody)
	if err != nil {
		return jobID, p, err
	}
	body := document.Text
	if token.Posts {
		p.bytes = len(body)
		err = h.forward(ctx, jobID, r.Header, body, &p)
		return jobID, p, err
	}
	if p, err = parse(r.Header.Get("Content-Type"), body); err != nil {
		return jobID, p, err
	}
	p.bytes = len(body)
	if p.kind == job.KindProgress {
		err = h.progress(ctx, jobID, &p)
		return jobID, p, err
	}
	err = h.complete(ctx, jobID, &p)
	return jobID, p, err
}

// complete ends the job. If several results are posted, the table accepts one. The result is stored
// before it is sent. If the function dies in between, the check of the job sends it: see [job.Check].
// If sending fails, another post of the result also sends it.
func (h *Handler) complete(ctx context.Context, jobID string, p *post) error {
	record, err := h.cfg.Table.Load(ctx, jobID)
	if err != nil {
		return err
	}
	p.traceparent = record.Traceparent
	if record.State.Active() && record.StoredJob != nil {
		h.check(ctx, record)
	}
	record, err = h.cfg.Table.Change(ctx, jobID, job.Complete(h.cfg.Now(), job.Result{
		Status: p.status, Content: p.text, Delivery: delivery(record.Policy),
	}))
	if errors.Is(err, job.ErrFinished) {
		if h.unsent(record, *p) {
			if err := h.sendResult(ctx, record); err != nil {
				return err
			}
		}
		return finished(record, err)
	}
	if err != nil {
		return err
	}
	return h.sendResult(ctx, record)
}

// delivery returns the delivery of a posted result. A text of an external system is never spoken word for
// word: the assistant responds to it.
func delivery(p job.Policy) policy.Delivery {
	if p.Delivery == policy.DeliverySilent {
		return policy.DeliverySilent
	}
	return policy.DeliveryRespond
}

// finished returns the error for a post about a job that has ended.
func finished(record job.Record, err error) error {
	if record.State == job.StateCancelled {
		return fmt.Errorf("%w: %w", errCancelled, err)
	}
	return err
}

// unsent reports whether the outcome of a finished job may not have been sent, and no function is
// about to send it. A sender that repeats its result may have got no further the first time. If the
// results differ, the other sender's function has had its time after sendTimeout. An unnecessary
// copy of the outcome does no harm, unless the delivered outcome could not be marked as delivered.
func (h *Handler) unsent(record job.Record, p post) bool {
	// A result that is delivered in a later call is already on its way to that call.
	if !record.OutcomePending() || record.StoredJob == nil || record.NextCallID != "" {
		return false
	}
	return record.Result.Status == p.status && record.Result.Content == p.text ||
		h.cfg.Now().Sub(record.Updated) > sendTimeout
}

// progress stores a progress line and sends it.
func (h *Handler) progress(ctx context.Context, jobID string, p *post) error {
	record, err := h.cfg.Table.Change(ctx, jobID, job.AddExternalProgress(h.cfg.Now(), p.text))
	p.traceparent = record.Traceparent
	if soon, ok := errors.AsType[*job.TooSoonError](err); ok {
		return fmt.Errorf("%w: %w", errTooSoon, soon)
	}
	switch {
	case err != nil:
		return finished(record, err)
	case record.StoredJob == nil: // it never had a completion URL
		return job.ErrExpired
	case record.StoredJob.Call.Chat():
		// It is only reported by task_status. A chat would answer to it.
		return nil
	}
	return h.send(ctx, record.StoredJob.ExternalProgressOutcome(p.silent, record), 0)
}

// sendResult sends the outcome of a finished job.
func (h *Handler) sendResult(ctx context.Context, r job.Record) error {
	outcome, wait := r.StoredJob.SavedOutcome(r, h.cfg.Now())
	return h.send(ctx, outcome, wait)
}

func (h *Handler) send(ctx context.Context, o job.Outcome, delay time.Duration) error {
	body, err := o.Encode()
	if err == nil {
		message := queue.Message{Body: body, Group: queue.Group(o.Call.ID), Delay: delay}
		err = errors.Join(h.cfg.Outcomes.Send(ctx, []queue.Message{message})...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return nil
}

// check makes the process function look at the job as soon as this function must have ended. It also
// deletes the schedule of the job's wake-up. Without the check, the result is accepted all the same:
// the sender may not post it again, and the daily sweep also finds it.
func (h *Handler) check(ctx context.Context, record job.Record) {
	ctx, stop := context.WithTimeout(ctx, checkTimeout)
	defer stop()
	body, err := job.Check{JobID: record.ID}.Encode()
	if err == nil {
		message := queue.Message{Body: body, Group: queue.Group(record.CallID), Delay: job.CheckDelay}
		err = errors.Join(h.cfg.Jobs.Send(ctx, []queue.Message{message})...)
	}
	if err != nil {
		h.cfg.Log.WarnContext(ctx, "cannot queue the check of a job before its completion",
			job.LogJob(record.ID), job.LogTrace(record.Traceparent), "error", err)
	}
}
