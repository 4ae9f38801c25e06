package dev

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/ringback/ringback/internal/local/guard"
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

	ended func(callID string) bool // reports whether a simulated call has ended

	mu        sync.Mutex
	admitted  map[string]bool
	simulated map[string]bool // the ids of calls on this machine
}

// newControl returns a client of the simulated calls at a URL. The key is Vapi's public key, and may be empty.
func newControl(calls, publicKey string, ended func(callID string) bool) (*controlClient, error) {
	here, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
	if err != nil {
		return nil, err
	}
	there, err := vapiclient.NewControlClient(atVapi(publicKey))
	return &controlClient{
		here: simcall.Client{Control: here, URL: calls}, there: there, ended: ended,
		admitted: make(map[string]bool), simulated: make(map[string]bool),
	}, err
}

// atVapi returns the configuration of the client for calls at Vapi.
func atVapi(publicKey string) (cfg vapiclient.ControlConfig) {
	if publicKey != "" {
		cfg.PublicKey = func(context.Context) (string, error) { return publicKey, nil }
	}
	return cfg
}

// onThisMachine reports whether a call is on this machine, by its control URL, and notes it for known.
func (c *controlClient) onThisMachine(call vapi.Call) bool {
	simulated, loopback := located(call.ControlURL)
	if simulated || loopback {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.simulated[call.ID] = true
	}
	return simulated || loopback
}

// known reports whether a call is on this machine, by its id.
func (c *controlClient) known(callID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.simulated[callID]
}

// located reports whether a control URL is that of a simulated call of this run, or leads to another program on this
// machine.
func located(controlURL string) (simulated, loopback bool) {
	u, err := url.Parse(controlURL)
	return err == nil && u.Host == simcall.Host, err == nil && guard.IsLoopback(u.Hostname())
}

// admit admits the control URL of a webhook whose sender has a credential.
func (c *controlClient) admit(controlURL string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admitted[controlURL] = true
}

// simulates reports whether a control URL is that of a simulated call: of this run, or of a program on this machine
// such as ringback call.
func (c *controlClient) simulates(controlURL string) bool {
	simulated, loopback := located(controlURL)
	c.mu.Lock()
	defer c.mu.Unlock()
	return simulated || loopback && c.admitted[controlURL]
}

// Post posts m to a control URL. That of a simulated call that has ended answers 404.
func (c *controlClient) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	switch {
	case !c.simulates(controlURL):
		return c.there.Post(ctx, controlURL, m)
	case c.ended(simcall.CallID(controlURL)):
		return vapiclient.Receipt{
			Verdict: vapiclient.Gone, Status: http.StatusNotFound, Err: errors.New("the simulated call has ended"),
		}
	}
	receipt := c.here.Post(ctx, controlURL, m)
	if receipt.Verdict == vapiclient.TryAgain && gone(ctx, controlURL) {
		return vapiclient.Receipt{
			Verdict: vapiclient.Gone, Err: errors.New("no program of this machine listens at the control URL any more"),
		}
	}
	return receipt
}

// gone reports whether a control URL is of a program on this machine that has ended, such as ringback send. No repeat
// reaches it.
func gone(ctx context.Context, controlURL string) bool {
	u, err := url.Parse(controlURL)
	if err != nil || u.Port() == "" || !guard.IsLoopback(u.Hostname()) {
		return false
	}
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err == nil {
		connection.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
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
