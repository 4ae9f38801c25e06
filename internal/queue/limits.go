package queue

import "time"

const (
	// processWrapUp is the time that the process function needs beside its longest
	// tool, to claim a job, and to store and send its outcome.
	processWrapUp = 30 * time.Second

	// visibilityMargin is how much longer than its function's timeout a message stays
	// hidden. If it returned earlier, its job would still be leased.
	visibilityMargin = 30 * time.Second

	// spareReceives is how often a job may be received without an attempt, because
	// another message owns it or the table does not answer. With their backoff, so
	// many receives outlast an outage of some minutes.
	spareReceives = 16
)

// Limits bound how long the functions behind the queues may run, and how the queues
// treat their messages. They follow from the tools' own timeouts and attempts.
type Limits struct {
	ProcessTimeout   time.Duration // of the process function
	JobsVisibility   time.Duration // of the jobs queue
	JobsMaxReceives  int           // before a job moves to the dead-letter queue
	CallbackTimeout  time.Duration // of the callback function
	ResultVisibility time.Duration // of the results queue
	// ResultMaxReceives exceeds the callback function's own limit. It can therefore
	// send an undelivered event before the message moves to the dead-letter queue.
	ResultMaxReceives int
}

// LimitsFor returns the limits for tools with at most this timeout and this number of
// attempts. The local run and the deployment both use it, so that they agree.
func LimitsFor(maxTimeout time.Duration, maxAttempts int) Limits {
	l := Limits{
		ProcessTimeout:    maxTimeout + processWrapUp,
		JobsMaxReceives:   maxAttempts + spareReceives,
		CallbackTimeout:   time.Minute,
		ResultMaxReceives: 30,
	}
	l.JobsVisibility = l.ProcessTimeout + visibilityMargin
	l.ResultVisibility = l.CallbackTimeout + visibilityMargin
	return l
}
