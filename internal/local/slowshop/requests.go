package slowshop

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxRequest = 64 << 10 // bytes of a request
	maxOpen    = 32       // requests that are open at the same time

	postTries   = 5                // how often a post to a completion URL is tried
	postTimeout = 10 * time.Second // of one try
	postPause   = 200 * time.Millisecond
)

// office posts to completion URLs. It uses no proxy and follows no redirect.
var office = &http.Client{
	Timeout:       postTimeout,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// request accepts a question for the shop's staff.
func (s *Shop) request(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Subject        string `json:"subject"`
		CompletionURL  string `json:"completion_url"`
		IdempotencyKey string `json:"idempotency_key"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&asked)
	switch {
	case err != nil || asked.Subject == "" || asked.IdempotencyKey == "":
		refuse(w, http.StatusBadRequest, "a request needs a subject, a completion_url and an idempotency_key")
	case !strings.HasPrefix(asked.CompletionURL, s.public), s.public == "" && !onThisMachine(asked.CompletionURL):
		refuse(w, http.StatusBadRequest, "the completion_url is not on this machine; the simulated shop posts nowhere else")
	case !s.take(asked.IdempotencyKey, s.local+strings.TrimPrefix(asked.CompletionURL, s.public)):
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "too many requests are open; try again later")
	default:
		answer(w, http.StatusAccepted, map[string]string{"status": "accepted"})
	}
}

func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}

// onThisMachine reports whether a URL leads to a loopback address.
func onThisMachine(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// take opens a request, unless it is open already. It returns false if too many
// are open, or the shop is closed.
func (s *Shop) take(key, completionURL string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open[key] != "":
		return true
	case len(s.open) >= maxOpen || s.ctx.Err() != nil:
		return false
	}
	s.open[key] = completionURL
	s.working.Go(func() {
		s.work(completionURL)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, key)
	})
	return true
}

// work posts progress after the shop's delay, and the result after another.
func (s *Shop) work(completionURL string) {
	if !pause(s.ctx, s.delay) {
		return
	}
	post(s.ctx, completionURL, map[string]string{"progress": "Somebody is looking at it."})
	if pause(s.ctx, s.delay) {
		post(s.ctx, completionURL, map[string]string{"result": "Approved by the shop's manager."})
	}
}

// post posts to a completion URL, and tries again if that can help.
func post(ctx context.Context, completionURL string, v map[string]string) {
	body, err := json.Marshal(v)
	if err != nil {
		return
	}
	for n := range postTries {
		if n > 0 && !pause(ctx, postPause<<(n-1)) {
			return
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, completionURL, bytes.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := office.Do(r)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxRequest))
		answer.Body.Close()
		// Nothing waits for progress that comes too soon.
		tooSoon := answer.StatusCode == http.StatusTooManyRequests
		if answer.StatusCode < 500 && !(tooSoon && v["result"] != "") {
			return
		}
	}
}
