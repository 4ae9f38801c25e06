// Package completion lets somebody outside complete a job: it makes the URLs
// that a job's result is posted to, and takes what is posted there.
package completion

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// Route is what the handler serves.
	Route = "POST /results/{token}"

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

// Tokens verifies tokens. It is made for [Keys].
type Tokens interface {
	// Verify gives the job that a token is for. It fails with [ErrToken],
	// [ErrExpired] and [ErrKeys].
	Verify(ctx context.Context, token string, now time.Time) (jobID string, err error)
}

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
	Tokens   Tokens   // required
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
	if cfg.Tokens == nil || cfg.Table == nil || cfg.Outcomes == nil {
		return nil, errors.New("the completion handler needs tokens, a table and a queue of outcomes")
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
	errMethod   = errors.New("the method is not POST")
	errTooLarge = fmt.Errorf("the body is larger than %d bytes", MaxBody)
	errEncoding = errors.New("the body is not the base64 it is said to be")
	errTooSoon  = errors.New("the progress came too soon")
	errNotSent  = errors.New("what was posted could not be sent on")
)

// refusals is the one place that says what a failure looks like from outside.
// Every other one is the table's, and passes.
var refusals = []struct {
	err    error
	status int
	text   string // empty means the error's own
}{
	{errMethod, http.StatusMethodNotAllowed, "results are posted"},
	{ErrToken, http.StatusUnauthorized, "the URL is not one that was handed out: its token is wrong"},
	{ErrExpired, http.StatusGone, "the URL has expired: the job's time is over"},
	{ErrKeys, http.StatusServiceUnavailable, "the keys cannot be read now; try again"},
	{errTooLarge, http.StatusRequestEntityTooLarge, "the body is larger than 256 KB"},
	{errEncoding, http.StatusBadRequest, "the body's base64 is broken"},
	{errBody, http.StatusBadRequest, ""},
	{errTooSoon, http.StatusTooManyRequests, "progress can be posted every few seconds; leave this one away, or try again"},
	{errNotSent, http.StatusServiceUnavailable, "it was stored, but could not be sent on; try again"},
	{jobtable.ErrNotFound, http.StatusNotFound, "there is no such job, or it was forgotten"},
	{job.ErrFinished, http.StatusConflict, "the job is finished: it has its result already, or is not wanted any more"},
	{job.ErrExpired, http.StatusGone, "the job's time is over"},
}

// Handle answers one post. It never gives an error: what the sender must know
// is in the status. 200 says that the result is stored and on its way to the
// call; whether it was told shows later.
func (h *Handler) Handle(ctx context.Context, request events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	jobID, kind, err := h.take(ctx, request)
	log := h.cfg.Log
	if jobID != "" {
		log = log.With("job", jobID)
	}
	if err != nil {
		response := h.refuse(err)
		level := slog.LevelWarn
		if response.StatusCode >= http.StatusInternalServerError {
			level = slog.LevelError
		}
		log.LogAttrs(ctx, level, "completion refused", slog.Int("status", response.StatusCode), slog.Any("error", err))
		return response, nil
	}
	log.LogAttrs(ctx, slog.LevelInfo, "completion accepted", slog.String("kind", string(kind)), slog.Int("bytes", len(request.Body)))
	if kind == job.KindProgress {
		return answer(http.StatusAccepted, "status", "noted"), nil
	}
	return answer(http.StatusOK, "status", "accepted"), nil
}

// take does what a post asks for, and says which job it was for, as soon as
// that is certain.
func (h *Handler) take(ctx context.Context, request events.APIGatewayV2HTTPRequest) (string, job.Kind, error) {
	if request.RequestContext.HTTP.Method != http.MethodPost {
		return "", "", errMethod
	}
	// First of all, so that strangers cost nothing and learn nothing.
	jobID, err := h.cfg.Tokens.Verify(ctx, token(request), h.cfg.Now())
	if err != nil {
		return "", "", err
	}
	body, err := rawBody(request)
	if err != nil {
		return jobID, "", err
	}
	p, err := parse(header(request, "Content-Type"), body)
	if err != nil {
		return jobID, "", err
	}
	if p.kind == job.KindProgress {
		return jobID, p.kind, h.progress(ctx, jobID, p)
	}
	return jobID, p.kind, h.complete(ctx, jobID, p)
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

// token is the last part of the request's path.
func token(request events.APIGatewayV2HTTPRequest) string {
	if t := request.PathParameters["token"]; t != "" {
		return t
	}
	return request.RawPath[strings.LastIndexByte(request.RawPath, '/')+1:]
}

func header(request events.APIGatewayV2HTTPRequest, name string) string {
	for n, value := range request.Headers {
		if strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

func rawBody(request events.APIGatewayV2HTTPRequest) ([]byte, error) {
	body := []byte(request.Body)
	if request.IsBase64Encoded {
		if len(body) > base64.StdEncoding.EncodedLen(MaxBody) {
			return nil, errTooLarge
		}
		var err error
		if body, err = base64.StdEncoding.DecodeString(request.Body); err != nil {
			return nil, errEncoding
		}
	}
	if len(body) > MaxBody {
		return nil, errTooLarge
	}
	return body, nil
}

// refuse gives the answer to a failed post.
func (h *Handler) refuse(err error) events.APIGatewayV2HTTPResponse {
	status, text := http.StatusServiceUnavailable, "it cannot be stored now; try again"
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			status, text = r.status, cmp.Or(r.text, err.Error())
			break
		}
	}
	response := answer(status, "error", text)
	switch status {
	case http.StatusServiceUnavailable:
		response.Headers["Retry-After"] = "1"
	case http.StatusTooManyRequests:
		seconds := 1
		if soon, ok := errors.AsType[*job.TooSoonError](err); ok {
			seconds = max(seconds, int((soon.Until.Sub(h.cfg.Now())+time.Second-1)/time.Second))
		}
		response.Headers["Retry-After"] = strconv.Itoa(seconds)
	}
	return response
}

func answer(status int, member, text string) events.APIGatewayV2HTTPResponse {
	body, _ := json.Marshal(map[string]string{member: text}) // strings always encode
	return events.APIGatewayV2HTTPResponse{
		StatusCode: status,
		Headers:    map[string]string{"Content-Type": "application/json"},
		Body:       string(body),
	}
}
