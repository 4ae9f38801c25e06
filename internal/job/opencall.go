package job

import (
	"slices"
	"time"
)

const (
	// maxWaiting is how many results can wait for one outbound call. A caller would not listen to more.
	maxWaiting = 20

	// unknownCallTime is how long an outbound call counts as open whose id is not known: it is about to be made,
	// or the function died meanwhile. Most calls are shorter.
	unknownCallTime = 15 * time.Minute

	// openCallTime is how long a known one counts as open, if Vapi never says that it has ended. It is longer
	// than a call can last (Vapi's OpenAPI: maxDurationSeconds).
	openCallTime = 13 * time.Hour
)

// OpenCall is an outbound call to a customer that has not ended, or is about to be made.
type OpenCall struct {
	JobID  string    `json:"jobId"`            // the job that leads: it makes the call
	CallID string    `json:"callId,omitempty"` // Vapi's id of the call; empty until it is known
	Until  time.Time `json:"until"`            // from when on it does not count as open, whatever happened

	Unknown Unknown `json:"-"`
}

// WaitingResult names a job whose result waits for an outbound call, and who speaks in that call. Results of
// different assistants or phone numbers are not delivered together.
type WaitingResult struct {
	JobID         string `json:"jobId"`
	AssistantID   string `json:"assistantId,omitempty"`
	PhoneNumberID string `json:"phoneNumberId,omitempty"`

	Unknown Unknown `json:"-"`
}

func (w WaitingResult) with(other WaitingResult) bool {
	return w.AssistantID == other.AssistantID && w.PhoneNumberID == other.PhoneNumberID
}

// Wait adds a result to those that wait for an outbound call. first reports whether it is the first of those
// that can share its call.
func (r CustomerRecord) Wait(result WaitingResult, now time.Time) (next CustomerRecord, first bool) {
	known := slices.ContainsFunc(r.Waiting, func(w WaitingResult) bool { return w.JobID == result.JobID })
	if !known && len(r.Waiting) < maxWaiting {
		r.Waiting = append(slices.Clone(r.Waiting), result)
	}
	r.Updated = now
	at := slices.IndexFunc(r.Waiting, result.with)
	return r, at < 0 || r.Waiting[at].JobID == result.JobID
}

// OpenCall opens an outbound call that a result leads. It fails if another call is open, and is not the one that
// has ended: the result then waits. others are the results that can share the call, and ended is the id of a
// call; empty means none.
func (r CustomerRecord) OpenCall(
	result WaitingResult, ended string, now time.Time,
) (next CustomerRecord, others []string, opened bool) {
	if o := r.Open; o != nil && o.JobID != result.JobID && now.Before(o.Until) && (ended == "" || o.CallID != ended) {
		next, _ = r.Wait(result, now)
		return next, nil, false
	}
	for _, w := range r.Waiting {
		if w.JobID != result.JobID && w.with(result) {
			others = append(others, w.JobID)
		}
	}
	r.Open, r.Updated = &OpenCall{JobID: result.JobID, Until: now.Add(unknownCallTime)}, now
	return r, others, true
}

// CallMade records the id of the open call that a result leads, and that it and the others wait no more. An empty
// callID means that it is unknown whether the call was made.
func (r CustomerRecord) CallMade(jobID, callID string, others []string, now time.Time) CustomerRecord {
	r.Waiting = slices.DeleteFunc(slices.Clone(r.Waiting), func(w WaitingResult) bool {
		return w.JobID == jobID || slices.Contains(others, w.JobID)
	})
	r.Updated = now
	if r.Open != nil && r.Open.JobID == jobID && callID != "" {
		r.Open = &OpenCall{JobID: jobID, CallID: callID, Until: now.Add(openCallTime)}
	}
	return r
}

// NoCall closes the open call that a result leads: it was certainly not made, and the result waits for none.
func (r CustomerRecord) NoCall(jobID string, now time.Time) CustomerRecord {
	r = r.CallMade(jobID, "", nil, now)
	if r.Open != nil && r.Open.JobID == jobID {
		r.Open = nil
	}
	return r
}
