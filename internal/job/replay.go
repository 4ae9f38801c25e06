package job

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"
)

// replayMark begins the id of a replay, after the prefix of all ids. So the idempotency key that a tool sends tells an
// external system, and a reader of the logs, that it is one.
const replayMark = "replay"

// IsReplay reports whether a job is a replay: see [Job.Replay].
func IsReplay(jobID string) bool { return strings.HasPrefix(jobID, idPrefix+replayMark) }

// Replay returns a job that runs the tool of j again, with other arguments if they are not nil. It is a new job of the
// same call: its random id says that it is a replay.
func (j Job) Replay(now time.Time, arguments json.RawMessage) Job {
	length := j.CallEnds.Sub(j.ReceivedAt)
	j.ID = idPrefix + replayMark + strings.ToLower(rand.Text())[:idLength-len(replayMark)]
	j.ReceivedAt, j.CallEnds, j.AnswerUntil, j.KeepResult = now, now.Add(length), time.Time{}, false
	j.CallBegan = time.Time{}
	if arguments != nil {
		j.Arguments = arguments
	}
	return j
}

// WithoutCall returns the job in a call that does not exist. Its result cannot reach the customer, and no limit of the
// real call applies. The number stays.
func (j Job) WithoutCall() Job {
	j.Call.ID = replayMark + "-" + strings.ToLower(rand.Text())
	j.Call.ControlURL, j.Call.SessionID = "", ""
	return j
}

// WithoutCustomer returns a replay without its call, and without the customer's number. Its result is not delivered: it
// ends as [StateReplayed], and the record keeps the result.
func (j Job) WithoutCustomer() Job {
	j = j.WithoutCall()
	j.Call.CustomerNumber = ""
	j.KeepResult = true
	return j
}

// keepsResult reports whether the result of a job is not delivered. Only a replay without a call can ask for that: the
// result of every other job is delivered, or becomes an undelivered event.
func (j Job) keepsResult() bool { return j.KeepResult && IsReplay(j.ID) && j.Call.ControlURL == "" }

// ReplayCopy is the copy of a job that an operator can replay. It is an item of its own, so that it expires on time,
// although the job's record stays.
type ReplayCopy struct {
	JobID    string `json:"jobId"`
	Revision int64  `json:"-"` // 0 means never saved

	Sealed []byte `json:"sealed"` // the job, encrypted
	// Customer is a name of the job's customer, by which the copy is found if the customer is forgotten: see
	// [Customer]. It is that of any organisation. Empty if the customer is unknown.
	Customer string    `json:"customer,omitempty"`
	Stored   time.Time `json:"stored"`
	Until    time.Time `json:"until"` // the copy must not be used later

	Unknown Unknown `json:"-"`
}

// Key identifies the copy among those of its kind.
func (c ReplayCopy) Key() string { return c.JobID }

// SavedRevision returns c.Revision.
func (c ReplayCopy) SavedRevision() int64 { return c.Revision }

// UpdatedAt returns c.Stored.
func (c ReplayCopy) UpdatedAt() time.Time { return c.Stored }

// WithRevision returns the copy with another revision.
func (c ReplayCopy) WithRevision(revision int64) ReplayCopy {
	c.Revision = revision
	return c
}

// Expires returns when the copy may be deleted.
func (c ReplayCopy) Expires() time.Time { return c.Until }
