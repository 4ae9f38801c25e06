package job

import (
	"encoding/hex"
	"log/slog"
	"strings"
	"time"
)

// LogTrace returns the attribute of a log that names a trace, by its [TraceID]. It returns the empty attribute, which
// is not logged, if there is none.
func LogTrace(traceparent string) slog.Attr {
	if id := TraceID(traceparent); id != "" {
		return slog.String("trace_id", id)
	}
	return slog.Attr{}
}

// TraceID returns the trace id in a traceparent: the position of a span in its trace, in the form that W3C's Trace
// Context defines for version 00. It returns "" if traceparent does not have that form.
func TraceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 || parts[0] != "00" || !isSpanID(parts[1], 32) || !isSpanID(parts[2], 16) {
		return ""
	}
	switch parts[3] { // what version 00 defines: sampled, and random
	case "00", "01", "02", "03":
		return parts[1]
	}
	return ""
}

// isSpanID reports whether a text is the id of a trace or a span: hexadecimal digits in lower case, not all of them 0.
func isSpanID(text string, length int) bool {
	_, err := hex.DecodeString(text)
	return err == nil && len(text) == length && text == strings.ToLower(text) && strings.Trim(text, "0") != ""
}

// NewTraceparent returns the traceparent of a span.
func NewTraceparent(traceID, spanID string, sampled bool) string {
	flags := "00"
	if sampled {
		flags = "01"
	}
	return "00-" + traceID + "-" + spanID + "-" + flags
}

// spanIn returns the id of the span in a traceparent, if it is another span of the trace of first, and "" otherwise.
func spanIn(first, traceparent string) string {
	if traceparent == first || TraceID(traceparent) == "" || TraceID(traceparent) != TraceID(first) {
		return ""
	}
	return strings.Split(traceparent, "-")[2]
}

// SuspendedSpan returns the traceparent of the execution that suspended the job last, and "" if it is unknown.
func (r Record) SuspendedSpan() string {
	parts := strings.Split(r.Traceparent, "-")
	if r.SuspendedBy == "" || TraceID(r.Traceparent) == "" {
		return ""
	}
	parts[2] = r.SuspendedBy
	return strings.Join(parts, "-")
}

// stored returns the job as it is stored in its record, which has the traceparent itself. The record of its call has
// the beginning of the call.
func (j Job) stored() *Job {
	j.Traceparent, j.CallBegan = "", time.Time{}
	return &j
}
