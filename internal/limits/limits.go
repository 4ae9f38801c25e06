// Package limits computes how long the functions may run, and the queues' timeouts, from
// the timeouts and attempts of the tools. The local run and the deployment both use it,
// so that they agree.
package limits

import (
	"time"

	"github.com/ringback/ringback/asynctool"
)

const (
	// wrapUp is the time that the process function needs beside its longest tool, to
	// claim a job, and to store and send its outcome.
	wrapUp = 30 * time.Second

	// margin is how much longer than its function's timeout a message stays hidden.
	// If it returned earlier, its job would still be leased.
	margin = 30 * time.Second

	// spareReceives is how often a job may be received without an attempt, because
	// another message owns it or the table does not answer. With their backoff, so
	// many receives outlast an outage of some minutes.
	spareReceives = 16
)

// Limits are the limits of the two functions that receive from queues.
type Limits struct {
	ProcessTimeout   time.Duration // of the process function
	JobsVisibility   time.Duration // of the jobs queue
	JobsMaxReceives  int           // before a job moves to the dead-letter queue
	CallbackTimeout  time.Duration // of the callback function
	ResultVisibility time.Duration // of the results queue
	// ResultMaxReceives exceeds the callback function's own limit. It can therefore
	// send an undelivered event before the queue gives up the message.
	ResultMaxReceives int
}

// Of returns the limits for a set of tools.
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
