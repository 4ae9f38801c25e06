// Package ack is the front of Ringback: it verifies a webhook, queues a job
// for every tool call in it, and answers Vapi. It is the only part that a
// caller could wait for, so it reads no table and knows no tool.
package ack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

const (
	// DefaultText is what the model sees as the tool's result until the
	// real one arrives, where the tool is not async at Vapi.
	DefaultText = "Started. This is not the result: the result follows as a system message when it is ready. Do not guess it, and do not call the tool again for it."

	// MaxBody is the largest webhook, in bytes: what a Lambda function that
	// is called synchronously can be given (AWS Lambda quotas).
	MaxBody = 6 << 20

	// maxCallID bounds a call's id, in bytes, so that a job's id, which holds
	// it, fits a DynamoDB key.
	maxCallID = 512

	// unknownCallLife is how long a call is taken to last where the webhook
	// does not tell. Vapi's default is ten minutes, but it can be set higher;
	// a call that is gone says so itself when a result is posted to it.
	unknownCallLife = time.Hour
)

// Queue takes the jobs.
type Queue interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Credentials gives the verifier of webhooks.
type Credentials interface {
	// Verifier gives the current one.
	Verifier(ctx context.Context) (*vapi.Verifier, error)
	// Newer gives another one than stale, if the credential was changed a
	// moment ago; or stale itself.
	Newer(ctx context.Context, stale *vapi.Verifier) *vapi.Verifier
}

// Config is what a handler is made of.
type Config struct {
	Queue       Queue       // required
	Credentials Credentials // required

	// Text is the placeholder result. Empty means [DefaultText].
	Text string

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler answers webhooks.
type Handler struct{ cfg Config }

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Queue == nil || cfg.Credentials == nil {
		return nil, errors.New("the ack handler needs a queue and credentials")
	}
	if cfg.Text == "" {
		cfg.Text = DefaultText
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Handler{cfg: cfg}, nil
}

// refusals is the one place that says what a failure looks like from outside.
// What is said there helps whoever sets Ringback up, and nobody else.
var refusals = []struct {
	err    error
	status int
	text   string
}{
	{errMethod, http.StatusMethodNotAllowed, "webhooks are posted"},
	{errTooLarge, http.StatusRequestEntityTooLarge, "the body is larger than 6 MB"},
	{vapi.ErrUnauthorized, http.StatusUnauthorized, "the credential is missing or wrong"},
	{errEncoding, http.StatusBadRequest, "the body's base64 is broken"},
	{vapi.ErrNotJSON, http.StatusBadRequest, "the body is not a JSON object"},
	{vapi.ErrNoMessage, http.StatusBadRequest, "the body is no server message: it has neither a type nor tool calls"},
	{errNotQueued, http.StatusServiceUnavailable, "the tool calls could not be queued; try again"},
	{errCredentials, http.StatusServiceUnavailable, "the credential cannot be read now; try again"},
}

var (
	errMethod      = errors.New("the method is not POST")
	errTooLarge    = fmt.Errorf("the body is larger than %d bytes", MaxBody)
	errEncoding    = errors.New("the body is not the base64 it is said to be")
	errNotQueued   = errors.New("not every job could be queued")
	errCredentials = errors.New("the webhook credential cannot be read")
)

// Handle answers one webhook. It never gives an error: what Vapi must know is
// in the status.
func (h *Handler) Handle(ctx context.Context, request events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	started := h.cfg.Now()
	body, jobs, err := h.accept(ctx, request)
	status := http.StatusOK
	if err != nil {
		status, body = refuse(err)
		h.cfg.Log.LogAttrs(ctx, level(status), "webhook refused", slog.Int("status", status), slog.Any("error", err))
	} else {
		h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "webhook acked",
			slog.Int("jobs", jobs), slog.Int("bytes", len(request.Body)), slog.Duration("took", h.cfg.Now().Sub(started)))
	}
	response := events.APIGatewayV2HTTPResponse{
		StatusCode: status,
		Headers:    map[string]string{"Content-Type": "application/json"},
		Body:       string(body),
	}
	if status == http.StatusServiceUnavailable {
		response.Headers["Retry-After"] = "1"
	}
	return response, nil
}

// accept gives the answer to a webhook and how many jobs were queued for it.
func (h *Handler) accept(ctx context.Context, request events.APIGatewayV2HTTPRequest) ([]byte, int, error) {
	if request.RequestContext.HTTP.Method != http.MethodPost {
		return nil, 0, errMethod
	}
	body, err := rawBody(request)
	if err != nil {
		return nil, 0, err
	}
	now := h.cfg.Now()
	if err := h.verify(ctx, request, body, now); err != nil {
		return nil, 0, err
	}
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, 0, err
	}
	if message.Type != vapi.TypeToolCalls {
		h.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "server message", slog.String("type", message.Type))
		return vapi.AnswerOther(message.Type), 0, nil
	}
	return h.queue(ctx, message, now)
}

func rawBody(request events.APIGatewayV2HTTPRequest) ([]byte, error) {
	body := []byte(request.Body)
	if request.IsBase64Encoded {
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

func (h *Handler) verify(ctx context.Context, request events.APIGatewayV2HTTPRequest, body []byte, now time.Time) error {
	verifier, err := h.cfg.Credentials.Verifier(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errCredentials, err)
	}
	received := vapi.Request{
		Method: request.RequestContext.HTTP.Method,
		URL:    requestURL(request),
		Header: make(http.Header, len(request.Headers)),
		Body:   body,
	}
	for name, value := range request.Headers {
		received.Header.Add(name, value)
	}
	err = verifier.Verify(received, now)
	if err == nil {
		return nil
	}
	// The credential may have been rotated since it was read.
	if newer := h.cfg.Credentials.Newer(ctx, verifier); newer != verifier {
		return newer.Verify(received, now)
	}
	return err
}

// requestURL is the URL that the sender used, as far as API Gateway tells.
func requestURL(request events.APIGatewayV2HTTPRequest) string {
	url := "https://" + request.RequestContext.DomainName + request.RawPath
	if request.RawQueryString != "" {
		url += "?" + request.RawQueryString
	}
	return url
}

// queue sends a job for each usable tool call and gives the answer to all of
// them. One job that cannot be queued fails the whole webhook, so that it is
// sent again; the jobs that were queued are then found to be running.
func (h *Handler) queue(ctx context.Context, message vapi.Message, now time.Time) ([]byte, int, error) {
	life := message.Call.MaxDuration
	if life <= 0 {
		life = unknownCallLife
	}
	results := make([]vapi.Result, len(message.ToolCalls))
	var messages []queue.Message
	for i, t := range message.ToolCalls {
		results[i] = vapi.Result{Name: t.Name, ToolCallID: t.ID}
		j := job.Job{
			ID: job.ID(message.Call.ID, t.ID), ToolCallID: t.ID, Tool: t.Name, Arguments: t.Arguments, Async: t.Async,
			Call: job.Call{
				ID: message.Call.ID, OrgID: message.Call.OrgID, Type: message.Call.Type, AssistantID: message.Call.AssistantID,
				CustomerNumber: message.Call.CustomerNumber, ControlURL: message.Call.ControlURL,
			},
			ReceivedAt: now, CallEnds: now.Add(life),
		}
		body, err := encode(j, t.Err)
		if err != nil {
			results[i].Error = err.Error()
			// Of a name that is too long to be one, the start is enough.
			h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "tool call refused", slog.String("tool", fmt.Sprintf("%.128s", t.Name)), slog.Any("error", err))
			// Of an async tool Vapi ignores the answer, and has told the
			// model that all is well. So the refusal takes the way of a
			// result.
			if !t.Async || !errors.Is(err, vapi.ErrArguments) || j.Call.ID == "" || len(j.Call.ID) > maxCallID {
				continue
			}
			j.Arguments, j.Refusal = json.RawMessage("{}"), err.Error()
			if body, err = j.Encode(); err != nil {
				continue
			}
		} else {
			results[i].Result = h.cfg.Text
		}
		messages = append(messages, queue.Message{Body: body, Group: queue.Group(message.Call.ID)})
		h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "tool call accepted", slog.String("job", j.ID), slog.String("tool", j.Tool))
	}
	if len(messages) > 0 {
		if err := errors.Join(h.cfg.Queue.Send(ctx, messages)...); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errNotQueued, err)
		}
	}
	return vapi.Answer(results), len(messages), nil
}

// encode gives a job as a queue message, or why its tool call cannot be used.
func encode(j job.Job, unusable error) (string, error) {
	if unusable != nil {
		return "", unusable
	}
	if j.Call.ID == "" {
		return "", errors.New("the webhook names no call, so the result could not be told to anybody")
	}
	if len(j.Call.ID) > maxCallID {
		return "", fmt.Errorf("the call's id is longer than %d bytes", maxCallID)
	}
	body, err := j.Encode()
	if err != nil {
		return "", err
	}
	// In a queue message, some characters of the arguments are escaped and
	// take up to six times the room. To send the webhook again would not help.
	if len(body) > queue.MaxMessage {
		return "", fmt.Errorf("%w: they are too large", vapi.ErrArguments)
	}
	return body, nil
}

// refuse gives the status of an error, and a body that says it without giving
// anything away.
func refuse(err error) (int, []byte) {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.status, fmt.Appendf(nil, `{"error":%q}`, r.text)
		}
	}
	return http.StatusInternalServerError, []byte(`{"error":"internal error"}`)
}

func level(status int) slog.Level {
	if status >= http.StatusInternalServerError {
		return slog.LevelError
	}
	return slog.LevelWarn
}
