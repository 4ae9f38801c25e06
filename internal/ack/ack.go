// Package ack handles Vapi's webhooks: it verifies a webhook, queues a job for each of its tool
// calls, and answers Vapi. It is the only part that a caller waits for, so it knows no tool, and asks
// the table only if there is no other way. It answers the tools task_status and cancel_task itself. For
// the tools that ask for it, the answer waits for the result (quick.go).
package ack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jsonscan"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
)

const (
	// DefaultText is the placeholder in a call that is not known to be a GPT-Live call. For a tool that is
	// not async at Vapi, the model sees it as the result until the real one arrives.
	DefaultText = "Started. This is not the result: the result follows as a system message when it is ready. " +
		"Do not guess it, and do not call the tool again for it."

	// GPTLiveText is the placeholder in a GPT-Live call. The reasoner reads it as the result, and the
	// speaker gets it as quiet context, even if the tool is async (Vapi's documentation: "Build with
	// tools"). The real result reaches the speaker only.
	GPTLiveText = "Started. This is not the result: only the speaker receives the result, when it is ready. " +
		"Do not guess it, and do not call the tool again for it."

	// MaxBody is the largest webhook, in bytes. It is the limit of AWS Lambda for a function that
	// is invoked synchronously (AWS Lambda quotas).
	MaxBody = 6 << 20

	// maxCallID is the longest call id, in bytes. The key of the call's record contains it, escaped,
	// and must fit a DynamoDB key.
	maxCallID = 512

	// maxRefusedName bounds the name of a refused tool call, and its id, in bytes. Their beginning is
	// enough to find the tool call.
	maxRefusedName = 128

	// unnamed stands for a missing name. No tool can have it.
	unnamed = "(no name)"

	// unknownCallLife is how long a call can last if the webhook does not say: Vapi's maximum (Vapi's
	// OpenAPI: Assistant.maxDurationSeconds). If the call ended earlier, its control URL reports that
	// when a result is posted.
	unknownCallLife = 43200 * time.Second

	// chatLife is how long a chat can last. Nothing reports its end. A session lasts as long by
	// default (Vapi's OpenAPI: Session.expirationSeconds).
	chatLife = 24 * time.Hour

	// endTimeout bounds how long the end of a call may take to record. Vapi's wait for the answer
	// is limited.
	endTimeout = 8 * time.Second
)

// Queue is a queue of jobs.
type Queue interface {
	// Send returns an error for each message, which is nil if the message was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// CallTracker records which calls have ended.
type CallTracker interface {
	// End records the end of a call. Repeating it changes nothing.
	End(ctx context.Context, callID string, now time.Time) error
	// Live reports whether the call is not known to have ended. It makes sure that End records the
	// end. Only quick answers need it.
	Live(ctx context.Context, callID string, now time.Time) (bool, error)
}

// Config configures a [Handler].
type Config struct {
	Queue Queue // takes all jobs but those of LongTools; required
	// LongQueue takes the jobs of the tools in LongTools, so that others do not wait behind them. It is
	// required if there are LongTools.
	LongQueue Queue
	LongTools []string

	// Credential is the webhook credential: JSON, as [vapiauth.ParsePlans] takes it. If it is bound to
	// organisations at Vapi (see [secret.WithOrganisations]), the webhooks of others are refused.
	// Required.
	Credential secret.Source

	// Jobs is what [TaskStatus] reports, and [CancelTask] changes. Nil means that they are tools like
	// others.
	Jobs Jobs

	// CallTracker records which calls have ended. Nil means that no end is recorded.
	CallTracker CallTracker

	// Quick is how long the answer waits for the result of a tool, by the tool's name. The results of
	// all other tools are delivered as messages. Nil means none.
	Quick map[string]time.Duration

	// Table is the jobs table. It is required if there are quick tools, and not used otherwise.
	Table Table

	// NextCall queues a [job.Arrival] when a call begins, so that results that were parked for it
	// are delivered.
	NextCall bool

	// Text is the placeholder result in every call. Empty means [DefaultText] or [GPTLiveText].
	Text string

	// Marker returns the words of the markers in an answer. Nil means random words.
	Marker spoken.Marker

	// Received is called with each verified webhook, before it is handled. It may be nil.
	Received func(context.Context, vapi.Message)

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler answers Vapi's webhooks. It is an [http.Handler].
type Handler struct {
	cfg        Config
	long       map[string]bool // of LongTools
	credential *secret.Parsed[credential]
	refused    httpjson.RefusalLog
}

// New returns a handler. It reads the credential only when it is needed.
func New(cfg Config) (*Handler, error) {
	if cfg.Queue == nil || cfg.Credential == nil {
		return nil, errors.New("the ack handler needs a queue and a credential")
	}
	if len(cfg.Quick) > 0 && cfg.Table == nil {
		return nil, errors.New("the ack handler needs a table, because there are quick tools")
	}
	if len(cfg.LongTools) > 0 && cfg.LongQueue == nil {
		return nil, errors.New("the ack handler needs a long queue, because there are long tools")
	}
	long := make(map[string]bool, len(cfg.LongTools))
	for _, name := range cfg.LongTools {
		long[name] = true
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Handler{cfg: cfg, long: long}
	h.credential = secret.NewParsed(cfg.Credential, "webhook credential", h.parseCredential, cfg.Log)
	return h, nil
}

// credential is what a webhook must show.
type credential struct {
	verifier      *vapiauth.Verifier
	organisations []string // ids; empty means any
}

// parseCredential parses a stored credential. One that is too short is still accepted, so that an update
// refuses no call.
func (h *Handler) parseCredential(text string) (*credential, error) {
	text, organisations := secret.Organisations(text)
	plans, err := vapiauth.ParsePlans([]byte(text))
	if err != nil {
		return nil, err
	}
	for _, p := range plans {
		if err := p.CheckLength(); err != nil {
			h.cfg.Log.Error("webhook credential is too short; a later version refuses it", "error", err)
		}
	}
	verifier, err := vapiauth.NewVerifier(plans...)
	return &credential{verifier: verifier, organisations: organisations}, err
}

// admits reports whether the webhooks of an organisation are accepted. A webhook that names none is
// accepted: Vapi's description requires the member in calls and chats, but was never tried for each of
// them, and who can forge a webhook can also forge this member.
func (c *credential) admits(organisation string) bool {
	return organisation == "" || len(c.organisations) == 0 || slices.Contains(c.organisations, organisation)
}

// Warm reads the credential, so that the first caller does not wait for it. An error need not stop
// the function: each webhook tries again.
func (h *Handler) Warm(ctx context.Context) error {
	_, err := h.credential.Get(ctx)
	return err
}

// refusals maps each error to its answer. The texts help an operator who sets Ringback up, and tell
// an attacker nothing.
var refusals = []httpjson.Refusal{
	{Err: httpjson.ErrMethod, Status: http.StatusMethodNotAllowed, Text: "use POST"},
	{Err: httpjson.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Text: "the body is larger than 6 MB"},
	{Err: vapiauth.ErrUnauthorized, Status: http.StatusUnauthorized, Text: "the credential is missing or wrong"},
	{Err: errOrganisation, Status: http.StatusForbidden, Text: "the webhook comes from another organisation at Vapi"},
	{Err: httpjson.ErrEncoding, Status: http.StatusBadRequest, Text: "the body is not valid base64"},
	{Err: httpjson.ErrUnreadable, Status: http.StatusBadRequest, Text: "cannot read the body"},
	{Err: vapi.ErrNotJSON, Status: http.StatusBadRequest, Text: "the body is not a JSON object"},
	{
		Err: vapi.ErrNoMessage, Status: http.StatusBadRequest,
		Text: "the body is not a server message: it has neither a type nor tool calls",
	},
	{Err: errNotQueued, Status: http.StatusServiceUnavailable, Text: "cannot queue the message; try again"},
	{Err: errCredential, Status: http.StatusServiceUnavailable, Text: "cannot read the credential; try again"},
	{Status: http.StatusInternalServerError, Text: "internal error"},
}

var (
	errNotQueued  = errors.New("cannot queue every message")
	errCredential = errors.New("cannot read the webhook credential")

	errOrganisation = errors.New("the credential is not for the webhook's organisation; " +
		"use ringback sync --add-organisation if the organisation is yours")
)

// ServeHTTP answers one webhook. The status says what Vapi must know.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, now := r.Context(), h.cfg.Now()
	var answer []byte
	var jobs int
	body, by, err := h.read(r, now)
	if err == nil {
		answer, jobs, err = h.accept(ctx, body, by, now)
	}
	if err != nil {
		refusal := httpjson.Refuse(err, refusals)
		h.refused.Log(ctx, h.cfg.Log, now, "webhook refused", refusal)
		refusal.Write(w)
		return
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "webhook acked",
		slog.Int("jobs", jobs), slog.Int("bytes", len(body.Text)), slog.Duration("took", h.cfg.Now().Sub(now)))
	httpjson.Write(w, http.StatusOK, answer)
}

// read returns the body of an authentic webhook, and the credential that it was verified by. It does not
// touch the body, which may be long, if the header is enough to refuse the webhook.
func (h *Handler) read(r *http.Request, now time.Time) (body jsonscan.Document, by *credential, err error) {
	if r.Method != http.MethodPost {
		return body, nil, httpjson.ErrMethod
	}
	current, err := h.credential.Get(r.Context())
	if err != nil {
		return body, nil, fmt.Errorf("%w: %w", errCredential, err)
	}
	received := vapiauth.Request{Method: r.Method, URL: "https://" + r.Host + r.RequestURI, Header: r.Header}
	verify := func(step func(*vapiauth.Verifier, vapiauth.Request, time.Time) error) error {
		err := step(current.verifier, received, now)
		if err == nil {
			return nil
		}
		// The credential may have been rotated since it was read.
		newer := h.credential.Newer(r.Context(), current)
		if newer == current {
			return err
		}
		current = newer
		return step(current.verifier, received, now)
	}
	if err := verify((*vapiauth.Verifier).CheckHeader); err != nil {
		return body, nil, err
	}
	if body, err = httpjson.Body(r, MaxBody); err != nil {
		return body, nil, err
	}
	received.Body = body.Text
	if err := verify((*vapiauth.Verifier).Verify); err != nil {
		return body, nil, err
	}
	return body, current, nil
}

// accept returns the answer to a webhook and how many jobs were queued for it.
func (h *Handler) accept(
	ctx context.Context, body jsonscan.Document, by *credential, now time.Time,
) ([]byte, int, error) {
	message, err := vapi.ParseDocument(body)
	if err != nil {
		return nil, 0, err
	}
	// The organisation may have been added since the credential was read.
	if id := message.Call.OrgID; !by.admits(id) && !h.credential.Newer(ctx, by).admits(id) {
		return nil, 0, errOrganisation
	}
	if h.cfg.Received != nil {
		h.cfg.Received(ctx, message)
	}
	if message.Type == vapi.TypeToolCalls || message.Type == vapi.TypeFunctionCall {
		return h.toolCalls(ctx, message, body.Text, now)
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

// end records the end of a call. No caller waits for this answer.
func (h *Handler) end(ctx context.Context, callID string, now time.Time) {
	if h.cfg.CallTracker == nil || !usableID(callID) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if err := h.cfg.CallTracker.End(ctx, callID, now); err != nil {
		h.cfg.Log.ErrorContext(ctx, "cannot record the end of the call; its tools run on", job.LogCall(callID), "error", err)
		return
	}
	h.cfg.Log.InfoContext(ctx, "call ended", job.LogCall(callID))
}

// arrive queues the beginning of a call, if a result could have been parked for it and could be
// delivered to it.
func (h *Handler) arrive(ctx context.Context, call vapi.Call, now time.Time) error {
	if !h.cfg.NextCall || !usableID(call.ID) || callOf(call).CustomerPhone() == "" || call.ControlURL == "" {
		return nil
	}
	body, err := job.NewArrival(callOf(call), now, callEnds(call, now)).Encode()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotQueued, err)
	}
	if err := h.send(ctx, queue.Message{Body: body, Group: queue.Group(call.ID)}); err != nil {
		return err
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "call began", job.LogCall(call.ID))
	return nil
}

// send sends messages to the queue. Without any, it does nothing.
func (h *Handler) send(ctx context.Context, messages ...queue.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := errors.Join(h.cfg.Queue.Send(ctx, messages)...); err != nil {
		return fmt.Errorf("%w: %w", errNotQueued, err)
	}
	return nil
}

// sendJobs sends jobs to the queue, and those of long tools to the long queue. If there are both, it
// does so concurrently, because a caller waits. The queue also takes the jobs that the long queue does
// not, as in the first seconds after the update that adds it: a job runs on either.
func (h *Handler) sendJobs(ctx context.Context, jobs, long []queue.Message) error {
	switch {
	case len(long) == 0:
		return h.send(ctx, jobs...)
	case len(jobs) == 0:
		return h.send(ctx, h.sendLong(ctx, long)...)
	}
	var left []queue.Message
	var sending sync.WaitGroup
	sending.Go(func() { left = h.sendLong(ctx, long) })
	err := h.send(ctx, jobs...)
	sending.Wait()
	return errors.Join(err, h.send(ctx, left...))
}

// sendLong sends jobs to the long queue, and returns those that it does not take.
func (h *Handler) sendLong(ctx context.Context, jobs []queue.Message) (left []queue.Message) {
	for i, err := range h.cfg.LongQueue.Send(ctx, jobs) {
		if err != nil {
			h.cfg.Log.LogAttrs(ctx, slog.LevelError, "cannot queue a long tool's job apart; short tools may wait behind it",
				slog.Any("error", err))
			left = append(left, jobs[i])
		}
	}
	return left
}

func callOf(c vapi.Call) job.Call {
	return job.Call{
		ID: c.ID, OrgID: c.OrgID, Type: c.Type, AssistantID: c.AssistantID, CustomerNumber: c.CustomerNumber,
		ControlURL: c.ControlURL, PhoneNumberID: c.PhoneNumberID, SessionID: c.SessionID, SMS: c.SMS,
		Architecture: c.Architecture,
	}
}

// callEnds returns the latest time at which a call can still be live.
func callEnds(c vapi.Call, now time.Time) time.Time {
	switch {
	case callOf(c).Chat():
		return now.Add(chatLife)
	case c.MaxDuration > 0:
		return now.Add(c.MaxDuration)
	}
	return now.Add(unknownCallLife)
}

// usableID reports whether a call's id can be part of a key.
func usableID(callID string) bool { return callID != "" && len(callID) <= maxCallID }

// toolCalls queues a job for each usable tool call. It returns the answer to all tool calls and the
// number of queued jobs.
//
// Vapi ignores the answer to an async tool, and the model has already seen "Success.". So the refusal
// of such a tool call is queued, too, and is delivered like a result.
//
// If one job cannot be queued, the whole webhook fails, so that Vapi sends it again. The process
// function then recognises the jobs that were queued before.
func (h *Handler) toolCalls(
	ctx context.Context, message vapi.Message, webhook []byte, now time.Time,
) ([]byte, int, error) {
	call, ends := callOf(message.Call), callEnds(message.Call, now)
	scope := call.ID // of the jobs' ids
	if scope == "" {
		scope = fmt.Sprintf("webhook %x", sha256.Sum256(webhook))
	}
	results := make([]vapi.Result, len(message.ToolCalls))
	var messages, long []queue.Message
	trace := traceparent(ctx)
	var answered []int // indexes of the tool calls that are answered at once
	quick := h.newQuickAnswer(ctx, call, message, now)
	for i, t := range message.ToolCalls {
		results[i] = vapi.Result{Name: t.Name, ToolCallID: t.ID}
		if h.answersAtOnce(t) && usableID(call.ID) {
			answered = append(answered, i)
			continue
		}
		j := job.Job{
			Tool: t.Name, Arguments: t.Arguments, Async: t.Async, Call: call, ReceivedAt: now, CallEnds: ends,
			CallBegan: message.Call.Began,
		}
		j.ID, j.ToolCallID = identify(scope, t, i)
		j.Traceparent = trace
		waits := quick != nil && h.isQuick(call, t)
		if waits {
			if r, settled := quick.stored(ctx, j.ID); settled {
				h.setResult(&results[i], r, t.Async)
				continue
			}
			j.AnswerUntil = quick.until.Add(outcomeMargin)
		}
		body, err := encode(j, t.Err)
		if err != nil {
			results[i].Error = err.Error()
			j = refusal(j, err)
			h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "tool call refused",
				slog.String("tool", j.Tool), slog.Any("error", err))
			if !t.Async {
				continue
			}
			if body, err = j.Encode(); err != nil {
				return nil, 0, fmt.Errorf("%w: %w", errNotQueued, err)
			}
		} else {
			results[i].Result = h.placeholder(call)
			if waits {
				quick.calls = append(quick.calls, quickCall{index: i, jobID: j.ID, async: t.Async})
			}
		}
		if m := (queue.Message{Body: body, Group: queue.Group(j.Call.ID)}); h.long[t.Name] && j.Refusal == "" {
			long = append(long, m)
		} else {
			messages = append(messages, m)
		}
		h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "tool call accepted",
			job.LogCall(call.ID), job.LogJob(j.ID), slog.String("tool", j.Tool), job.LogTrace(trace))
	}
	if err := h.sendJobs(ctx, messages, long); err != nil {
		return nil, 0, err
	}
	jobs := len(messages) + len(long)
	// Jobs are cancelled before the answer waits for them, and the status is the one afterwards.
	h.cancelTasks(ctx, call, message.ToolCalls, answered, results)
	quick.fill(ctx, results)
	h.taskStatuses(ctx, call, quick.statusTimeout(), message.ToolCalls, answered, results)
	if message.Type == vapi.TypeFunctionCall {
		return vapi.AnswerFunctionCall(results[0]), jobs, nil
	}
	return vapi.Answer(results), jobs, nil
}

// placeholder returns the answer to a tool call whose result follows.
func (h *Handler) placeholder(call job.Call) string {
	switch {
	case h.cfg.Text != "":
		return h.cfg.Text
	case call.Architecture == vapi.ArchitectureGPTLive:
		return GPTLiveText
	}
	return DefaultText
}

// JobID returns the id of the job that a tool call becomes, by its position among the tool calls of its
// message.
func JobID(callID string, t vapi.ToolCall, position int) string {
	id, _ := identify(callID, t, position)
	return id
}

// identify returns the id of a tool call's job, and the tool call's own. If that is missing, identify
// makes one. A repeated webhook has the same tool calls at the same positions, so it gets the same ids.
func identify(scope string, t vapi.ToolCall, position int) (jobID, toolCallID string) {
	arguments := t.Arguments
	if t.Unusable != nil {
		arguments = t.Unusable
	}
	toolCallID = t.ID
	if toolCallID == "" {
		made := job.ID(scope, strconv.Itoa(position), t.Name, arguments)
		toolCallID = "no_id_" + strings.TrimPrefix(made, "j_")
	}
	return job.ID(scope, toolCallID, t.Name, arguments), toolCallID
}

// refusal returns the job that only delivers why a tool call was refused. What was refused may be its
// size.
func refusal(j job.Job, why error) job.Job {
	j.Arguments, j.Refusal = json.RawMessage("{}"), why.Error()
	j.Tool = cmp.Or(cut(j.Tool, maxRefusedName), unnamed)
	j.ToolCallID, j.Call.ID = cut(j.ToolCallID, maxRefusedName), cut(j.Call.ID, maxCallID)
	return j
}

// cut shortens a text to some bytes. A text that was cut is no valid name of a tool.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// answersAtOnce reports whether the tool call starts no job. Unusable arguments do not matter here.
func (h *Handler) answersAtOnce(t vapi.ToolCall) bool {
	return h.cfg.Jobs != nil && (t.Name == TaskStatus || t.Name == CancelTask) &&
		(t.Err == nil || errors.Is(t.Err, vapi.ErrArguments))
}

// cancelTasks writes the results of those tool calls with these indexes that are of cancel_task.
func (h *Handler) cancelTasks(
	ctx context.Context, call job.Call, calls []vapi.ToolCall, indexes []int, results []vapi.Result,
) {
	for _, i := range indexes {
		if calls[i].Name == CancelTask {
			results[i].Result = h.cancelTask(ctx, call.ID, calls[i])
		}
	}
}

// taskStatuses writes the results of those tool calls with these indexes that are of task_status.
func (h *Handler) taskStatuses(
	ctx context.Context, call job.Call, within time.Duration, calls []vapi.ToolCall, indexes []int,
	results []vapi.Result,
) {
	status := ""
	for _, i := range indexes {
		if calls[i].Name != TaskStatus {
			continue
		}
		if status == "" {
			status = h.taskStatus(ctx, call, within)
		}
		results[i].Result = status
	}
}

// encode returns the queue message of a job. Its error says why the tool call cannot be used;
// refused is that error if it is known already.
func encode(j job.Job, refused error) (string, error) {
	switch {
	case refused != nil:
		return "", refused
	case j.Call.ID == "":
		return "", errors.New("the webhook names no call, so no result could be delivered")
	case len(j.Call.ID) > maxCallID:
		return "", fmt.Errorf("the call's id is longer than %d bytes", maxCallID)
	}
	body, err := j.Encode()
	if err != nil {
		return "", err
	}
	// In a queue message, some characters of the arguments are escaped and take up to six times
	// their size. Sending the webhook again would not help.
	if len(body) > queue.MaxMessage {
		return "", fmt.Errorf("%w: they are too large", vapi.ErrArguments)
	}
	return body, nil
}
