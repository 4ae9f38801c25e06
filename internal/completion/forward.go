package completion

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// maxHeaders bounds the headers of a post that the tool reads, in bytes. API Gateway accepts 10,240 bytes for
// the request line and the headers together (Amazon API Gateway quotas). With a body of [MaxBody] in base64, a
// message is far smaller than [queue.MaxMessage].
const maxHeaders = 16 << 10

// What became of a post that the tool reads.
const (
	kindForwarded job.Kind = "received"
	kindLate      job.Kind = "ignored" // the job has ended
)

// connection are the headers that are not the sender's, but those of its connection (RFC 9110, section 7.6.1).
var connection = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// forward queues a post for the tool, which reads and verifies it itself: this function knows no tool. A service
// with a format of its own knows nothing of jobs, and repeats what is refused. So a post about a job that has
// ended is accepted, and dropped. p gets the kind.
func (h *Handler) forward(ctx context.Context, jobID string, header http.Header, body []byte, p *post) error {
	header = header.Clone()
	for _, name := range connection {
		header.Del(name)
	}
	size := 0
	for name, values := range header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	if size > maxHeaders {
		return errHeaders
	}
	record, err := h.cfg.Table.Load(ctx, jobID)
	p.traceparent = record.Traceparent
	now := h.cfg.Now()
	switch {
	case err != nil:
		return err
	case !record.State.Active():
		p.kind = kindLate
		return nil
	case now.After(record.Deadline) || record.StoredJob == nil:
		return job.ErrExpired
	}
	// The time at which the sender's signature must be young.
	received := httpjson.Received(ctx, now).Round(0).UTC()
	message, err := job.Post{JobID: jobID, Header: header, Body: body, Received: received}.Encode()
	if err == nil {
		// It takes little time, so a long tool has its posts on the queue of the short ones.
		err = errors.Join(h.cfg.Jobs.Send(ctx, []queue.Message{{Body: message, Group: queue.Group(record.CallID)}})...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotQueued, err)
	}
	p.kind = kindForwarded
	return nil
}
