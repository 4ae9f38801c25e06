// Package ack is the front of Ringback: it verifies a webhook, queues a job
// for every tool call in it, and answers Vapi. It is the only part that a
// caller could wait for, so it knows no table and no tool. The one question
// that it answers itself is how far the tools are.
package ack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
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

	// chatLife is how long a chat is taken to go on: nothing tells its end.
	// It is how long a session lasts by default (Vapi's OpenAPI:
	// Session.expirationSeconds).
	chatLife = 24 * time.Hour

	// endTimeout bounds the note that a call has ended, as Vapi gives up on a
	// webhook at some time.
	endTimeout = 8 * time.Second
)

// Queue takes the jobs.
type Queue interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Calls remembers which calls have ended.
type CallTracker interface {
	// End notes that a call has ended. It can be repeated.
	End(ctx context.Context, callID string, now time.Time) error
}

// Config is what a handler is made of.
type Config struct {
	Queue Queue // required

	// Credential is the webhook credential: JSON, as [vapiauth.ParsePlans] takes.
	// Required.
	Credential secret.Source

	// Jobs answers the tool [TaskStatus]. Nil means that this tool is one like
	// all others.
	Jobs Jobs

	// Calls are told which calls have ended. Nil means that nobody is.
	CallTracker CallTracker

	// NextCall has a [job.Arrival] queued when a call begins, for results that
	// were kept for it.
	NextCall bool

	// Text is the placeholder result. Empty means [DefaultText].
	Text string

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler answers webhooks.
type Handler struct {
	cfg        Config
	credential *secret.Parsed[vapiauth.Verifier]
}

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Queue == nil || cfg.Credential == nil {
		return nil, errors.New("the ack handler needs a queue and a credential")
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
	return &Handler{cfg, secret.NewParsed(cfg.Credential, "webhook credential", parseCredential, cfg.Log)}, nil
}

func parseCredential(text string) (*vapiauth.Verifier, error) {
	plans, err := vapiauth.ParsePlans([]byte(text))
	if err != nil {
		return nil, err
	}
	return vapiauth.NewVerifier(plans...)
}

// Warm reads the credential, so that the first caller does not wait for it. An
// error need not stop anything: each webhook tries again.
func (h *Handler) Warm(ctx context.Context) error {
	_, err := h.credential.Get(ctx)
	return err
}

// refusals says what each failure looks like from outside. The texts help
// whoever sets Ringback up, and nobody else.
var refusals = []httpjson.Refusal{
	{Err: httpjson.ErrMethod, Status: http.StatusMethodNotAllowed, Text: "use POST"},
	{Err: httpjson.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Text: "the body is larger than 6 MB"},
	{Err: vapiauth.ErrUnauthorized, Status: http.StatusUnauthorized, Text: "the credential is missing or wrong"},
	{Err: httpjson.ErrEncoding, Status: http.StatusBadRequest, Text: "the body's base64 is broken"},
	{Err: httpjson.ErrUnreadable, Status: http.StatusBadRequest, Text: "the body cannot be read"},
	{Err: vapi.ErrNotJSON, Status: http.StatusBadRequest, Text: "the body is not a JSON object"},
	{Err: vapi.ErrNoMessage, Status: http.StatusBadRequest, Text: "the body is no server message: it has neither a type nor tool calls"},
	{Err: errNotQueued, Status: http.StatusServiceUnavailable, Text: "what follows from the message could not be queued; try again"},
	{Err: errCredentials, Status: http.StatusServiceUnavailable, Text: "the credential cannot be read now; try again"},
	{Status: http.StatusInternalServerError, Text: "internal error"},
}

var (
	errNotQueued   = errors.New("not every message could be queued")
	errCredentials = errors.New("the webhook credential cannot be read")
)

// ServeHTTP answers one webhook. What Vapi must know is in the status.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, now := r.Context(), h.cfg.Now()
	var answer []byte
	var jobs int
	body, err := h.read(r, now)
	if err == nil {
		answer, jobs, err = h.accept(ctx, body, now)
	}
	if err != nil {
		refusal := httpjson.Refuse(err, refusals)
		h.cfg.Log.LogAttrs(ctx, refusal.Level(), "webhook refused", slog.Int("status", refusal.Status), slog.Any("error", err))
		refusal.Write(w)
		return
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "webhook acked",
		slog.Int("jobs", jobs), slog.Int("bytes", len(body)), slog.Duration("took", h.cfg.Now().Sub(now)))
	httpjson.Write(w, http.StatusOK, answer)
}

// read returns the body of an authentic webhook.
func (h *Handler) read(r *http.Request, now time.Time) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, httpjson.ErrMethod
	}
	body, err := httpjson.Body(r, MaxBody)
	if err != nil {
		return nil, err
	}
	return body, h.verify(r, body, now)
}

// accept returns the answer to a webhook and how many jobs were queued for it.
func (h *Handler) accept(ctx context.Context, body []byte, now time.Time) ([]byte, int, error) {
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, 0, err
	}
	if message.Type == vapi.TypeToolCalls {
		return h.queue(ctx, message, now)
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "server message", slog.String("type", message.Type))
	switch {
	case message.CallEnded():
		h.end(ctx, message.Call.ID, now)
	case message.CallBegan():
		if err := h.arrive(ctx, message.Call, now); err != nil {
			return nil, 0, err
		}
	}
	return vapi.AnswerOther(message.Type), 0, nil
}

// end notes that a call has ended. Nobody waits for this answer.
func (h *Handler) end(ctx context.Context, callID string, now time.Time) {
	if h.cfg.CallTracker == nil || !usableID(callID) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if err := h.cfg.CallTracker.End(ctx, callID, now); err != nil {
		h.cfg.Log.ErrorContext(ctx, "that the call has ended could not be noted; its tools run on", "call", callID, "error", err)
		return
	}
	h.cfg.Log.InfoContext(ctx, "call ended", "call", callID)
}

// arrive queues the news that a call has begun, where something could follow
// from it.
func (h *Handler) arrive(ctx context.Context, call vapi.Call, now time.Time) error {
	if !h.cfg.NextCall || !usableID(call.ID) || call.CustomerNumber == "" || call.ControlURL == "" {
		return nil
	}
	body, err := job.Arrival{Call: callOf(call), CallEnds: callEnds(call, now)}.Encode()
	if err == nil {
		err = errors.Join(h.cfg.Queue.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(call.ID)}})...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotQueued, err)
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "call began", slog.String("call", call.ID))
	return nil
}

func callOf(c vapi.Call) job.Call {
	return job.Call{
		ID: c.ID, OrgID: c.OrgID, Type: c.Type, AssistantID: c.AssistantID, CustomerNumber: c.CustomerNumber,
		ControlURL: c.ControlURL, PhoneNumberID: c.PhoneNumberID, SessionID: c.SessionID,
	}
}

// callEnds is the latest moment at which a call can still be live.
func callEnds(c vapi.Call, now time.Time) time.Time {
	switch {
	case callOf(c).Chat():
		return now.Add(chatLife)
	case c.MaxDuration > 0:
		return now.Add(c.MaxDuration)
	}
	return now.Add(unknownCallLife)
}

// usableID says whether a call's id can be part of a key.
func usableID(callID string) bool { return callID != "" && len(callID) <= maxCallID }

func (h *Handler) verify(r *http.Request, body []byte, now time.Time) error {
	ctx := r.Context()
	verifier, err := h.credential.Get(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errCredentials, err)
	}
	received := vapiauth.Request{Method: r.Method, URL: "https://" + r.Host + r.RequestURI, Header: r.Header, Body: body}
	err = verifier.Verify(received, now)
	if err == nil {
		return nil
	}
	// The credential may have been rotated since it was read.
	if newer := h.credential.Newer(ctx, verifier); newer != verifier {
		return newer.Verify(received, now)
	}
	return err
}

// queue sends a job for each usable tool call and gives the answer to all of
// them. One job that cannot be queued fails the whole webhook, so that it is
// sent again; the jobs that were queued are then found to be running.
func (h *Handler) queue(ctx context.Context, message vapi.Message, now time.Time) ([]byte, int, error) {
	call, ends := callOf(message.Call), callEnds(message.Call, now)
	results := make([]vapi.Result, len(message.ToolCalls))
	var messages []queue.Message
	var asked []int // which tool calls ask how far the others are
	for i, t := range message.ToolCalls {
		results[i] = vapi.Result{Name: t.Name, ToolCallID: t.ID}
		if h.cfg.Jobs != nil && t.Name == TaskStatus && (t.Err == nil || errors.Is(t.Err, vapi.ErrArguments)) && usableID(call.ID) {
			asked = append(asked, i)
			continue
		}
		j := job.Job{
			ID: job.ID(call.ID, t.ID), ToolCallID: t.ID, Tool: t.Name, Arguments: t.Arguments, Async: t.Async,
			Call: call, ReceivedAt: now, CallEnds: ends,
		}
		body, err := encode(j, t.Err)
		if err != nil {
			results[i].Error = err.Error()
			// Of a name that is too long to be one, the start is enough.
			h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "tool call refused", slog.String("tool", fmt.Sprintf("%.128s", t.Name)), slog.Any("error", err))
			// Of an async tool Vapi ignores the answer, and has told the
			// model that all is well. So the refusal takes the way of a
			// result.
			if !t.Async || !errors.Is(err, vapi.ErrArguments) || !usableID(call.ID) {
				continue
			}
			j.Arguments, j.Refusal = json.RawMessage("{}"), err.Error()
			if body, err = j.Encode(); err != nil {
				continue
			}
		} else {
			results[i].Result = h.cfg.Text
		}
		messages = append(messages, queue.Message{Body: body, Group: queue.Group(call.ID)})
		h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "tool call accepted", slog.String("job", j.ID), slog.String("tool", j.Tool))
	}
	if len(messages) > 0 {
		if err := errors.Join(h.cfg.Queue.Send(ctx, messages)...); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errNotQueued, err)
		}
	}
	if len(asked) > 0 {
		text := h.taskStatus(ctx, call.ID)
		for _, i := range asked {
			results[i].Result = text
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
