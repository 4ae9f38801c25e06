package job

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// maxParked is how many results can be parked for a customer's next call. A caller
// would not listen to more.
const maxParked = 20

// CustomerRecord lists the results that are parked for a customer's next call. Like a
// [Record], it must only be saved if the stored record still has its Revision.
type CustomerRecord struct {
	Customer string         `json:"customer"` // see [Customer]
	Revision int64          `json:"-"`        // counts the saves; 0 means never saved
	Parked   []ParkedResult `json:"kept,omitempty"`
	// Open is the customer's open outbound call. Nil means none.
	Open *OpenCall `json:"open,omitempty"`
	// Waiting are the results that wait for an outbound call, in the order in which they began to.
	Waiting []WaitingResult `json:"waiting,omitempty"`
	// Made counts outbound calls. Only the record of a day has it: see [CallsOfDay].
	Made    int       `json:"made,omitempty"`
	Updated time.Time `json:"updated"`

	Unknown Unknown `json:"-"`
}

// ParkedResult names a job whose result is parked.
type ParkedResult struct {
	JobID      string `json:"jobId"`
	ToolCallID string `json:"toolCallId"`
	Tool       string `json:"tool"`
	// Revision is the revision of the job's record. It distinguishes a result that is
	// parked again from its earlier entry.
	Revision int64 `json:"revision,omitempty"`
	// Scoped means that the result belongs to an assistant and a phone number: those of its call, as
	// far as they are known. It is false in a result that an earlier version parked.
	Scoped        bool   `json:"scoped,omitempty"`
	AssistantID   string `json:"assistantId,omitempty"`
	PhoneNumberID string `json:"phoneNumberId,omitempty"`

	Unknown Unknown `json:"-"`
}

// FitsIn reports whether the result may be delivered in a call of its customer: one of the same
// assistant, or with the same phone number. If the result has neither, the call must have neither. An
// organisation can serve several companies, and a result of one must not be spoken in a call to
// another.
func (p ParkedResult) FitsIn(c Call) bool {
	return !p.Scoped || p.AssistantID == "" && p.PhoneNumberID == "" && c.AssistantID == "" && c.PhoneNumberID == "" ||
		p.AssistantID != "" && p.AssistantID == c.AssistantID ||
		p.PhoneNumberID != "" && p.PhoneNumberID == c.PhoneNumberID
}

// ScopedAs returns the result with the assistant and the phone number of an earlier entry of its job.
func (p ParkedResult) ScopedAs(earlier ParkedResult) ParkedResult {
	p.Scoped, p.AssistantID, p.PhoneNumberID = earlier.Scoped, earlier.AssistantID, earlier.PhoneNumberID
	return p
}

// Outcome returns the message that delivers the unparked result in a call.
func (p ParkedResult) Outcome(r Record, c Call) Outcome {
	return Outcome{
		Version: version, JobID: p.JobID, ToolCallID: p.ToolCallID, Tool: p.Tool, Call: c,
		Kind: KindFinal, Result: *r.Result, Deadline: r.Deadline, AfterCall: r.Policy.AfterCall, Earlier: true,
		Asked: r.Asked, Redeliveries: r.Redeliveries, Traceparent: r.Traceparent,
	}
}

// withheld are the numbers that carriers send in place of a withheld number: a word, dialled on the
// keys of a telephone (Twilio's and Vapi's support pages). All these callers would be one customer.
var withheld = []string{
	"+266696687",   // anonymous
	"+7378742833",  // restricted
	"+86282452253", // unavailable
	"+8656696",     // unknown
	"+2562533",     // blocked
	"+7748283",     // private
	"+94844353",    // withheld
}

// isE164 reports whether a customer can have a number of E.164. Those below seven digits are short codes
// and placeholders, such as +464.
func isE164(number string) bool {
	digits, ok := strings.CutPrefix(number, "+")
	return ok && len(digits) >= 7 && len(digits) <= 15 && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
}

// CustomerPhone returns the telephone number of the call's customer. It is empty if there is none: the
// number is absent, withheld, or no number in E.164's format. Nothing is parked for such a caller,
// and none can be called.
func (c Call) CustomerPhone() string {
	if !isE164(c.CustomerNumber) || slices.Contains(withheld, c.CustomerNumber) {
		return ""
	}
	return c.CustomerNumber
}

// Customer returns a name for the customer of a call that does not reveal the number to those who do not
// have the key. It is empty if the customer is unknown: see [Call.CustomerPhone]. An empty key makes the
// name that earlier versions used. It is a plain hash, and there are few enough numbers to try all of them.
func Customer(c Call, key []byte) string {
	number := c.CustomerPhone()
	if number == "" {
		return ""
	}
	h := sha256.New()
	if len(key) > 0 {
		h = hmac.New(sha256.New, key)
	}
	h.Write([]byte(c.OrgID + "\x00" + number))
	return hex.EncodeToString(h.Sum(nil))
}

// Add adds a parked result. It replaces an earlier one of the same job, and keeps its
// assistant and phone number: they are of the call that the result belongs to. It
// reports false if the list is full.
func (r CustomerRecord) Add(p ParkedResult, now time.Time) (CustomerRecord, bool) {
	if other, found := r.Find(p.JobID); found {
		p = p.ScopedAs(other)
	}
	others := slices.DeleteFunc(slices.Clone(r.Parked), func(other ParkedResult) bool { return other.JobID == p.JobID })
	if len(others) >= maxParked {
		return r, false
	}
	r.Parked, r.Updated = append(others, p), now
	return r, true
}

// Remove removes a parked result. It fails with [ErrUnchanged] if it is not in the list.
func (r CustomerRecord) Remove(p ParkedResult, now time.Time) (CustomerRecord, error) {
	if !slices.Contains(r.Parked, p) {
		return r, ErrUnchanged
	}
	r.Parked = slices.DeleteFunc(slices.Clone(r.Parked), func(other ParkedResult) bool { return other == p })
	r.Updated = now
	return r, nil
}

// Find returns the parked result of a job, and false if there is none.
func (r CustomerRecord) Find(jobID string) (ParkedResult, bool) {
	i := slices.IndexFunc(r.Parked, func(p ParkedResult) bool { return p.JobID == jobID })
	if i < 0 {
		return ParkedResult{}, false
	}
	return r.Parked[i], true
}

// CallsOfDay names the record that counts the outbound calls of a day, by UTC. It is among those of the
// customers, whose names are hashes.
func CallsOfDay(now time.Time) string { return "calls-" + now.UTC().Format(time.DateOnly) }

// CountCall counts an outbound call. It reports false if there are as many as allowed.
func (r CustomerRecord) CountCall(most int, now time.Time) (CustomerRecord, bool) {
	if r.Made >= most {
		return r, false
	}
	r.Made, r.Updated = r.Made+1, now
	return r, true
}

// UncountCall undoes [CustomerRecord.CountCall] if it is certain that no call was made.
func (r CustomerRecord) UncountCall(now time.Time) CustomerRecord {
	r.Made, r.Updated = max(r.Made-1, 0), now
	return r
}

// Key identifies the record among those of its kind.
func (r CustomerRecord) Key() string { return r.Customer }

// SavedRevision returns r.Revision.
func (r CustomerRecord) SavedRevision() int64 { return r.Revision }

// UpdatedAt returns r.Updated.
func (r CustomerRecord) UpdatedAt() time.Time { return r.Updated }

// WithRevision returns the record with another revision.
func (r CustomerRecord) WithRevision(revision int64) CustomerRecord {
	r.Revision = revision
	return r
}

// Expires returns when the record may be deleted.
func (r CustomerRecord) Expires() time.Time { return r.Updated.Add(Retention) }
