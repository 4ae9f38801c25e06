// Package callback delivers outcomes. It posts an outcome to the control URL of its call and marks
// it as delivered. The outcomes of a batch are handled concurrently; each succeeds or fails on its
// own.
//
// An outcome passes through these steps, all of them in callback.go:
//
//   - claim its delivery in the job's record, so that a copy of the message does not deliver it too;
//   - post it, together with the outcomes of the same call that are ready at the same time (round.go);
//   - mark it as delivered; or release it, and retry after a delay.
//
// The claim is a lease, and lease.go bounds everything that is done under it. An outcome that could not be
// marked in time is marked by another message (mark.go).
//
// If the call refuses the post, the outcome is posted in another way under the same claim (refused.go).
// A message has two dialects, for classic and for GPT-Live calls (dialect.go). An action is posted
// apart from its text in a GPT-Live call (action.go).
//
// If it cannot be delivered in its call, it follows the tool's after-call policy (aftercall.go): it
// is dropped, parked for the customer's next call, delivered by an outbound call (outboundcall.go),
// or sent as an `undelivered` event. Then that is marked. Parking and outbound calls need calls that Vapi's
// API confirms (confirm.go).
//
// A progress line takes another path, because it is posted at most once (progress.go). trace.go makes the spans.
package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/internal/tracing"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	// MaxPosts is how often a message posts its outcome at most.
	MaxPosts = 20

	firstDelay = time.Second // before the second post
)

// Table is the jobs table.
type Table interface {
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
	ChangeKnown(ctx context.Context, known job.Record, rule job.Rule) (job.Record, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
	Settle(ctx context.Context, claimed job.Record, now time.Time, state job.State, reason string) error

	// Find returns a job's record, and false if there is none.
	Find(ctx context.Context, id string) (job.Record, bool, error)
}

// Results is the queue that the outcomes come from.
type Results interface {
	batch.Queue
	Send(ctx context.Context, messages []queue.Message) []error
}

// ControlClient posts control messages to calls.
type ControlClient interface {
	Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt
}

// ChatClient posts to chats.
type ChatClient interface {
	Chat(ctx context.Context, chat vapiclient.NewChat) vapiclient.Receipt
}

// CallLookup asks Vapi's API for calls.
type CallLookup interface {
	CallStatus(ctx context.Context, callID string) vapiclient.CallStatus
}

// CallTracker records which calls have ended.
type CallTracker interface {
	// Ended returns the zero time if no end of the call is recorded.
	Ended(ctx context.Context, callID string) (time.Time, error)
	End(ctx context.Context, callID string, now time.Time) error

	// Load returns what is known of a call. The record is empty if nothing is.
	Load(ctx context.Context, callID string) (job.CallRecord, error)
	// Learn records the architecture of a call. From then on, the end of the call is recorded.
	Learn(ctx context.Context, callID string, a vapi.Architecture, now time.Time) error
}

// Customers parks results for a customer's next call.
type Customers interface {
	// Park returns false if too many results are parked for the customer of the call.
	Park(ctx context.Context, c job.Call, now time.Time, p job.ParkedResult) (bool, error)

	// OpenCall opens an outbound call to a customer that a result leads, and returns the jobs of the results that
	// wait. If another call is open, and is not the one that has ended, OpenCall returns it, and the result waits.
	OpenCall(
		ctx context.Context, c job.Call, result job.WaitingResult, ended string, now time.Time,
	) (others []string, open *job.OpenCall, err error)
	// CallMade records that the open call was made, and delivers the results of others, too. NoCall records that
	// it was certainly not made.
	CallMade(ctx context.Context, c job.Call, jobID, callID string, others []string, now time.Time) error
	NoCall(ctx context.Context, c job.Call, jobID string, now time.Time) error
	// Wait makes a result wait for an outbound call. It returns false if it should wait for the call of another.
	Wait(ctx context.Context, c job.Call, result job.WaitingResult, now time.Time) (first bool, err error)

	// CountCall counts an outbound call. It returns false if the day has as many as allowed.
	CountCall(ctx context.Context, now time.Time, most int) (bool, error)
	// UncountCall undoes CountCall.
	UncountCall(ctx context.Context, now time.Time) error
}

// Events sends `undelivered` events. If the function dies in between, the same event is sent twice.
type Events interface {
	SendUndelivered(ctx context.Context, u job.Undelivered) error
}

// Config configures a [Handler]. CallLookup and the fields after it are optional.
type Config struct {
	Table         Table
	ControlClient ControlClient
	Results       Results
	Events        Events
	CallTracker   CallTracker
	Customers     Customers

	// CallLookup confirms calls, before a result is parked, delivered in a later call, or delivered by an
	// outbound call. Nil means that none of these is done.
	CallLookup CallLookup

	// ChatClient posts results to chats, which have no control URL. Nil means that these results
	// become `undelivered` events.
	ChatClient ChatClient

	// OutboundCalls delivers the results of tools that ask for outbound calls. Nil means that these
	// results become `undelivered` events.
	OutboundCalls *OutboundCalls

	// AnyControlPath admits control URLs whose path does not contain the call's id.
	AnyControlPath bool

	Text   *spoken.Text     // the text around results; nil means [spoken.DefaultText]
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger     // nil means slog.Default()
	Tracer trace.Tracer     // nil means that no spans are made
}

// Handler delivers outcomes.
type Handler struct{ cfg Config }

// New returns a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Table == nil || cfg.ControlClient == nil || cfg.Results == nil || cfg.Events == nil ||
		cfg.CallTracker == nil || cfg.Customers == nil {
		return nil, errors.New("callback: the Config needs a table, a control client, the results queue, events, " +
			"a call tracker and customers")
	}
	if cfg.OutboundCalls != nil &&
		(cfg.OutboundCalls.Client == nil || cfg.OutboundCalls.Next == nil || cfg.CallLookup == nil) {
		return nil, errors.New("callback: OutboundCalls need a client, the hours in which they are made, and a CallLookup")
	}
	if cfg.Text == nil {
		text, err := spoken.ParseText("")
		if err != nil {
			return nil, err
		}
		cfg.Text = &text
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Tracer = tracing.Tracer(cfg.Tracer)
	cfg.traceClients()
	return &Handler{cfg: cfg}, nil
}

// Handle delivers the outcomes of a batch. Its error is always nil: the failed messages are in the
// response, and only they return to the queue.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	ctx = jobtable.Together(ctx)
	all := decode(event)
	rounds := roundsOf(event, all)
	results := func(events.SQSMessage) batch.Queue { return h.cfg.Results }
	return batch.Handle(ctx, event, results, h.cfg.Log,
		func(ctx context.Context, message events.SQSMessage) *batch.Retry {
			return h.handle(ctx, rounds, message, all[message.Body])
		}), nil
}

// decoded is the outcome in the body of a message.
type decoded struct {
	outcome job.Outcome
	err     error
}

// decode returns the outcomes of a batch by the bodies of their messages.
func decode(event events.SQSEvent) map[string]decoded {
	all := make(map[string]decoded)
	for _, m := range event.Records {
		o, err := job.DecodeOutcome(m.Body)
		all[m.Body] = decoded{o, err}
	}
	return all
}

// handle handles one message. It returns nil if the message can be deleted.
func (h *Handler) handle(
	ctx context.Context, rounds rounds, message events.SQSMessage, decoded decoded,
) (retry *batch.Retry) {
	o, err := decoded.outcome, decoded.err
	if err != nil {
		// A newer version may have sent it.
		h.cfg.Log.ErrorContext(ctx, "cannot decode outcome message", "message_id", message.MessageId, "error", err)
		return batch.RetryAfter(err, firstDelay, batch.Receives(message))
	}
	id := message.MessageId
	d := &delivery{
		Handler: h, outcome: o, member: id, round: rounds[id], receives: batch.Receives(message),
		log: h.cfg.Log.With(job.LogCall(o.Call.ID), job.LogJob(o.JobID), "tool", o.Tool, job.LogTrace(o.Traceparent)),
	}
	ctx, span := d.startSpan(ctx, message)
	defer func() { endSpan(span, retry) }()
	switch {
	case len(o.With) > 0:
		return d.split(ctx)
	case o.Kind == job.KindProgress:
		return d.deliverProgress(ctx)
	case o.Kind == job.KindMark:
		return d.markLater(ctx)
	}
	return d.deliver(ctx)
}

// split sends each outcome of a message of an earlier version in a message of its own. A retry of one of
// them then does not deliver the others again.
func (d *delivery) split(ctx context.Context) *batch.Retry {
	if err := d.send(ctx, d.outcome.All()...); err != nil {
		d.log.ErrorContext(ctx, "cannot split message with several outcomes", "error", err)
		return &batch.Retry{After: d.backoff()}
	}
	return nil
}

// send sends outcomes to the results queue.
func (d *delivery) send(ctx context.Context, outcomes ...job.Outcome) error {
	messages := make([]queue.Message, len(outcomes))
	for i, o := range outcomes {
		body, err := o.Encode()
		if err != nil {
			return err
		}
		messages[i] = queue.Message{Body: body, Group: queue.Group(o.Call.ID)}
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return errors.Join(d.cfg.Results.Send(ctx, messages)...)
}

// delivery is the delivery of one outcome.
type delivery struct {
	*Handler
	outcome  job.Outcome
	member   string     // names the outcome in the batch: the id of its message
	round    *round     // nil if no other outcome of the batch can share its post
	record   job.Record // as it was last saved
	claimed  bool       // the delivery is claimed, and record is that of the claim
	started  time.Time  // of the first post
	lease    time.Time  // when the lease of the claim expires
	receives int        // how often its message was received, this time included
	noCall   bool       // an outbound call was recorded and then refused, so that none was made
	reported string     // an error that Vapi reported. It may quote the outcome, so it is not logged
	log      *slog.Logger
}

// deliver delivers a final outcome. It returns nil if the outcome is settled.
func (d *delivery) deliver(ctx context.Context) *batch.Retry {
	defer d.round.Leave(d.member)
	o := d.outcome
	err := d.claim(ctx)
	if o.Unstored != nil && errors.Is(err, job.ErrNotDone) {
		if err = d.storeResult(ctx); err == nil {
			err = d.claim(ctx)
		}
	}
	if err != nil {
		return d.notClaimed(ctx, err)
	}
	if !d.record.TextDeliveredAt.IsZero() { // which only happens in such calls
		d.outcome.Call.Architecture = vapi.ArchitectureGPTLive
	}
	if o.Unstored != nil {
		// If the job has ended in another way meanwhile, that result counts, and no other message may
		// carry it.
		d.outcome.Result, d.outcome.Deadline = *d.record.Result, d.record.Deadline
		o = d.outcome
	}

	if d.record.KeepResult {
		return d.keep(ctx)
	}
	if o.Earlier {
		switch why, retry := d.confirmCall(ctx); {
		case retry != nil:
			return retry
		case why != "":
			d.log.ErrorContext(ctx, "result stays parked; Vapi does not confirm the call", "reason", why)
			return d.park(ctx, why)
		}
	}
	switch {
	case !d.record.Forgotten.IsZero():
		// A copy of the message may have what was deleted.
		d.outcome.Result, d.outcome.Call.CustomerNumber = *d.record.Result, ""
		return d.sendUndelivered(ctx, job.ReasonForgotten, "an operator deleted what was stored about the customer")
	case o.NoNextCall:
		return d.sendUndelivered(ctx, job.ReasonNoNextCall, "the customer did not call in the "+
			strconv.Itoa(int(job.ParkedTime.Hours()/24))+" days for which the result was parked")
	case d.record.OutboundCallBy != "":
		return d.endJoined(ctx)
	case !d.record.OutboundCallAt.IsZero():
		// The function died during the outbound call.
		return d.sendUndelivered(ctx, job.ReasonOutboundCallUnconfirmed, "an outbound call was about to be made at "+
			d.record.OutboundCallAt.Format(time.RFC3339)+"; it is unknown whether it was made")
	case d.cfg.Now().After(o.Deadline): // also if the call was forgotten: see [job.Redrive]
		return d.followAfterCall(ctx, job.ReasonDeadline, "the deadline was "+o.Deadline.Format(time.RFC3339))
	case o.Call.ControlURL == "" && (!o.Call.Chat() || d.cfg.ChatClient == nil):
		return d.followAfterCall(ctx, job.ReasonNoControlURL, "the webhook contained no control URL")
	case o.Call.ControlURL != "" && !d.controlsCall():
		d.log.ErrorContext(ctx, "control URL not allowed; it does not contain the call's id")
		return d.followAfterCall(ctx, job.ReasonMisconfigured, "the path of the control URL does not contain the call's id")
	case d.receives > MaxPosts:
		return d.followAfterCall(ctx, job.ReasonUnreachable, fmt.Sprintf("it was not delivered in %d attempts", MaxPosts))
	case !d.record.OutboundCallPostponedAt.IsZero() && o.AfterCall == policy.AfterCallOutboundCall:
		// Another post would only be answered with 404 again.
		return d.followEndOfCall(ctx, d.lateAfterCall(ctx), "the control URL answered at "+
			d.record.OutboundCallPostponedAt.Format(time.RFC3339)+" that the call is over")
	}
	d.warnOfHiddenText(ctx)
	d.started = d.cfg.Now()
	if o.Call.ControlURL != "" && o.Result.Delivery == policy.DeliveryControl {
		return d.deliverAction(ctx)
	}
	receipt, err := d.postResult(ctx)
	if err != nil {
		return d.followAfterCall(ctx, job.ReasonUnspeakable, err.Error())
	}
	return d.conclude(ctx, receipt)
}

// controlsCall reports whether the control URL is that of the call. It comes from the webhook, and a forged one
// could join the id of one call with the control URL of another.
func (d *delivery) controlsCall() bool {
	return d.cfg.AnyControlPath || vapiclient.NamesCall(d.outcome.Call.ControlURL, d.outcome.Call.ID)
}

// conclude does what the receipt of the last post asks for.
func (d *delivery) conclude(ctx context.Context, receipt vapiclient.Receipt) *batch.Retry {
	d.record = d.record.Posted(answerOf(receipt))
	d.log = d.log.With("verdict", receipt.Verdict, "status", receipt.Status, "took", d.cfg.Now().Sub(d.started))
	switch receipt.Verdict {
	case vapiclient.Delivered:
		d.log.InfoContext(ctx, deployment.OutcomeDelivered)
		d.noteReported(ctx, receipt)
		return d.settle(ctx, job.StateDelivered, d.reported)
	case vapiclient.Gone:
		late := d.lateAfterCall(ctx)
		d.recordEnd(ctx)
		return d.followEndOfCall(ctx, late, describe(receipt))
	case vapiclient.MessageRefused:
		d.reported = receipt.Reported
		d.log.ErrorContext(ctx, "call refused outcome; correct what its tool returns", "error", receipt.Err)
		return d.followAfterCall(ctx, job.ReasonRefused, describe(receipt)+"; "+d.correction())
	case vapiclient.Unconfirmed:
		// A repeat could be a second delivery.
		d.log.ErrorContext(ctx, "delivery of outcome is unconfirmed", "error", receipt.Err)
		return d.sendUndelivered(ctx, job.ReasonUnconfirmed, describe(receipt))
	case vapiclient.TryAgain:
		delay, ok := d.delay(d.backoff(), receipt.RetryAfter)
		if d.receives >= MaxPosts || !ok {
			return d.followAfterCall(ctx, job.ReasonUnreachable, describe(receipt))
		}
		d.log.WarnContext(ctx, "cannot post outcome yet", "in", delay, "error", receipt.Err)
		return d.release(ctx, delay)
	default:
		d.log.ErrorContext(ctx, "cannot post outcome; check the configuration", "error", receipt.Err)
		return d.followAfterCall(ctx, job.ReasonMisconfigured, describe(receipt))
	}
}

// warnOfHiddenText logs that characters are removed from the outcome which only a model would have read.
func (d *delivery) warnOfHiddenText(ctx context.Context) {
	if spoken.HidesText(d.outcome.Result.Content) || spoken.HidesText(d.outcome.Asked) {
		d.log.WarnContext(ctx, "removed hidden text from result")
	}
}

// storeResult stores the result that the process function could not store.
func (d *delivery) storeResult(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	_, err := d.cfg.Table.Change(ctx, d.outcome.JobID, job.StoreResult(d.cfg.Now(), d.outcome))
	if err == nil {
		d.log.InfoContext(ctx, "result stored that the process function could not store")
	}
	if errors.Is(err, job.ErrFinished) {
		return nil // meanwhile
	}
	return err
}

// notClaimed handles a delivery that could not be claimed.
func (d *delivery) notClaimed(ctx context.Context, err error) *batch.Retry {
	var busy *job.BusyError
	switch {
	case d.outcome.Unstored != nil && errors.Is(err, job.ErrNotDone):
		d.log.WarnContext(ctx, "result was never stored, and another attempt has the job; dropping the result")
		return nil
	case errors.Is(err, job.ErrSettled):
		d.log.InfoContext(ctx, "outcome is already settled", "state", d.record.State)
		return nil
	case errors.Is(err, job.ErrOtherCall):
		// This copy is from before the result was parked. Another message delivers the result in the
		// customer's next call.
		d.log.InfoContext(ctx, "outcome is delivered in another call", "next_call", job.CallHash(d.record.NextCallID))
		return nil
	case errors.As(err, &busy):
		d.log.InfoContext(ctx, "outcome is already being delivered", "until", busy.Until)
		if d.record.ProgressLeaseExpiry.Equal(busy.Until) {
			return d.retryAfterProgress(busy)
		}
		return &batch.Retry{After: max(busy.Until.Sub(d.cfg.Now()), time.Second)}
	}
	d.log.ErrorContext(ctx, "cannot claim delivery", "error", err)
	if d.receives > MaxPosts {
		// The message soon moves to the dead-letter queue, and no other one sends an event.
		return d.sendUndelivered(ctx, job.ReasonUnclaimed, err.Error())
	}
	return batch.RetryAfter(err, firstDelay, d.receives)
}

// postResult posts the outcome to the call, or to the chat. It returns an error if there is nothing that
// could be posted.
func (d *delivery) postResult(ctx context.Context) (vapiclient.Receipt, error) {
	o := d.outcome
	if o.Call.ControlURL == "" {
		content, err := d.cfg.Text.Chat(o)
		if err != nil {
			return vapiclient.Receipt{}, err
		}
		ctx, cancel, ok := d.within(ctx, chatTime)
		defer cancel()
		if !ok {
			return noTime, nil
		}
		return d.cfg.ChatClient.Chat(ctx, vapiclient.NewChat{
			SessionID: o.Call.SessionID, PreviousChatID: o.Call.ID, AssistantID: o.Call.AssistantID, Content: content,
			SMS: o.Call.SMS, PhoneNumberID: o.Call.PhoneNumberID, CustomerNumber: o.Call.CustomerPhone(),
		}), nil
	}
	m, err := d.message()
	if err != nil {
		return vapiclient.Receipt{}, err
	}
	if !o.AddsMessage() {
		receipt, _ := d.post(ctx, m)
		return receipt, nil
	}
	// The wait must not make the outcome late.
	wait := min(coalesce, o.Deadline.Sub(d.cfg.Now()))
	receipts := d.round.Together(d.member, contribution{d.member, m, d.lease, trace.SpanContextFromContext(ctx)}, wait,
		func(all []contribution) map[string]sharedReceipt { return d.postTogether(ctx, all) }, nil)
	shared, posted := receipts[d.member]
	if !posted {
		return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: errors.New("the post was interrupted")}, nil
	}
	d.outcome.Call.Architecture = shared.architecture
	switch {
	case shared.outcomes == 0, shared.Verdict == vapiclient.MessageRefused && shared.outcomes > 1:
		return d.postSingly(ctx, m, shared), nil
	}
	return shared.Receipt, nil
}

// backoff returns the delay before the next attempt.
func (d *delivery) backoff() time.Duration { return batch.Backoff(firstDelay, d.receives) }

// delay returns the delay before the next attempt: at least the backoff, and as long as a Retry-After
// asks for, but no longer than until shortly before the deadline. It returns false if the deadline comes
// before the backoff is over.
func (d *delivery) delay(backoff, retryAfter time.Duration) (time.Duration, bool) {
	left := d.outcome.Deadline.Sub(d.cfg.Now())
	return max(backoff, min(retryAfter, (left-lastAttempt).Truncate(time.Second))), backoff <= left
}

// release releases the claim, so that the outcome can be claimed again after the delay.
func (d *delivery) release(ctx context.Context, delay time.Duration) *batch.Retry {
	rule := job.ReleaseDelivery(d.cfg.Now(), delay)
	if d.noCall {
		rule = job.RetractOutboundCall(d.cfg.Now(), delay)
	}
	return d.releaseAs(ctx, rule, delay)
}

// releaseAs releases the claim with a rule that ends the lease after the delay.
func (d *delivery) releaseAs(ctx context.Context, rule job.Rule, delay time.Duration) *batch.Retry {
	if !d.claimed {
		return &batch.Retry{After: delay}
	}
	err := d.write(ctx, markTimeout, func(ctx context.Context) error {
		_, err := d.cfg.Table.ChangeClaimed(ctx, d.record, rule)
		return err
	})
	if err != nil {
		d.log.ErrorContext(ctx, "cannot release outcome; it waits for the end of its lease", "error", err)
	}
	return &batch.Retry{After: delay}
}

// recordEnd records that the call is over, for the tools that stop with it. It takes only a moment:
// the outcome waits for it.
func (d *delivery) recordEnd(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if err := d.cfg.CallTracker.End(ctx, d.outcome.Call.ID, d.cfg.Now()); err != nil {
		d.log.WarnContext(ctx, "cannot record the end of the call", "error", err)
	}
}

// answerOf returns the answer to a post for the job's history.
func answerOf(r vapiclient.Receipt) string {
	if r.Status == 0 {
		return "no answer"
	}
	return strconv.Itoa(r.Status)
}

func describe(r vapiclient.Receipt) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return fmt.Sprintf("the control URL answered %d", r.Status)
}
