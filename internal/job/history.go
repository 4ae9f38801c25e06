package job

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxSteps is how many steps a history has at most, with the one that counts what was dropped.
	MaxSteps = 40
	// maxHistory bounds an encoded history, in bytes. With its name in the record, it has 1 KB at most.
	maxHistory = 1000
	// firstSteps is how many of the first steps are never dropped: how the job began matters as much as how it ended.
	firstSteps = 12
	// maxDetail bounds the detail of a step, in bytes.
	maxDetail = 40
)

// History is what happened to a job: see [Record.Steps]. The rules add to it, so that it is saved with the changes
// that it describes, and costs no further write. It contains no argument, number, URL or id of a call, and no text
// of a tool or an external system, and so needs no protection of its own.
//
// It is encoded, as it is part of every write: steps joined by commas. A step is the letter of its kind, the
// milliseconds since the step before in base 36 (for the first one, since Record.Created), and an equals sign with
// the detail if it has one. A tilde with a number is how many steps were dropped there.
type History string

// Step is one thing that happened to a job.
type Step struct {
	At     time.Time `json:"at,omitzero"` // zero for [StepDropped]
	Kind   StepKind  `json:"kind"`
	Detail string    `json:"detail,omitempty"` // a word or a number: see the kinds
	Until  time.Time `json:"until,omitzero"`   // the end of the wait of a suspension
}

// Line returns the number of the progress line of a [StepSpoken], or "hold", and the answer to its post: an HTTP
// status, or a word. answer is empty if it is not known.
func (s Step) Line() (line, answer string) {
	line, answer, _ = strings.Cut(s.Detail, "/")
	return line, answer
}

// StepKind is the kind of a step.
type StepKind string

const (
	StepReceived       StepKind = "received"         // the webhook arrived
	StepReplay         StepKind = "replay"           // an operator replays a job; there is no webhook
	StepQueued         StepKind = "queued"           // the job was on its queue
	StepStarted        StepKind = "started"          // an attempt began; detail: its number, from the second one on
	StepAttemptFailed  StepKind = "attempt_failed"   // another attempt follows; detail: a class of errors
	StepNotStarted     StepKind = "not_started"      // the attempt does not count, and another follows; detail: as before
	StepProgress       StepKind = "progress"         // a progress line; detail: its number, or "external"
	StepSpoken         StepKind = "spoken"           // a progress line is posted; detail: see [Step.Line]
	StepSuspended      StepKind = "suspended"        // the job waits until a time
	StepExternal       StepKind = "external"         // the job waits for an external completion until a time
	StepWoken          StepKind = "woken"            // the wait is over, and the tool runs again
	StepCompleted      StepKind = "completed"        // an external system sent the result; detail: its status
	StepFinished       StepKind = "finished"         // the tool returned a result
	StepFailed         StepKind = "failed"           // the job has failed for good; detail: a class of errors
	StepCancelled      StepKind = "cancelled"        // detail: "operator", "assistant" or "replaced"
	StepDelivery       StepKind = "delivery"         // an attempt to deliver the result; detail: the answers to it
	StepText           StepKind = "text"             // the text of an action was delivered; the action follows
	StepPostponed      StepKind = "postponed"        // an outbound call waits
	StepOutboundCall   StepKind = "outbound_call"    // the outbound call is about to be made; detail: "joined"
	StepNoOutboundCall StepKind = "no_outbound_call" // it certainly was not made
	StepParked         StepKind = "parked"           // the result waits for the customer's next call
	StepNextCall       StepKind = "next_call"        // the customer's next call has begun
	StepNoNextCall     StepKind = "no_next_call"     // the customer has not called
	StepForgotten      StepKind = "forgotten"        // an operator deleted the result with its customer
	StepRedriven       StepKind = "redriven"         // its message was moved out of the dead-letter queue too late
	StepRepeated       StepKind = "repeated"         // the tool call was repeated; the result is delivered again
	StepDelivered      StepKind = "delivered"        // detail: "answer", "outbound call", "next call", or the call
	StepUndelivered    StepKind = "undelivered"      // became an `undelivered` event; detail: its [Reason]
	StepDiscarded      StepKind = "discarded"        // dropped, as the tool asks; detail: a [Reason]
	StepReplayed       StepKind = "replayed"         // the result of a replay is not delivered
	StepDropped        StepKind = "dropped"          // no step: so many steps are not in the history; detail: their number
	StepUnknown        StepKind = "unknown"          // a newer version wrote it
)

// dropped is the letter of [StepDropped].
const dropped = '~'

// letters are the letters of the kinds. They are in every stored record, so they never change.
var letters = []struct {
	kind   StepKind
	letter byte
}{
	{StepReceived, 'r'}, {StepQueued, 'q'}, {StepStarted, 's'}, {StepAttemptFailed, 'a'}, {StepNotStarted, 'n'},
	{StepProgress, 'g'}, {StepSpoken, 'm'}, {StepSuspended, 'w'}, {StepExternal, 'x'}, {StepWoken, 'k'},
	{StepCompleted, 'c'}, {StepFinished, 'f'}, {StepFailed, 'e'}, {StepCancelled, 'C'}, {StepDelivery, 'p'},
	{StepText, 't'}, {StepPostponed, 'h'}, {StepOutboundCall, 'o'}, {StepNoOutboundCall, 'O'}, {StepParked, 'P'},
	{StepNextCall, 'N'}, {StepNoNextCall, 'M'}, {StepForgotten, 'G'}, {StepRedriven, 'R'}, {StepRepeated, 'y'},
	{StepDelivered, 'd'}, {StepUndelivered, 'u'}, {StepDiscarded, 'D'}, {StepReplay, 'v'}, {StepReplayed, 'V'},
	{StepDropped, dropped},
}

func letterOf(kind StepKind) byte {
	for _, l := range letters {
		if l.kind == kind {
			return l.letter
		}
	}
	return 0
}

// kindOf returns the kind of a letter, or [StepUnknown].
func kindOf(letter byte) StepKind {
	for _, l := range letters {
		if l.letter == letter {
			return l.kind
		}
	}
	return StepUnknown
}

// Steps returns what happened to the job, in the order in which it was recorded. Several functions write it, and
// their clocks differ, so the times may not be in order. Records of earlier versions have none.
func (r Record) Steps() []Step {
	var steps []Step
	at := r.Created
	for _, e := range r.History.entries() {
		s := Step{Kind: kindOf(e.letter), Detail: e.detail}
		if s.Kind == StepDropped {
			s.Detail = strconv.FormatInt(e.delta, 10)
			steps = append(steps, s)
			continue
		}
		at = at.Add(time.Duration(e.delta) * time.Millisecond)
		s.At = at
		if s.Kind == StepSuspended || s.Kind == StepExternal {
			seconds, _ := strconv.ParseInt(s.Detail, 36, 64)
			s.Detail, s.Until = "", at.Add(time.Duration(seconds)*time.Second)
		}
		steps = append(steps, s)
	}
	return steps
}

// entry is an encoded step. delta is what stands behind its letter.
type entry struct {
	letter byte
	delta  int64
	detail string
}

func (e entry) encode(out []byte) []byte {
	base := 36
	if e.letter == dropped {
		base = 10
	}
	out = strconv.AppendInt(append(out, e.letter), e.delta, base)
	if e.detail != "" {
		out = append(append(out, '='), e.detail...)
	}
	return out
}

// entries reads a history. It keeps what a newer version wrote, as far as it can be read.
func (h History) entries() []entry {
	if h == "" {
		return nil
	}
	var all []entry
	for text := range strings.SplitSeq(string(h), ",") {
		if text == "" {
			continue
		}
		base := 36
		if text[0] == dropped {
			base = 10
		}
		delta, detail, _ := strings.Cut(text[1:], "=")
		n, err := strconv.ParseInt(delta, base, 64)
		if err != nil {
			continue
		}
		all = append(all, entry{text[0], n, detail})
	}
	return all
}

// encodeHistory returns a history within its bounds. What is dropped comes from the middle.
func encodeHistory(all []entry) History {
	for {
		var out []byte
		for i, e := range all {
			if i > 0 {
				out = append(out, ',')
			}
			out = e.encode(out)
		}
		if len(all) <= MaxSteps && len(out) <= maxHistory || len(all) < firstSteps+3 {
			return History(out)
		}
		if all[firstSteps].letter != dropped {
			all = slices.Insert(all, firstSteps, entry{letter: dropped})
		}
		// The step behind the count goes, and the time that it took goes to the next one.
		all[firstSteps].delta++
		all[firstSteps+2].delta += all[firstSteps+1].delta
		all = slices.Delete(all, firstSteps+1, firstSteps+2)
	}
}

// add returns the record with a further step in its history. detail is shortened, and what a detail cannot have is
// removed.
func (r Record) add(at time.Time, kind StepKind, detail string) Record {
	all := r.History.entries()
	last := r.Created
	for _, e := range all {
		if e.letter != dropped {
			last = last.Add(time.Duration(e.delta) * time.Millisecond)
		}
	}
	r.History = encodeHistory(append(all, entry{letterOf(kind), at.Sub(last).Milliseconds(), cleanDetail(detail)}))
	return r
}

func cleanDetail(text string) string {
	clean := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(" _/-", c):
			return c
		}
		return -1
	}, text)
	return clean[:min(len(clean), maxDetail)]
}

// Queued returns a first record whose history says when the job was on its queue. It has no effect without a time.
func (r Record) Queued(at time.Time) Record {
	if at.IsZero() {
		return r
	}
	steps := r.Steps()
	r.History = ""
	for i, s := range steps {
		if i == len(steps)-1 {
			r = r.add(at, StepQueued, "")
		}
		r = r.add(s.At, s.Kind, s.Detail)
	}
	return r
}

// Posted returns the record with the answer to its last step, if that is a delivery attempt or a progress line that
// was claimed: an HTTP status, or a word. It is saved with the next change of the record, or with [EndProgress] and
// [SettleReport].
func (r Record) Posted(answer string) Record {
	all := r.History.entries()
	if n := len(all) - 1; n >= 0 && (all[n].letter == letterOf(StepDelivery) || all[n].letter == letterOf(StepSpoken)) {
		if all[n].detail != "" {
			answer = all[n].detail + "/" + answer
		}
		all[n].detail = cleanDetail(answer)
		r.History = encodeHistory(all)
	}
	return r
}

// answeredLine returns the record with the answer to its last progress line, which claimed may have: see
// [Record.Posted].
func (r Record) answeredLine(claimed Record) Record {
	posted := claimed.History.entries()
	if len(posted) == 0 || posted[len(posted)-1].letter != letterOf(StepSpoken) {
		return r
	}
	all := r.History.entries()
	for i, e := range slices.Backward(all) {
		if e.letter == letterOf(StepSpoken) {
			all[i].detail = posted[len(posted)-1].detail
			r.History = encodeHistory(all)
			break
		}
	}
	return r
}

// unanswered returns the record without its last step, if that is a delivery attempt in which nothing was posted.
func (r Record) unanswered() Record {
	all := r.History.entries()
	if n := len(all) - 1; n >= 0 && all[n].letter == letterOf(StepDelivery) && all[n].detail == "" {
		r.History = encodeHistory(all[:n])
	}
	return r
}

// suspended returns the record with the step of a suspension.
func (r Record) suspended(now time.Time) Record {
	kind := StepSuspended
	if r.External {
		kind = StepExternal
	}
	return r.add(now, kind, strconv.FormatInt(int64(r.WakeAt.Sub(now).Round(time.Second)/time.Second), 36))
}

// answered returns the HTTP status in an error, such as that of httptool.Do. It returns "" if there is none.
func answered(reason string) string {
	_, rest, _ := strings.Cut(reason, "answered ")
	rest = strings.TrimPrefix(rest, "with ")
	status, _, _ := strings.Cut(rest, " ")
	status = strings.TrimRight(status, ":;,.")
	if n, err := strconv.Atoi(status); err != nil || n < 100 || n > 599 {
		return ""
	}
	return status
}

// classes are the classes of errors, by what the reason in a record begins with.
var classes = []struct{ text, class string }{
	{"the tool ran longer than", "timeout"},
	{"the tool panicked", "panic"},
	{"the tool ended its goroutine", "panic"},
	{"the function's time was up", "no time"},
	{"the claim", "no time"},
	{"its call has ended", "call ended"},
	{"the call has reached its limit", "limit"},
	{"the lease on the job", "lease lost"},
}

// classOf returns the class of an error. A reason can quote arguments and external systems, so that the history
// must not have more of it than this.
func classOf(reason string) string {
	for _, c := range classes {
		if strings.HasPrefix(reason, c.text) {
			return c.class
		}
	}
	if status := answered(reason); status != "" {
		return "answered " + status
	}
	if strings.Contains(reason, "context deadline exceeded") {
		return "timeout"
	}
	return "error"
}

// cancelledBy returns who cancelled a job, by the reason.
func cancelledBy(reason string) string {
	switch {
	case strings.HasPrefix(reason, "cancelled by an operator"):
		return "operator"
	case strings.HasPrefix(reason, "replaced by"):
		return "replaced"
	}
	return "assistant"
}

// settled returns the record with the step of its end.
func (r Record) settled(now time.Time, reason string) Record {
	switch r.State {
	case StateParked:
		return r.add(now, StepParked, "")
	case StateReplayed:
		return r.unanswered().add(now, StepReplayed, "")
	case StateDelivered:
		how := ""
		switch {
		case r.Answered:
			how = "answer"
		case !r.OutboundCallAt.IsZero():
			how = "outbound call"
		case r.NextCallID != "":
			how = "next call"
		}
		return r.add(now, StepDelivered, how)
	}
	kind := StepUndelivered
	if rest, ok := strings.CutPrefix(reason, "dropped: "); ok {
		kind, reason = StepDiscarded, rest
	}
	why, _, _ := strings.Cut(reason, ":")
	if !slices.Contains(reasons, Reason(why)) {
		why = "" // the text of an earlier version, or none
	}
	return r.add(now, kind, why)
}

// attempt returns the detail of the last attempt's step.
func attempt(r Record) string {
	if r.Attempt < 2 {
		return ""
	}
	return strconv.Itoa(r.Attempt)
}

// Ends returns the kinds of steps that the history of a job in a state can end with. Those of records that an
// earlier version began, or was the last to write, can end with any, or be empty.
func Ends(state State) []StepKind {
	switch state {
	case StateRunning:
		return []StepKind{StepStarted, StepWoken, StepAttemptFailed, StepNotStarted, StepProgress, StepSpoken}
	case StateWaiting:
		return []StepKind{StepSuspended, StepExternal, StepProgress, StepSpoken}
	case StateDone:
		return []StepKind{
			StepFinished, StepFailed, StepCompleted, StepCancelled, StepDelivery, StepText, StepPostponed,
			StepOutboundCall, StepNoOutboundCall, StepNextCall, StepNoNextCall, StepForgotten, StepRedriven, StepRepeated,
		}
	case StateParked:
		return []StepKind{StepParked}
	case StateDelivered:
		return []StepKind{StepDelivered}
	case StateUndelivered:
		return []StepKind{StepUndelivered, StepDiscarded}
	case StateCancelled:
		return []StepKind{StepCancelled}
	case StateReplayed:
		return []StepKind{StepReplayed}
	}
	return nil
}
