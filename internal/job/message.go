package job

import (
	"encoding/json"
	"fmt"
	"time"
)

// Wake is the message that has a waiting job go on. It is small, as the record
// knows the job.
type WakeUp struct {
	JobID string
	// Number is which of the job's wakes it is, from 1 on: see [Record.Wake].
	Number int
}

// Arrival is the message that says that a call has begun, for results that
// were kept for the same customer's next call.
type Arrival struct {
	Call     Call
	CallEnds time.Time // as [Job.CallEnds]
}

// envelope is what the messages beside the jobs have in common with them. A
// job has no kind.
type envelope struct {
	Version  int       `json:"version"`
	Kind     string    `json:"kind"`
	JobID    string    `json:"jobId,omitempty"`
	Wake     int       `json:"wake,omitempty"`
	Call     *Call     `json:"call,omitempty"`
	CallEnds time.Time `json:"callEnds,omitzero"`
}

const (
	kindWake    = "wake"
	kindArrival = "arrival"
)

// Encode is the wake as a queue message.
func (w WakeUp) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindWake, JobID: w.JobID, Wake: w.Number})
}

// Encode is the arrival as a queue message.
func (a Arrival) Encode() (string, error) {
	return encode(envelope{Version: version, Kind: kindArrival, Call: &a.Call, CallEnds: a.CallEnds})
}

// DecodeMessage reads a message of the jobs queue: it gives a [Job], a [Wake]
// or an [Arrival]. Its error wraps [ErrUnreadable].
func DecodeMessage(message string) (any, error) {
	var kind struct {
		Kind json.RawMessage `json:"kind"`
	}
	// What is no JSON object, or has no kind, is for Decode to judge.
	if json.Unmarshal([]byte(message), &kind) != nil || kind.Kind == nil {
		return Decode(message)
	}
	var e envelope
	if err := json.Unmarshal([]byte(message), &e); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnreadable, withoutValues(err))
	}
	switch {
	case e.Version != version:
		return nil, fmt.Errorf("%w: a message of version %d, and this program reads version %d", ErrUnreadable, e.Version, version)
	case e.Kind == kindWake && e.JobID != "" && e.Wake > 0:
		return WakeUp{JobID: e.JobID, Number: e.Wake}, nil
	case e.Kind == kindArrival && e.Call != nil && e.Call.ID != "" && !e.CallEnds.IsZero():
		return Arrival{Call: *e.Call, CallEnds: e.CallEnds}, nil
	}
	return nil, fmt.Errorf("%w: there is no message of kind %.40q like this", ErrUnreadable, e.Kind)
}
