package memqueue

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Saved is a message of a queue that another process continues.
type Saved struct {
	Body, Group                  string
	Sent, FirstReceived, Visible time.Time
	Receives                     int
	Source                       string // the ARN of the queue that gave the message up
}

// Save returns the messages on the queue, in the order in which they were sent. Those that were received stay hidden
// as long as before.
func (q *Queue) Save() []Saved {
	q.mu.Lock()
	defer q.mu.Unlock()
	messages := slices.Concat(q.ready.messages, q.hidden.messages)
	slices.SortFunc(messages, func(a, b *message) int { return a.place - b.place })
	saved := make([]Saved, len(messages))
	for i, m := range messages {
		saved[i] = Saved{m.body, m.group, m.sent, m.firstReceived, m.visible, m.receives, m.source}
	}
	return saved
}

// Restore adds saved messages to the queue.
func (q *Queue) Restore(saved []Saved) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range saved {
		q.serial++
		q.hidden.add(&message{
			id: fmt.Sprintf("%s-%d", q.cfg.Name, q.serial), place: q.serial, body: s.Body, group: s.Group, sent: s.Sent,
			firstReceived: s.FirstReceived, visible: s.Visible, receives: s.Receives,
			source: s.Source,
		})
	}
	q.signal()
}

// SavedSchedule is a schedule that another process continues.
type SavedSchedule struct {
	Name, Body string
	At         time.Time
	Other      bool // it sends to another queue than the scheduler's own: see [Scheduler.To]
}

// Save returns the schedules. It is called after Close.
func (s *Scheduler) Save() []SavedSchedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	var saved []SavedSchedule
	for name, e := range s.kept {
		saved = append(saved, SavedSchedule{Name: name, Body: e.body, At: e.at, Other: e.queue != s.queue})
	}
	slices.SortFunc(saved, func(a, b SavedSchedule) int { return strings.Compare(a.Name, b.Name) })
	return saved
}
