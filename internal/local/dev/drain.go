package dev

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// maxDrain is how long an interrupted run finishes what it has accepted.
const maxDrain = 30 * time.Second

// maxPending is how many pending tool calls are named.
const maxPending = 4

// drain finishes what was accepted, except jobs that wait, which may take days.
func (r *run) drain(hurry context.Context, stop func(), stopped <-chan struct{}) error {
	most := cmp.Or(r.cfg.Drain, maxDrain)
	bounded, cancel := context.WithTimeout(hurry, most)
	defer cancel()
	r.page.Close()
	for _, s := range r.servers {
		if s.Handler != nil && s.Addr == r.gateway.Addr().String() {
			s.Shutdown(bounded)
		}
	}
	if pending := r.pending(); pending != nil {
		r.terminal.say("\nNo more webhooks are accepted. Waiting at most %s for:", span(most))
		for _, p := range pending {
			r.terminal.say("- %s", p)
		}
		r.terminal.say("Press Ctrl-C again to stop now.\n")
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for r.unfinished() > 0 {
		select {
		case <-tick.C:
			continue
		case <-bounded.Done():
		}
		lost := strings.Join(r.pending(), "; ")
		stop()
		if hurry.Err() == nil {
			return fmt.Errorf("stopped after %s, and lost, as the local run keeps nothing: %s", span(most), lost)
		}
		return fmt.Errorf("stopped, and lost, as the local run keeps nothing: %s", lost)
	}
	stop()
	<-stopped
	left := r.left()
	if left == "" {
		r.terminal.say("Everything that was accepted is finished.")
		return nil
	}
	r.terminal.say("Everything that could be done is finished. Lost, as the local run keeps nothing: %s.", left)
	return nil
}

// unfinished returns the number of messages that can be handled now, or that are being handled. The message of a
// job that failed for good does not count: its result is delivered, and only an operator could need it.
func (r *run) unfinished() int {
	records := make(map[string]job.Record)
	for _, record := range r.pipeline.Records.Records() {
		records[record.ID] = record
	}
	n := r.pipeline.Busy()
	for _, body := range append(r.pipeline.Jobs.Bodies(), r.pipeline.LongJobs.Bodies()...) {
		var record job.Record
		switch m, _ := job.DecodeMessage(body); m := m.(type) {
		case job.Job:
			record = records[m.ID]
		case job.WakeUp:
			record = records[m.JobID]
		}
		if record.Exhausted && settled(record) {
			n--
		}
	}
	return n
}

// pending describes what unfinished counts, a few tool calls at most. Nil means that there is nothing.
func (r *run) pending() (texts []string) {
	n := r.unfinished()
	if n <= 0 {
		return nil
	}
	for _, record := range inOrder(r.pipeline.Records.Records()) {
		label := r.terminal.toolCallOf(record.ID, record.Tool).label
		switch {
		case record.State == job.StateRunning && record.Owner != "":
			texts = append(texts, label+runningFor(record))
		case record.State == job.StateRunning:
			texts = append(texts, label+", which runs again soon")
		case record.State == job.StateDone:
			texts = append(texts, label+", whose result is not delivered yet")
		}
	}
	switch more := len(texts) - maxPending; {
	case len(texts) == 0:
		return []string{count(n, "message", "messages")}
	case more > 0:
		texts = append(texts[:maxPending], fmt.Sprintf("%d more", more))
	}
	return texts
}

func runningFor(record job.Record) string {
	since := time.Since(record.Updated)
	if since < time.Second {
		return ", which has just started"
	}
	return ", running for " + span(since.Truncate(time.Second))
}

// left counts the jobs that wait and the parked results. It returns an empty string if
// there are none.
func (r *run) left() string {
	waiting, parked := 0, 0
	for _, record := range r.pipeline.Records.Records() {
		switch {
		case record.State.Active():
			waiting++
		case record.State == job.StateParked:
			parked++
		}
	}
	var parts []string
	if waiting > 0 {
		parts = append(parts, count(waiting, "waiting job", "waiting jobs"))
	}
	if parked > 0 {
		parts = append(parts, count(parked, "result for a next call", "results for next calls"))
	}
	return strings.Join(parts, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
