package dev

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// controlClient posts control messages to the simulated calls, and to the control URLs of real calls. It posts to
// other loopback addresses only if they are admitted: a program on this machine may listen there that trusts the
// others.
type controlClient struct {
	here  simcall.Client            // for the simulated calls and the admitted URLs
	there *vapiclient.ControlClient // for all others

	mu       sync.Mutex
	admitted map[string]bool
}

// newControl returns a client of the simulated calls at a URL.
func newControl(calls string) (*controlClient, error) {
	here, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
	if err != nil {
		return nil, err
	}
	there, err := vapiclient.NewControlClient(vapiclient.ControlConfig{})
	return &controlClient{
		here: simcall.Client{Control: here, URL: calls}, there: there, admitted: make(map[string]bool),
	}, err
}

// admit admits the control URL of a webhook whose sender has a credential.
func (c *controlClient) admit(controlURL string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admitted[controlURL] = true
}

// Post posts m to a control URL.
func (c *controlClient) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	c.mu.Lock()
	here := c.admitted[controlURL]
	c.mu.Unlock()
	if u, err := url.Parse(controlURL); here || err == nil && u.Host == simcall.Host {
		return c.here.Post(ctx, controlURL, m)
	}
	return c.there.Post(ctx, controlURL, m)
}

type identifiedKey struct{}

// identified marks the requests whose sender has the token of the run. That matters only if webhooks are not verified.
func (r *run) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.own.Verify(vapiauth.Request{Header: request.Header}, time.Now()) == nil {
			request = request.WithContext(context.WithValue(request.Context(), identifiedKey{}, true))
		}
		next.ServeHTTP(w, request)
	})
}
