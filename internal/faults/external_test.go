package faults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// part is the part of a message that delivers one job.
type part struct {
	message vapi.ControlMessage // with the content of this job alone
	text    string              // of a message in a chat; empty in calls
	with    []string            // all jobs in the message, this one included
	apart   bool                // it is an action whose text was delivered before
}

var (
	resultHead   = regexp.MustCompile(`(?m)^\[async tool result\] tool=\S+ tool_call_id=(\S+) `)
	progressLine = regexp.MustCompile(`(?m)^progress (\d+) of (\S+),`)
)

// read returns the jobs whose results a text in a call contains, with the text of each,
// or the number of a progress line and its job.
func (w *world) read(hook webhook, text string) (ids []string, texts []string, line int, isProgress bool) {
	first := "no tool call in " + hook.call
	if len(hook.calls) > 0 {
		first = hook.first()
	}
	if strings.Contains(text, holdText) {
		return []string{first}, nil, 0, true
	}
	if m := progressLine.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		return []string{w.jobOf(hook, m[2])}, nil, n, true
	}
	heads := resultHead.FindAllStringSubmatchIndex(text, -1)
	for i, at := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		ids, texts = append(ids, w.jobOf(hook, text[at[2]:at[3]])), append(texts, text[at[0]:end])
	}
	if ids == nil { // spoken word for word
		ids, texts = []string{first}, []string{text}
	}
	return ids, texts, 0, false
}

// jobOf returns the job of a tool call that is mentioned in a call: a job of this call,
// or of another call of the same customer.
func (w *world) jobOf(in webhook, toolCallID string) string {
	for _, same := range []func(webhook) bool{
		func(h webhook) bool { return h.call == in.call },
		func(h webhook) bool { return h.number() == in.number() },
	} {
		for _, h := range w.scenario {
			for _, c := range h.calls {
				if same(h) && c.id == toolCallID {
					return h.job(c)
				}
			}
		}
	}
	return "unknown tool call " + toolCallID + " in " + in.call
}

// Post is the control client and the calls.
func (w *world) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	text := ""
	switch m := m.(type) {
	case vapi.AddMessage:
		text = m.Content
	case vapi.Say:
		text = m.Content
	case vapi.AppendContext:
		text = m.Content
	}
	return w.take(ctx, "post", w.webhook(controlURL), m, text)
}

// Chat is the client of the chats.
func (w *world) Chat(ctx context.Context, chat vapiclient.NewChat) vapiclient.Receipt {
	return w.take(ctx, "chat", w.webhook(chat.SessionID), nil, chat.Content)
}

func (w *world) take(
	ctx context.Context, op string, hook webhook, m vapi.ControlMessage, text string,
) vapiclient.Receipt {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	inv := invocationOf(ctx)
	ids, texts, line, isProgress := w.read(hook, text)
	if isProgress {
		op += " progress"
	}
	receipt := vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: errInjected}
	begun := time.Now() // a slow post was sent in time
	err := w.step(ctx, op, together(ids), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if hook.forged {
			w.wrong("forged", ids[0], "posted to a call that is another customer's")
		}
		code := http.StatusOK
		n := len(w.observed.posted[ids[0]])
		if isProgress {
			n = w.observed.lines[ids[0]]
		}
		if len(hook.answers) > 0 {
			code = hook.answers[min(n, len(hook.answers)-1)]
		}
		if m != nil && text == "" {
			code = cmp.Or(hook.actions, code)
		}
		if hook.live != acceptedLive(m) && m != nil && code < 300 {
			// A call that refuses the other dialect does not say so. It has not ended.
			receipt = vapiclient.Receipt{
				Status: http.StatusNotFound, Verdict: vapiclient.Gone, Err: errors.New("the control URL answered 404"),
			}
			return nil
		}
		receipt = vapiclient.Receipt{Status: code, Err: fmt.Errorf("the control URL answered %d", code)}
		switch {
		case code < 300:
			receipt = vapiclient.Receipt{Status: code, Verdict: vapiclient.Delivered}
		case code >= 500:
			receipt.Verdict = vapiclient.TryAgain
		case code == http.StatusBadRequest:
			receipt.Verdict = vapiclient.MessageRefused
			for _, id := range ids {
				w.observed.refused[id] = true
			}
		default:
			receipt.Verdict = vapiclient.Gone
			w.observed.gone[hook.call] = true
		}
		if isProgress {
			w.observed.lines[ids[0]]++
			if code < 300 {
				w.observeProgress(ids[0], line)
				w.observeAuthor(ids[0], line, m)
				inv.unmarkedLines[ids[0]] = true
			}
			return nil
		}
		for i, id := range ids {
			w.observed.posted[id] = append(w.observed.posted[id], time.Now())
			if code >= 300 {
				continue
			}
			if isTextOfAction(m) {
				w.observed.texts[id]++
				inv.unmarkedTexts[id] = true
				continue
			}
			p := part{message: m, with: ids, apart: w.observed.texts[id] > 0}
			if added, ok := m.(vapi.AddMessage); ok {
				added.Content = texts[i]
				p.message = added
			}
			if m == nil {
				p.text = texts[i]
			}
			w.observed.delivered[id] = append(w.observed.delivered[id], p)
			w.observed.deliveredAt[id] = begun
			w.end(id)
			inv.unmarkedDeliveries[id] = true
		}
		return nil
	})
	if err != nil {
		w.mu.Lock()
		for _, id := range ids {
			// It was accepted, and Ringback does not know. This excuses one repeat, also if
			// the function dies later.
			if inv.unmarkedDeliveries[id] {
				w.observed.mayRepeatDelivery[id]++
				delete(inv.unmarkedDeliveries, id)
			}
			if inv.unmarkedLines[id] {
				w.observed.mayRepeatLine[id]++
				delete(inv.unmarkedLines, id)
			}
			if inv.unmarkedTexts[id] {
				w.observed.mayRepeatText[id]++
				delete(inv.unmarkedTexts, id)
			}
		}
		w.mu.Unlock()
		return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: err}
	}
	return receipt
}

// acceptedLive reports whether a GPT-Live call accepts a message that it got in this harness.
func acceptedLive(m vapi.ControlMessage) bool {
	switch m := m.(type) {
	case vapi.AppendContext, vapi.EndCall:
		return true
	case vapi.Transfer:
		return m.Content == "" && strings.Contains(string(m.TransferPlan), "blind-transfer")
	}
	return false
}

// isTextOfAction reports whether a GPT-Live call got the text of an action, which follows.
func isTextOfAction(m vapi.ControlMessage) bool {
	context, ok := m.(vapi.AppendContext)
	return ok && strings.Contains(context.Content, "\n"+transferText+"\n")
}

// observeProgress records a progress line that was delivered. w.mu is held.
func (w *world) observeProgress(id string, line int) {
	o := &w.observed
	n := len(o.progress[id])
	if n > 0 && line >= firstKept && o.progress[id][n-1] == line && o.mayRepeatLine[id] > 0 {
		o.mayRepeatLine[id]-- // its first post was not confirmed
		return
	}
	if n > 0 && o.progress[id][n-1] >= line {
		w.wrong("order", id, "progress line %d was delivered after the lines %v", line, o.progress[id])
	}
	if len(o.delivered[id]) > 0 {
		w.wrong("order", id, "progress line %d was delivered after the result", line)
	}
	if n > 0 && line >= firstKept && time.Since(o.progressAt[id]) < job.ProgressPause-time.Second {
		w.wrong("order", id, "progress line %d was delivered %s after the one before", line, time.Since(o.progressAt[id]))
	}
	o.progress[id], o.progressAt[id] = append(o.progress[id], line), time.Now()
}

// observeAuthor checks that no external system speaks for the assistant. The lines of external systems have one digit,
// those of tools begin with the attempt, and the hold message has 0. w.mu is held.
func (w *world) observeAuthor(id string, line int, m vapi.ControlMessage) {
	switch m := m.(type) {
	case vapi.AddMessage:
		if m.Silent {
			return
		}
	case vapi.AppendContext:
		if m.Kind == vapi.Thinking {
			return
		}
	}
	if 0 < line && line < 10 {
		w.wrong("speaker", id, "progress line %d of an external system is delivered as %T, to be spoken", line, m)
	}
}

// CallStatus is Vapi's answer whether a call has ended. An outbound call must not be made before.
func (w *world) CallStatus(ctx context.Context, callID string) vapiclient.CallStatus {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	status := vapiclient.CallStatus{Status: http.StatusOK}
	w.mu.Lock()
	open, isOutbound := w.outbound[callID]
	w.mu.Unlock()
	if isOutbound {
		err := w.step(ctx, "outbound call status", callID, func() error { return nil })
		status.Call = vapiclient.KnownCall{ID: callID, Type: "outboundPhoneCall", CustomerNumber: open.customer}
		switch status.Ended = !time.Now().Before(open.ends); {
		case err != nil:
			return vapiclient.CallStatus{Err: err}
		case !status.Ended:
			status.Err = errors.New("the outbound call is in progress")
		}
		return status
	}
	hook := w.webhook(callID)
	status.Call = vapiclient.KnownCall{ID: callID, Type: "inboundPhoneCall", CustomerNumber: hook.number()}
	if hook.forged {
		status.Call.CustomerNumber = customer
	}
	err := w.step(ctx, "call status", hook.subject(), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		status.Ended = w.observed.gone[callID]
		return nil
	})
	if err != nil {
		return vapiclient.CallStatus{Err: err}
	}
	if !status.Ended {
		status.Err = errors.New("the call is in progress")
	}
	return status
}

// Call is the client that makes outbound calls.
func (w *world) Call(ctx context.Context, call vapiclient.NewCall) vapiclient.CallReceipt {
	ctx, cancel := context.WithTimeout(ctx, 2*postTimeout)
	defer cancel()
	inv := invocationOf(ctx)
	hook := w.webhook(call.Variables["ringback_call_id"])
	ids := w.resultsIn(call)
	effect := false
	made := ""
	err := w.step(ctx, "outbound call", hook.first(), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, id := range ids {
			w.observed.called[id] = append(w.observed.called[id], call)
			w.end(id)
			inv.unmarkedCalls[id] = true
		}
		for _, other := range w.outbound {
			if other.customer == call.CustomerNumber && time.Now().Before(other.ends) {
				w.wrong("twice", hook.first(), "the customer was called while another outbound call was open")
			}
		}
		made = fmt.Sprint("outbound-", len(w.outbound))
		w.outbound[made] = outbound{call.CustomerNumber, time.Now().Add(outboundTime)}
		effect = true
		return nil
	})
	switch {
	case err == nil:
		return vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: made, Status: http.StatusCreated}
	case !effect && errors.Is(err, errInjected):
		return vapiclient.CallReceipt{
			Verdict: vapiclient.Refused, TryAgain: true, Status: http.StatusTooManyRequests, Err: err,
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if effect {
		for _, id := range ids {
			w.observed.mayPublishCalled[id] = true
		}
	}
	return vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Err: err}
}

// outboundTime is how long an outbound call lasts.
const outboundTime = 2 * time.Minute

// outbound is an outbound call.
type outbound struct {
	customer string
	ends     time.Time
}

// resultsIn returns the jobs whose results an outbound call delivers. Results can be equal, so the jobs are recognised
// by what was asked.
func (w *world) resultsIn(call vapiclient.NewCall) []string {
	var ids []string
	for _, h := range w.scenario {
		for _, c := range h.calls {
			asked := "\nasked: " + c.tool + " " + cmp.Or(c.arguments, arguments) + "\n"
			if h.number() == call.CustomerNumber && strings.Contains(call.Variables["ringback_result"], asked) {
				ids = append(ids, h.job(c))
			}
		}
	}
	return ids
}

// beyond does something that is no part of the functions. The run waits for it.
func (w *world) beyond(do func()) {
	w.mu.Lock()
	w.external++
	w.mu.Unlock()
	go func() {
		do()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.external--
	}()
}

// handOver passes a job's completion URL to the external systems that post to it,
// once.
func (w *world) handOver(id, url string) {
	w.mu.Lock()
	had := w.urls[id]
	w.urls[id] = url
	w.mu.Unlock()
	if had != "" {
		return
	}
	for _, h := range w.scenario {
		for _, c := range h.calls {
			if h.job(c) != id {
				continue
			}
			for i, p := range c.posters {
				w.beyond(func() {
					time.Sleep(time.Until(w.began.Add(p.at)))
					w.complete(id, i, url, p.body)
				})
			}
		}
	}
}

// complete posts to a completion URL. It posts a result again if there is no answer,
// or 5xx.
func (w *world) complete(id string, poster int, url, body string) {
	isResult := strings.Contains(body, `"result"`)
	path := strings.TrimPrefix(url, "https://ringback.example")
	for try := range 5 {
		status, answer, ok := w.front("completion", fmt.Sprintf("%s by %d", id, poster), path, body)
		if ok && status < 500 {
			w.mu.Lock()
			defer w.mu.Unlock()
			switch {
			case isResult && status == http.StatusOK:
				w.observed.completed[id] = append(w.observed.completed[id], body)
			case isResult && status != http.StatusConflict && status != http.StatusGone,
				!isResult && status == http.StatusOK:
				w.wrong("answer", id, "a post of %s was answered with %d: %s", body, status, answer)
			}
			return
		}
		if !isResult {
			return // the next line replaces it
		}
		time.Sleep(time.Second << try)
	}
}

// cancelledText is the failure of a job that an operator cancelled.
const cancelledText = "I'm sorry, that request was cancelled."

// operate cancels a job as an operator does, who repeats a command that failed.
func (w *world) operate(id string) {
	for range 10 {
		ctx, stop := context.WithTimeout(context.Background(), operatorTimeout)
		ctx, inv := w.begin(ctx, "operator")
		done := make(chan bool, 1)
		go func() { done <- w.cancel(ctx, id) }()
		over := false
		select {
		case <-inv.dead:
		case over = <-done:
		}
		stop()
		if over {
			return
		}
		time.Sleep(webhookPause)
	}
}

// cancel lists the jobs of the call, shows the job and cancels it. It returns true if nothing is left to do.
func (w *world) cancel(ctx context.Context, id string) bool {
	jobs, err := operator.New(operator.Config{
		Table: w.pipeline.Table, Calls: w.pipeline.Records, Outcomes: w.outcomes, Jobs: w.checks,
		Log:    slog.New(slog.DiscardHandler),
		Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
	})
	if err != nil {
		panic(err)
	}
	shown, err := jobs.Show(ctx, id, true)
	if err != nil {
		return false
	}
	list, err := jobs.List(ctx, shown.CallID)
	if err != nil {
		return false
	}
	listed := slices.ContainsFunc(list.Jobs, func(j operator.Job) bool { return j.ID == id })
	if !listed && w.given.stale == 0 {
		w.mu.Lock()
		w.wrong("answer", id, "an operator was not shown it among %d jobs", len(list.Jobs))
		w.mu.Unlock()
	}
	_, err = jobs.Cancel(ctx, id, "")
	var finished *operator.FinishedError
	switch {
	case errors.As(err, &finished):
		return true
	case err != nil:
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed.cancelled[id] = true
	return true
}

// afterwards is the beginning of the ids of the calls after all others.
const afterwards = "afterwards-"

// callAgain makes each customer with a parked result call once more, without faults.
// The result must be delivered then.
func (w *world) callAgain() {
	w.mu.Lock()
	w.plan, w.outages = nil, nil
	w.mu.Unlock()
	for _, r := range w.records() {
		if r.State != job.StateParked {
			continue
		}
		callID := r.CallID
		w.vapi(w.webhook(afterwards + callID))
		w.settle(patience)
	}
}
