package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
)

// violation is a broken promise. What is one of "lost" (nobody was told, and
// nobody was told of that), "twice" (told or announced more than once, or
// both), "record" (it does not say what the world saw), "late" (told after the
// deadline), "dead letters" (one is missing, or one too many), and "started"
// (the tool was, more often than it may be, or two times at once).
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
	told, announced := len(o.told[id]), len(o.announced[id])
	if !o.accepted[id] && told+announced == 0 {
		return // nobody was promised anything
	}
	switch {
	case told+announced == 0:
		w.wrong("lost", id, "it was accepted, and neither told nor announced; its record: %s", show(records[id]))
	case told > 1 && !o.mayRepeatTold[id]:
		w.wrong("twice", id, "told %d times", told)
	case announced > 1 && !o.mayRepeatAnnounced[id]:
		w.wrong("twice", id, "announced %d times", announced)
	case told > 0 && announced > 0 && !o.mayRepeatTold[id]:
		w.wrong("twice", id, "told, and announced as undelivered for %s", o.announced[id][0].Why)
	}

	r, ok := records[id]
	if !ok {
		w.wrong("record", id, "it has none")
		return
	}
	if most := w.attempts[r.Tool]; len(o.starts[id]) > most {
		w.wrong("started", id, "%d times, and it may be %d times", len(o.starts[id]), most)
	}
	want := map[job.State]bool{job.Delivered: told > 0, job.Undelivered: announced > 0}
	if unmarked := len(w.outages) > 0 && w.outages[0].unmarked; !want[r.State] && !(unmarked && r.State == job.Done) {
		w.wrong("record", id, "told %d, announced %d times, and the record says: %s", told, announced, show(r))
	}
	if told > 0 && o.toldAt[id].After(r.Deadline) {
		w.wrong("late", id, "told at %s, and the deadline was %s", o.toldAt[id], r.Deadline)
	}
	for _, m := range o.told[id] {
		if r.Result != nil && !tells(m, *r.Result) {
			w.wrong("record", id, "told was something else than the record says: %s; told was %+v", show(r), m)
		}
	}
	for _, u := range o.announced[id] {
		if r.Result == nil || u.Content != r.Result.Content || u.Status != r.Result.Status || u.CustomerNumber == "" {
			w.wrong("record", id, "announced was %+v, and the record says: %s", u, show(r))
		}
		if hook := w.webhook(r.ID[:strings.IndexByte(r.ID, '/')]); u.Why == job.CallGone && !slices.Contains(hook.answers, 404) {
			w.wrong("twice", id, "announced as gone, and it was not")
		}
	}
}

func show(r job.Record) string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tells is whether a control message tells a result.
func tells(m vapi.ControlMessage, r job.Result) bool {
	switch m := m.(type) {
	case vapi.AddMessage:
		return r.Delivery != job.Say && m.Silent == (r.Delivery == job.Silent) &&
			strings.Contains(m.Content, "status="+string(r.Status)) && strings.Contains(m.Content, "\n"+r.Content+"\n")
	case vapi.Say:
		return r.Delivery == job.Say && m.Content == r.Content
	default:
		b, err := json.Marshal(m)
		return err == nil && r.Delivery == job.Control && bytes.Equal(b, r.Control)
	}
}

// judgeDeadLetters looks whether the dead-letter queues hold what belongs there,
// and nothing else.
func (w *world) judgeDeadLetters(records map[string]job.Record) {
	dead := make(map[string]int)
	for _, body := range w.deadJobs.Bodies() {
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
	for _, body := range w.deadResults.Bodies() {
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
	case len(o.announced[id]) > 0:
		text = "announced " + string(o.announced[id][0].Why)
	default:
		return "nothing"
	}
	for _, body := range w.deadJobs.Bodies() {
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
			if got := w.outcome(id); got != c.want {
				wrong = append(wrong, violation{"record", id, fmt.Sprintf("came to %q, want %q", got, c.want)})
			}
		}
	}
	// Without faults, nothing waits for longer than the backoff's cap, and a
	// call that does not answer is tried as often as is promised.
	for _, id := range slices.Sorted(maps.Keys(w.observed.posted)) {
		posts := w.observed.posted[id]
		for i := 1; i < len(posts); i++ {
			if gap := posts[i].Sub(posts[i-1]); gap > batch.MaxBackoff+time.Second {
				wrong = append(wrong, violation{"lost", id, fmt.Sprintf("%s passed between two posts", gap)})
			}
		}
		if len(posts) > callback.MaxPosts {
			wrong = append(wrong, violation{"twice", id, fmt.Sprintf("posted %d times", len(posts))})
		}
	}
	return wrong
}
