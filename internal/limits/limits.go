// Package limits says how long the functions may run and how the queues behave
// towards them. All of it follows from the tools' own timeouts and attempts, so
// that the local run and the deployment agree.
package limits

import (
	"time"

	"github.com/ringback/ringback/asynctool"
)

const (
	// wrapUp is what the process function needs beside its longest tool: to
	// claim a job, to store its outcome and to send it.
	wrapUp = 30 * time.Second

	// margin is how much longer than its function's timeout a message stays
	// hidden. A message that came back earlier would only find its job held.
	margin = 30 * time.Second

	// spareReceives is how often a job may be received without an attempt:
	// while another message holds it, and while the table does not answer,
	// which so many receives with their backoff outlast for some minutes.
	spareReceives = 16
)

// Limits are the limits of the two functions that work from queues.
type Limits struct {
	ProcessTimeout   time.Duration // of the process function
	JobsVisibility   time.Duration // of the jobs queue
	JobsMaxReceives  int           // before a job moves to the dead-letter queue
	CallbackTimeout  time.Duration // of the callback function
	ResultVisibility time.Duration // of the results queue
	// ResultMaxReceives is more than the callback function's own limit, so
	// that what it gives up is announced before the queue gives it up.
	ResultMaxReceives int
}

// Of gives the limits for a set of tools.
func Of(tools *asynctool.Set) Limits {
	l := Limits{
		ProcessTimeout:    tools.MaxTimeout() + wrapUp,
		JobsMaxReceives:   tools.MaxAttempts() + spareReceives,
		CallbackTimeout:   time.Minute,
		ResultMaxReceives: 30,
	}
	l.JobsVisibility = l.ProcessTimeout + margin
	l.ResultVisibility = l.CallbackTimeout + margin
	return l
}
