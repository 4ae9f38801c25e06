package job

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// WakeUp is the message that resumes a waiting job. It is small, because the job is
// stored in its record.
type WakeUp struct {
	JobID string
	// Number counts the job's wake-ups from 1 on: see [Record].
	Number int
}

// Check is the message that makes the process function look at a job. If the job has a
// result that was never sent, the function sends it. If the job has ended, the function
// deletes the schedule of its wake-up. If the job's wake-up is overdue, the function
// resumes the job. Otherwise it does nothing, so a check does no harm at any time.
type Check struct{ JobID string }

// CheckDelay is the delay of a check that a function sends before it stores a result
// without a queue message of its own. If the function dies before it has sent the result,
// the check makes sure that it is sent. The delay is longer than such a function usually
// lives: the ack function has 15 seconds, or up to 30 with quick tools. A check that comes
// sooner sends a copy, which does no harm.
const CheckDelay = 30 * time.Second

// Sweep is the message that makes the process function look for jobs that wait in vain, and
// check them. There is one each day.
type Sweep struct {
	// From is where the sweep continues, as the table says. Empty means at the beginning.
	From string
}

// Arrival is the message that reports the beginning of a call, for results that are
// parked for the customer's next call.
type Arrival struct {
	Call     Call
	CallEnds time.Time // until when the call can take parked results
}

// arrivalLife is how long a call can take parked results. They are delivered when it begins, so a
// longer call does not keep a result from the call after it.
const arrivalLife = time.Hour

// NewArrival returns the arrival of a call that was seen at a time, and lasts until callEnds at most.
func NewArrival(c Call, seen, callEnds time.Time) Arrival {
	if end := seen.Add(arrivalLife); end.Before(callEnds) {
		callEnds = end
	}
	return Arrival{Call: c, CallEnds: callEnds}
}

// Post is the message that passes a post to a completion URL on to the tool, which reads it itself. Only the
// token of the URL was verified.
type Post struct {
	JobID    string
	Header   http.Header
	Body     []byte
	Received time.Time
}

// envelope is the JSON of all messages on the jobs queue other than jobs. A job has
// no kind.
type envelope struct {
	Version  int       `json:"version"`
	Kind     string    `json:"kind"`
	JobID    string    `json:"jobId,omitempty"`
	Wake     int       `json:"wake,omitempty"`
	Call     *Call     `json:"call,omitempty"`
	CallEnds time.Time `json:"callEnds,omitzero"`
	From     string    `json:"from,omitempty"`

	Header   http.Header `json:"header,omitzero"`
	Body     []byte      `json:"body,omitzero"`
	Received time.Time   `json:"received,omitzero"`
}

const (
	kindWake    = "wake"
	kindArrival = "arrival"
	kindCheck   = "check"
	kindSweep   = "sweep"
	kindPost    = "post"
)

// Encode returns the wake-up as a queue message.
func (w WakeUp) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindWake, JobID: w.JobID, Wake: w.Number})
}

// Encode returns the check as a queue message.
func (c Check) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindCheck, JobID: c.JobID})
}

// Encode returns the sweep as a queue message.
func (s Sweep) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindSweep, From: s.From})
}

// Encode returns the arrival as a queue message.
func (a Arrival) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindArrival, Call: &a.Call, CallEnds: a.CallEnds})
}

// Encode returns the post as a queue message.
func (p Post) Encode() (string, error) {
	return encode(envelope{
		Version: version, Kind: kindPost, JobID: p.JobID, Header: p.Header, Body: p.Body, Received: p.Received,
	})
}

// DecodeMessage reads a message of the jobs queue. It returns a [Job], a [WakeUp], a
// [Check], a [Sweep], an [Arrival] or a [Post]. Its error wraps [ErrUnreadable].
func DecodeMessage(message string) (any, error) {
	var kind struct {
		Kind json.RawMessage `json:"kind"`
	}
	// Decode checks everything that is no JSON object with a kind.
	if json.Unmarshal([]byte(message), &kind) != nil || kind.Kind == nil {
		return Decode(message)
	}
	var e envelope
	if err := json.Unmarshal([]byte(message), &e); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnreadable, withoutValues(err))
	}
	switch {
	case e.Version != version:
		return nil, fmt.Errorf(
			"%w: a message of version %d; this program reads version %d", ErrUnreadable, e.Version, version,
		)
	case e.Kind == kindWake && e.JobID != "" && e.Wake > 0:
		return WakeUp{JobID: e.JobID, Number: e.Wake}, nil
	case e.Kind == kindCheck && e.JobID != "":
		return Check{JobID: e.JobID}, nil
	case e.Kind == kindSweep:
		return Sweep{From: e.From}, nil
	case e.Kind == kindArrival && e.Call != nil && e.Call.ID != "" && !e.CallEnds.IsZero():
		return Arrival{Call: *e.Call, CallEnds: e.CallEnds}, nil
	case e.Kind == kindPost && e.JobID != "" && !e.Received.IsZero():
		return Post{JobID: e.JobID, Header: e.Header, Body: e.Body, Received: e.Received}, nil
	}
	return nil, fmt.Errorf("%w: unknown kind %.40q of message, or one without its members", ErrUnreadable, e.Kind)
}
