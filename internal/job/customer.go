package job

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// maxKept is how many results are kept for a customer's next call. A caller
// would not listen to more.
const maxParked = 20

// CustomerRecord remembers which results are kept for a customer's next call.
// As with [Record], who saves it must do so only if it was not changed
// meanwhile.
type CustomerRecord struct {
	Customer string         `json:"customer"` // see [Customer]
	Revision int64          `json:"-"`        // counts the saves; 0 means never saved
	Parked   []ParkedResult `json:"kept,omitempty"`
	Updated  time.Time      `json:"updated"`
}

// KeptResult names a job whose result is kept.
type ParkedResult struct {
	JobID      string `json:"jobId"`
	ToolCallID string `json:"toolCallId"`
	Tool       string `json:"tool"`
	// Revision is that of the job's record, so that a result that is kept
	// once more is another one than before.
	Revision int64 `json:"revision,omitempty"`
}

// Outcome is the message that tells the revived result in a call.
func (k ParkedResult) Outcome(r Record, c Call) Outcome {
	return Outcome{
		Version: version, JobID: k.JobID, ToolCallID: k.ToolCallID, Tool: k.Tool, Call: c,
		Kind: KindFinal, Result: *r.Result, Deadline: r.Deadline, AfterCall: r.Policy.AfterCall, Earlier: true,
	}
}

// Customer names the customer of a call, without giving away the number. It is
// empty where the customer is not known.
func Customer(c Call) string {
	if c.CustomerNumber == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(c.OrgID + "\x00" + c.CustomerNumber))
	return hex.EncodeToString(sum[:])
}

// Add notes a kept result, in the place of what was noted of the same job. It
// gives false where there are too many.
func (r CustomerRecord) Add(k ParkedResult, now time.Time) (CustomerRecord, bool) {
	others := slices.DeleteFunc(slices.Clone(r.Parked), func(other ParkedResult) bool { return other.JobID == k.JobID })
	if len(others) >= maxParked {
		return r, false
	}
	r.Parked, r.Updated = append(others, k), now
	return r, true
}

// Remove forgets a kept result.
func (r CustomerRecord) Remove(k ParkedResult, now time.Time) CustomerRecord {
	r.Parked = slices.DeleteFunc(slices.Clone(r.Parked), func(other ParkedResult) bool { return other == k })
	r.Updated = now
	return r
}

// Key identifies the record among those of its kind.
func (r CustomerRecord) Key() string { return r.Customer }

// SavedRevision is r.Revision.
func (r CustomerRecord) SavedRevision() int64 { return r.Revision }

// UpdatedAt is r.Updated.
func (r CustomerRecord) UpdatedAt() time.Time { return r.Updated }

// WithRevision returns the record with another revision.
func (r CustomerRecord) WithRevision(revision int64) CustomerRecord {
	r.Revision = revision
	return r
}

// Expires is when the record may be forgotten.
func (r CustomerRecord) Expires() time.Time { return r.Updated.Add(Retention) }
