package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
)

// violation is a broken promise.
type violation struct {
	// what is one of these:
	//   - "lost": there was no ending, or something waits for ever
	//   - "twice": a result was delivered, published or called for more than once, or
	//     two of these
	//   - "record": the record disagrees with what was observed
	//   - "late": a result was delivered after the deadline, or later than its fault explains
	//   - "order": of the progress lines
	//   - "speaker": an external system spoke for the assistant
	//   - "state": a tool did not find its state
	//   - "dead letters": one is missing, or one too many is there
	//   - "started": the tool was started too often, or twice at the same time
	//   - "limit": of the tool calls in a call
	//   - "hours": a customer was to be called outside the hours, or after the deadline
	//   - "forged": a result was delivered to a call that Vapi does not confirm
	//   - "queue": a job was on the queue of the other tools
	//   - "answer": of the HTTP API
	//   - "log": it contains what it must not
	what        string
	job, detail string
}

func (v violation) String() string {
	name, known := names.Load(v.job)
	if !known {
		name = v.job
	}
	return fmt.Sprintf("%s: %v %s", v.what, name, v.detail)
}

// violations checks the run when no message is in flight any more.
func (w *world) violations() []violation {
	o := &w.observed
	records := make(map[string]job.Record)
	for _, r := range w.records() {
		records[r.ID] = r
	}
	for _, id := range w.ids() {
		w.judge(id, records)
	}
	for id := range records {
		if !slices.Contains(w.ids(), id) {
			w.wrong("record", id, "no tool call started this job")
		}
	}
	if n := w.pending(); n > 0 {
		w.wrong("lost", "", "%d schedules are left", n)
	}
	w.judgeSetting(records)
	w.judgeDeadLetters(records)
	w.judgeLatency(records)
	w.twins.judge(records)
	return o.wrong
}

// ids returns the jobs of the scenario.
func (w *world) ids() []string {
	var ids []string
	for _, h := range w.scenario {
		for _, c := range h.calls {
			if !c.answered() {
				ids = append(ids, h.job(c))
			}
		}
	}
	return ids
}

func (w *world) judge(id string, records map[string]job.Record) {
	o := &w.observed
	delivered, published, called := len(o.delivered[id]), len(o.published[id]), len(o.called[id])
	// All answers to a webhook that was repeated answer the same tool call, so they count as one
	// delivery. Such a webhook gets the stored result, in whatever way that was delivered before.
	answered := len(o.answered[id]) > 0
	mayAnswerToo := o.mayRepeatDelivery[id] > 0 || w.posts(id) > 1
	if !o.accepted[id] && delivered+published+called == 0 {
		return // nothing was promised
	}
	r, ok := records[id]
	withdrawn := r.State == job.StateCancelled && w.withdraws(id) && strings.HasPrefix(r.Reason, "cancelled by tool call ")
	silent := r.State == job.StateCancelled && w.replaced(id) || withdrawn ||
		r.State == job.StateUndelivered && r.Policy.AfterCall == policy.AfterCallDrop &&
			(o.gone[r.CallID] || r.Updated.After(r.Deadline))
	switch {
	case delivered+published+called == 0 && !answered && !silent:
		w.wrong("lost", id, "accepted, and neither delivered nor published; its record: %s", show(r))
	case r.State.Active():
		w.wrong("lost", id, "it is never finished; its record: %s", show(r))
	case delivered > w.deliveries(id)+o.mayRepeatDelivery[id]:
		w.wrong("twice", id, "delivered %d times, and %d posts were not confirmed", delivered, o.mayRepeatDelivery[id])
	case o.texts[id] > 1+o.mayRepeatText[id]:
		w.wrong("twice", id, "the text of its action was delivered %d times", o.texts[id])
	case published > 1+o.mayRepeatEvent[id]:
		w.wrong("twice", id, "published %d times", published)
	case called > 1:
		w.wrong("twice", id, "the customer was called %d times", called)
	case answered && delivered+published+called > 0 && !mayAnswerToo:
		w.wrong("twice", id, "in the answer, and delivered %d, published %d, called %d times", delivered, published, called)
	case delivered > 0 && published > 0 && delivered+min(published, 1) > w.deliveries(id)+o.mayRepeatDelivery[id]:
		w.wrong("twice", id, "delivered, and published as undelivered for %s", o.published[id][0].Reason)
	case called > 0 && published > 0 &&
		(!o.mayPublishCalled[id] || o.published[id][0].Reason != job.ReasonOutboundCallUnconfirmed):
		w.wrong("twice", id, "the customer was called, and it was published as undelivered for %s", o.published[id][0].Reason)
	case called > 0 && delivered > o.mayRepeatDelivery[id]:
		w.wrong("twice", id, "delivered, and the customer was called")
	}

	for _, line := range o.heard[id] {
		if !slices.Contains(o.progress[id], line) {
			w.wrong("lost", id, "the tool knows that its line %d was delivered, and the call got %v", line, o.progress[id])
		}
	}

	if !ok {
		w.wrong("record", id, "it has none")
		return
	}
	w.judgeStarts(id, r)
	want := map[job.State]bool{
		job.StateDelivered:   delivered+called > 0 || answered,
		job.StateUndelivered: published > 0 || silent,
		job.StateCancelled:   silent,
	}
	if !want[r.State] {
		w.wrong("record", id, "delivered %d, published %d, called %d times, and the record is %s",
			delivered, published, called, show(r))
	}
	if steps := r.Steps(); len(steps) == 0 || !slices.Contains(job.Ends(r.State), steps[len(steps)-1].Kind) {
		w.wrong("record", id, "its history contradicts it: %+v, and the record is %s", steps, show(r))
	}
	if delivered > 0 && o.deliveredAt[id].After(r.Deadline.Add(w.given.skew())) {
		w.wrong("late", id, "delivered at %s, and the deadline was %s", o.deliveredAt[id], r.Deadline)
	}
	for _, p := range o.delivered[id] {
		if r.Result != nil && !p.delivers(r, records) && !(o.refused[id] && p.replacesAction(*r.Result)) {
			w.wrong("record", id, "delivered was %+v, and the record is %s", p, show(r))
		}
	}
	for _, u := range o.published[id] {
		w.judgeParking(id, u)
		if r.Result == nil || u.Content != r.Result.Content || u.Status != r.Result.Status || u.CustomerNumber == "" {
			w.wrong("record", id, "published was %+v, and the record is %s", u, show(r))
		}
		if u.Reason == job.ReasonCallGone && !o.gone[u.CallID] {
			w.wrong("twice", id, "published because the call had ended, and it had not")
		}
		if u.Reason == job.ReasonRefused && !o.refused[id] {
			w.wrong("record", id, "published because the call had refused it, and it had not")
		}
	}
	for _, c := range o.called[id] {
		if !o.gone[r.CallID] {
			w.wrong("twice", id, "the customer was called, and was still in the call")
		}
		if r.Result == nil || !slices.Contains(w.resultsIn(c), id) || c.CustomerNumber == "" ||
			!strings.Contains(c.Variables["ringback_result"], "\n"+r.Result.Content+"\n") {
			w.wrong("record", id, "the outbound call was %+v, and the record is %s", c, show(r))
		}
	}
	// An external system that got 200 for its result must find this result in the record.
	if completed := o.completed[id]; len(completed) > 1 ||
		len(completed) == 1 && (r.Result == nil || completed[0] != result(r.Result.Content)) {
		w.wrong("record", id, "%d external results were accepted, and the record is %s; accepted: %q",
			len(completed), show(r), completed)
	}
	if o.withdrawn[id] && (!withdrawn || delivered+published+called > 0) {
		w.wrong("answer", id,
			"it was said to be cancelled; delivered %d, published %d, called %d times, and the record is %s",
			delivered, published, called, show(r))
	}
	if o.cancelled[id] && (r.Result == nil || r.Result.Content != cancelledText) {
		w.wrong("record", id, "it was cancelled, and the record is %s", show(r))
	}
}

// posts returns how often the webhook of a job was posted.
func (w *world) posts(id string) int {
	n := 0
	for _, h := range w.scenario {
		for _, c := range h.calls {
			if h.job(c) == id {
				n += len(h.posted())
			}
		}
	}
	if w.observed.repeated[id] {
		n++
	}
	return n
}

// judgeStarts checks how often a tool was started since it was resumed last.
func (w *world) judgeStarts(id string, r job.Record) {
	starts := make(map[int]int)
	for _, s := range w.observed.starts[id] {
		starts[s.resumes]++
	}
	if most := w.attempts[r.Tool]; r.Exhausted && r.Attempt < most && r.Updated.Add(15*time.Minute).Before(r.Deadline) {
		w.wrong("started", id, "it failed for good after %d of %d attempts", r.Attempt, most)
	}
	for resumes, n := range starts {
		if most := w.attempts[r.Tool]; n > most {
			w.wrong("started", id, "%d times after it was resumed %d times; %d times are allowed", n, resumes, most)
		}
		if resumes > 0 && starts[resumes-1] == 0 {
			w.wrong("started", id, "its run %d was skipped", resumes-1)
		}
	}
}

// inCall reports whether a job belongs to a call.
func (w *world) inCall(call, id string) bool {
	return slices.ContainsFunc(w.scenario, func(h webhook) bool {
		return h.call == call && slices.ContainsFunc(h.calls, func(c toolCall) bool { return h.job(c) == id })
	})
}

// deliveries returns how often the result of a job may be delivered, or given up.
func (w *world) deliveries(id string) int {
	for _, h := range w.scenario {
		if h.again && w.inCall(h.call, id) {
			return len(h.posted())
		}
	}
	return 1
}

// replaced reports whether a later tool call that was accepted replaces a job. A tool
// call whose webhook was repeated may be later than in the scenario, and so may one that was received with
// another clock.
func (w *world) replaced(id string) bool {
	o, after := &w.observed, false
	for _, h := range w.scenario {
		for _, c := range h.calls {
			other := h.job(c)
			later := after || (o.repeated[other] || w.given.skew() > 0) && other != id
			tool, _ := w.given.tools.Lookup(c.tool)
			replaces := w.inCall(h.call, id) && tool != nil && tool.Repeat == asynctool.Replace
			accepted := o.accepted[other] || len(o.delivered[other])+len(o.published[other]) > 0
			if later && replaces && accepted {
				return true
			}
			after = after || other == id
		}
	}
	return false
}

// withdraws reports whether a tool call of the scenario cancels a job.
func (w *world) withdraws(id string) bool {
	return slices.ContainsFunc(w.scenario, func(h webhook) bool {
		return slices.ContainsFunc(h.calls, func(c toolCall) bool {
			return c.withdraws != "" && w.jobOf(h, c.withdraws) == id
		})
	})
}

// endsFromOutside reports whether an operator or an external system ends a job in the scenario.
func (w *world) endsFromOutside(id string) bool {
	return slices.ContainsFunc(w.scenario, func(h webhook) bool {
		return slices.ContainsFunc(h.calls, func(c toolCall) bool {
			return (c.cancelled > 0 || len(c.posters) > 0) && h.job(c) == id
		})
	})
}

func show(r job.Record) string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// delivers reports whether a part of a message delivers a record's result.
func (p part) delivers(r job.Record, records map[string]job.Record) bool {
	result := *r.Result
	has := func(text string) bool {
		return strings.Contains(text, "status="+string(result.Status)) && strings.Contains(text, "\n"+result.Content+"\n")
	}
	switch m := p.message.(type) {
	case nil:
		return has(p.text)
	case vapi.AddMessage:
		return result.Delivery != policy.DeliverySay && m.Silent == silent(p.with, records) && has(m.Content)
	case vapi.AppendContext:
		kind := vapi.Commentary
		if result.Delivery == policy.DeliverySay {
			kind = vapi.Instructions
		}
		if silent(p.with, records) {
			kind = vapi.Thinking
		}
		return result.Delivery != policy.DeliveryControl && m.Kind == kind && has(m.Content)
	case vapi.Say:
		return result.Delivery == policy.DeliverySay && m.Content == result.Content
	case vapi.Transfer:
		if m.Content == "" && p.apart { // its text was delivered before
			m.Content, m.TransferPlan = result.Content, nil
		}
		b, err := json.Marshal(m)
		return err == nil && result.Delivery == policy.DeliveryControl && bytes.Equal(b, result.Control)
	default:
		b, err := json.Marshal(m)
		return err == nil && result.Delivery == policy.DeliveryControl && bytes.Equal(b, result.Control)
	}
}

// silent reports whether all results in a message are silent.
func silent(ids []string, records map[string]job.Record) bool {
	return !slices.ContainsFunc(ids, func(id string) bool {
		other := records[id].Result
		return other == nil || other.Delivery != policy.DeliverySilent
	})
}

// replacesAction reports whether a part of a message is the text of an action that was not carried out.
func (p part) replacesAction(result job.Result) bool {
	m, ok := p.message.(vapi.AddMessage)
	return ok && result.Delivery == policy.DeliveryControl && !m.Silent &&
		strings.Contains(m.Content, "status=error") && strings.Contains(m.Content, "\n"+result.Content+"\n")
}

// judgeDeadLetters checks that the dead-letter queues contain what belongs there, and
// nothing else.
func (w *world) judgeDeadLetters(records map[string]job.Record) {
	dead := make(map[string]int)
	for _, body := range w.DeadJobs.Bodies() {
		dead[jobIn(body)]++
	}
	for id, r := range records {
		want := 0
		if r.Exhausted {
			want = 1
		}
		dead[id] = max(dead[id], min(w.twins.deadOf(id), 1)) // only one of a message and its twin counts
		if dead[id] != want {
			w.wrong("dead letters", id, "it is there %d times; its record: %s", dead[id], show(r))
		}
		delete(dead, id)
	}
	for id, n := range dead {
		if !strings.HasPrefix(id, "poison") || n != 1 {
			w.wrong("dead letters", id, "it is there %d times", n)
		}
	}
	for _, body := range w.DeadResults.Bodies() {
		if id := jobIn(body); !strings.HasPrefix(id, "poison") {
			w.wrong("dead letters", id, "its outcome is there")
		}
	}
}

// outcome describes the ending of a job.
func (w *world) outcome(id string) string {
	var text string
	var r job.Record
	for _, other := range w.records() {
		if other.ID == id {
			r = other
		}
	}
	o := &w.observed
	switch {
	case len(o.delivered[id]) > 0 && r.Result != nil:
		text = "delivered " + string(r.Result.Status)
	case len(o.answered[id]) > 0 && r.Result != nil:
		text = "in the answer " + string(r.Result.Status)
	case len(o.called[id]) > 0:
		text = "outbound call"
	case len(o.published[id]) > 0:
		text = "published " + string(o.published[id][0].Reason)
	case r.State == job.StateCancelled:
		text = "cancelled"
	case r.State == job.StateUndelivered && strings.HasPrefix(r.Reason, "dropped"):
		text = "dropped"
	default:
		return "nothing"
	}
	for _, body := range w.DeadJobs.Bodies() {
		if jobIn(body) == id {
			text += ", dead letter"
		}
	}
	return text
}

// unexpected returns what differs from the scenario, which is only useful without
// faults.
func (w *world) unexpected() []violation {
	var wrong []violation
	for _, h := range w.scenario {
		for _, c := range h.calls {
			id := h.job(c)
			if c.answered() {
				continue
			}
			if got := w.outcome(id); !slices.Contains(strings.Split(c.want, "|"), got) {
				wrong = append(wrong, violation{"record", id, fmt.Sprintf("ended with %q, want %q", got, c.want)})
			} else if w.withdraws(id) && w.observed.withdrawn[id] != (got == "cancelled") {
				wrong = append(wrong, violation{"answer", id, "it ended with " + got + ", and the answer says otherwise"})
			}
			if n := len(w.observed.delivered[id]); h.again && n != w.deliveries(id) {
				wrong = append(wrong, violation{"lost", id, fmt.Sprintf("delivered %d times", n)})
			}
		}
	}
	// Without faults, no post waits longer than the maximum of the backoff, and a call
	// that does not answer is tried as often as promised.
	revived := make(map[string]bool) // parked results, which wait for the customer
	for _, r := range w.records() {
		revived[r.ID] = r.NextCallID != "" || r.NoNextCall
	}
	for _, id := range slices.Sorted(maps.Keys(w.observed.posted)) {
		posts := w.observed.posted[id]
		if revived[id] || w.deliveries(id) > 1 {
			continue
		}
		for i := 1; i < len(posts); i++ {
			if gap := posts[i].Sub(posts[i-1]); gap > batch.MaxBackoff+3*time.Second {
				wrong = append(wrong, violation{"lost", id, fmt.Sprintf("%s passed between two posts", gap)})
			}
		}
		if len(posts) > callback.MaxPosts {
			wrong = append(wrong, violation{"twice", id, fmt.Sprintf("posted %d times", len(posts))})
		}
	}
	return wrong
}
