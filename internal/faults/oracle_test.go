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
	"github.com/ringback/ringback/vapi"
)

// violation is a broken promise. What is one of "lost" (nobody was told, and
// nobody was told of that; or something waits for ever), "twice" (told,
// announced or called back more than once, or two of these), "record" (it does
// not say what the world saw), "late" (told after the deadline), "order" (of the
// progress lines), "memory" (a tool did not find what it had left), "dead
// letters" (one is missing, or one too many), and "started" (the tool was, more
// often than it may be, or two times at once).
type violation struct{ what, job, detail string }

func (v violation) String() string { return fmt.Sprintf("%s: %s %s", v.what, v.job, v.detail) }

// violations looks at the whole when nothing is on its way any more.
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
			w.wrong("record", id, "nobody called for this job")
		}
	}
	if n := w.pending(); n > 0 {
		w.wrong("lost", "", "%d schedules are left", n)
	}
	w.judgeDeadLetters(records)
	return o.wrong
}

// ids are the jobs of the scenario.
func (w *world) ids() []string {
	var ids []string
	for _, h := range w.scenario {
		for _, c := range h.calls {
			if !c.answered() {
				ids = append(ids, job.ID(h.call, c.id))
			}
		}
	}
	return ids
}

func (w *world) judge(id string, records map[string]job.Record) {
	o := &w.observed
	told, announced, called := len(o.told[id]), len(o.announced[id]), len(o.called[id])
	if !o.accepted[id] && told+announced+called == 0 {
		return // nobody was promised anything
	}
	r, ok := records[id]
	callID, _, _ := strings.Cut(id, "/")
	silent := r.State == job.StateCancelled && w.replaced(id) ||
		r.State == job.StateUndelivered && r.Policy.AfterCall == job.AfterCallDrop && (o.gone[callID] || r.Updated.After(r.Deadline))
	switch {
	case told+announced+called == 0 && !silent:
		w.wrong("lost", id, "it was accepted, and neither told nor announced; its record: %s", show(r))
	case r.State.Active():
		w.wrong("lost", id, "it goes on for ever; its record: %s", show(r))
	case told > 1 && !o.mayRepeatTold[id]:
		w.wrong("twice", id, "told %d times", told)
	case announced > 1 && !o.mayRepeatAnnounced[id]:
		w.wrong("twice", id, "announced %d times", announced)
	case called > 1:
		w.wrong("twice", id, "the customer was called back %d times", called)
	case told > 0 && announced > 0 && !o.mayRepeatTold[id]:
		w.wrong("twice", id, "told, and announced as undelivered for %s", o.announced[id][0].Reason)
	case called > 0 && announced > 0 && (!o.mayAnnounceCalled[id] || o.announced[id][0].Reason != job.ReasonOutboundCallUnconfirmed):
		w.wrong("twice", id, "called back, and announced as undelivered for %s", o.announced[id][0].Reason)
	case called > 0 && told > 0 && !o.mayRepeatTold[id]:
		w.wrong("twice", id, "told, and called back")
	}

	if !ok {
		w.wrong("record", id, "it has none")
		return
	}
	w.judgeStarts(id, r)
	want := map[job.State]bool{job.StateDelivered: told+called > 0, job.StateUndelivered: announced > 0 || silent, job.StateCancelled: silent}
	if unmarked := len(w.judged) > 0 && w.judged[0].unmarked; !want[r.State] && !(unmarked && r.State == job.StateDone) {
		w.wrong("record", id, "told %d, announced %d, called back %d times, and the record says: %s", told, announced, called, show(r))
	}
	if told > 0 && o.toldAt[id].After(r.Deadline) {
		w.wrong("late", id, "told at %s, and the deadline was %s", o.toldAt[id], r.Deadline)
	}
	for _, p := range o.told[id] {
		if r.Result != nil && !p.tells(r, records) {
			w.wrong("record", id, "told was something else than the record says: %s; told was %+v", show(r), p)
		}
	}
	for _, u := range o.announced[id] {
		if r.Result == nil || u.Content != r.Result.Content || u.Status != r.Result.Status || u.CustomerNumber == "" {
			w.wrong("record", id, "announced was %+v, and the record says: %s", u, show(r))
		}
		if u.Reason == job.ReasonCallGone && !o.gone[u.CallID] {
			w.wrong("twice", id, "announced as gone, and it was not")
		}
	}
	for _, c := range o.called[id] {
		if r.Result == nil || c.Variables["ringback_result"] != r.Result.Content || c.CustomerNumber == "" {
			w.wrong("record", id, "the customer was called back with %+v, and the record says: %s", c, show(r))
		}
	}
	// Who was told that its result counts must find it to be the one.
	if completed := o.completed[id]; len(completed) > 1 || len(completed) == 1 && (r.Result == nil || completed[0] != result(r.Result.Content)) {
		w.wrong("record", id, "%d results were accepted from outside, and the record says: %s; accepted: %q", len(completed), show(r), completed)
	}
	if o.cancelled[id] && (r.Result == nil || r.Result.Content != cancelledText) {
		w.wrong("record", id, "it was cancelled, and the record says: %s", show(r))
	}
}

// judgeStarts looks how often a tool was started, since it last went on.
func (w *world) judgeStarts(id string, r job.Record) {
	starts := make(map[int]int)
	for _, s := range w.observed.starts[id] {
		starts[s.resumes]++
	}
	for resumes, n := range starts {
		if most := w.attempts[r.Tool]; n > most {
			w.wrong("started", id, "%d times after it went on %d times, and it may be %d times", n, resumes, most)
		}
		if resumes > 0 && starts[resumes-1] == 0 {
			w.wrong("started", id, "its run %d was left out", resumes-1)
		}
	}
}

// replaced is whether a later tool call that was accepted takes a job's place.
// One whose webhook had to be repeated came in later than it was meant to.
func (w *world) replaced(id string) bool {
	own := false
	for _, h := range w.scenario {
		for _, c := range h.calls {
			other := job.ID(h.call, c.id)
			if tool, _ := tools.Lookup(c.tool); (own || w.observed.repeated[other] && other != id) && strings.HasPrefix(id, h.call+"/") && tool != nil && tool.Repeat == asynctool.Replace &&
				(w.observed.accepted[other] || len(w.observed.told[other])+len(w.observed.announced[other]) > 0) {
				return true
			}
			own = own || other == id
		}
	}
	return false
}

func show(r job.Record) string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tells is whether what was told is a record's result.
func (p part) tells(r job.Record, records map[string]job.Record) bool {
	result := *r.Result
	told := func(text string) bool {
		return strings.Contains(text, "status="+string(result.Status)) && strings.Contains(text, "\n"+result.Content+"\n")
	}
	switch m := p.message.(type) {
	case nil:
		return told(p.text)
	case vapi.AddMessage:
		silent := true // where all of them are
		for _, id := range p.with {
			other := records[id].Result
			silent = silent && other != nil && other.Delivery == job.DeliverySilent
		}
		return result.Delivery != job.DeliverySay && m.Silent == silent && told(m.Content)
	case vapi.Say:
		return result.Delivery == job.DeliverySay && m.Content == result.Content
	default:
		b, err := json.Marshal(m)
		return err == nil && result.Delivery == job.DeliveryControl && bytes.Equal(b, result.Control)
	}
}

// judgeDeadLetters looks whether the dead-letter queues hold what belongs there,
// and nothing else.
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

// outcome is what a job came to, in words.
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
	case len(o.told[id]) > 0 && r.Result != nil:
		text = "told " + string(r.Result.Status)
	case len(o.called[id]) > 0:
		text = "called back"
	case len(o.announced[id]) > 0:
		text = "announced " + string(o.announced[id][0].Reason)
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

// unexpected is what came out otherwise than the scenario says. It only makes
// sense without faults.
func (w *world) unexpected() []violation {
	var wrong []violation
	for _, h := range w.scenario {
		for _, c := range h.calls {
			id := job.ID(h.call, c.id)
			if c.answered() {
				continue
			}
			if got := w.outcome(id); !slices.Contains(strings.Split(c.want, "|"), got) {
				wrong = append(wrong, violation{"record", id, fmt.Sprintf("came to %q, want %q", got, c.want)})
			}
		}
	}
	// Without faults, nothing waits for longer than the backoff's cap, and a
	// call that does not answer is tried as often as is promised.
	revived := make(map[string]bool) // these had to wait for the customer
	for _, r := range w.records() {
		revived[r.ID] = r.NextCallID != ""
	}
	for _, id := range slices.Sorted(maps.Keys(w.observed.posted)) {
		posts := w.observed.posted[id]
		if revived[id] {
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
