package queue

import "time"

// DeadLetter is a message that was received from a dead-letter queue.
type DeadLetter struct {
	ID      string // of the message
	Receipt string // the handle of this receive

	Body, Group string
	Sent        time.Time // when the message was first sent
	// Receives is how often the message was received, on all queues together, this time included.
	Receives int

	// Source is the ARN of the queue that gave the message up. It is empty if another service sent the message.
	Source string

	// Attributes are those that the sender added. EventBridge Scheduler adds why it gave a message up: see
	// [DeadLetter.Scheduled]. Nil means none.
	Attributes map[string]string
}

// Attributes of a message that EventBridge Scheduler could not send to its queue (EventBridge Scheduler user guide,
// "Configuring a dead-letter queue for a schedule").
const (
	scheduleAttribute  = "SCHEDULE_ARN"
	targetAttribute    = "TARGET_ARN"
	errorAttribute     = "ERROR_CODE"
	truncatedAttribute = "IS_PAYLOAD_TRUNCATED"
)

// Scheduled reports whether EventBridge Scheduler gave the message up, and with which error.
func (d DeadLetter) Scheduled() (errorCode string, ok bool) {
	_, ok = d.Attributes[scheduleAttribute]
	return d.Attributes[errorAttribute], ok
}

// Truncated reports whether EventBridge Scheduler shortened the body. No message of a job is long enough for that.
func (d DeadLetter) Truncated() bool { return d.Attributes[truncatedAttribute] == "true" }

// From returns the ARN of the queue that the message was on, or was meant for. It is empty if that is unknown.
func (d DeadLetter) From() string {
	if d.Source != "" {
		return d.Source
	}
	return d.Attributes[targetAttribute]
}
