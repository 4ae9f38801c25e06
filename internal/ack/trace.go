package ack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/ringback/ringback/internal/job"
)

// traceKey is the key of the trace header of AWS X-Ray in the context of an invocation (aws-lambda-go). It is a
// plain string there.
const traceKey = "x-amzn-trace-id"

// traceparent returns the traceparent of the jobs of a webhook. They are in the trace of X-Ray to which the
// invocation belongs, or in a new one if there is none. The function itself makes no span.
func traceparent(ctx context.Context) string {
	header, _ := ctx.Value(traceKey).(string)
	if t := fromXRay(header); t != "" {
		return t
	}
	var id [24]byte
	_, _ = rand.Read(id[:]) // never fails
	return job.NewTraceparent(hex.EncodeToString(id[:16]), hex.EncodeToString(id[16:]), true)
}

// fromXRay converts a trace header to a traceparent. The header looks like
// "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1" (AWS X-Ray developer guide,
// "Tracing header"). fromXRay returns "" if it does not.
func fromXRay(header string) string {
	var root, parent string
	sampled := false
	for part := range strings.SplitSeq(header, ";") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "Root":
			root = value
		case "Parent":
			parent = value
		case "Sampled":
			sampled = value == "1"
		}
	}
	parts := strings.Split(root, "-")
	if len(parts) != 3 || parts[0] != "1" || len(parts[1]) != 8 {
		return ""
	}
	t := job.NewTraceparent(parts[1]+parts[2], parent, sampled)
	if job.TraceID(t) == "" {
		return ""
	}
	return t
}
