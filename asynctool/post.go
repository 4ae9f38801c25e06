package asynctool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// PostTimeout bounds one call of a tool's OnPost.
const PostTimeout = 15 * time.Second

// Post is a request to the completion URL of a tool with OnPost.
type Post struct {
	// Header contains the request's headers, except those of the connection. The values of a
	// repeated header may be joined by commas, as Amazon API Gateway does.
	Header http.Header

	// Body is the body as it was sent, byte for byte. It has at most 256 KB.
	Body []byte

	// Received is when the post arrived. OnPost may be called later, so the age of a signature
	// counts until then.
	Received time.Time
}

// IgnoredError means that a tool does not believe a post, or cannot read it. The job waits on.
type IgnoredError struct {
	Err error // why: what OnPost returned
}

func (e *IgnoredError) Error() string { return e.Err.Error() }

func (e *IgnoredError) Unwrap() error { return e.Err }

// ReadsPosts reports whether the tool has an OnPost.
func (e *Entry) ReadsPosts() bool { return e.onPost != nil }

// ReadPost calls the tool's OnPost, which it must have. The result has a Later if the job waits
// on. If OnPost refuses the post, the error is an [*IgnoredError]. Every other error means that
// the job ends, or that the post must be read again, as for [Entry.Run]. An error that wraps
// [ErrSignature] is always an [*IgnoredError].
func (e *Entry) ReadPost(ctx context.Context, call Call, post Post) (Result, error) {
	result, err := e.onPost(ctx, call, post)
	if err != nil {
		var said *Error
		switch {
		case errors.Is(err, ErrSignature):
			return Result{}, &IgnoredError{err}
		case !errors.As(err, &said) && ctx.Err() == nil: // it may have failed because its time was up
			return Result{}, &IgnoredError{err}
		}
		return Result{}, err
	}
	err = result.check()
	if later := result.Later; err == nil && later != nil && (!later.Outside || later.State != nil) {
		err = errors.New("it resumes the tool, or changes its state; return Wait to wait on")
	}
	if err != nil {
		return Result{}, fmt.Errorf("tool %s: the result of its OnPost cannot be used: %w", e.Name, err)
	}
	if result.Delivery == "" && result.Later == nil {
		result.Delivery = e.Delivery
	}
	return result, nil
}
