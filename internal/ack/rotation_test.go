package ack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// secrets is a Secrets Manager with one secret, which changes. It is slow, and sometimes fails.
type secrets struct {
	mu    sync.Mutex
	plans []vapiauth.Plan
	reads int
	fail  bool   // every other read
	code  string // of the error that answers each read, if not empty
	err   error  // of each request, if not nil
}

func (s *secrets) store(plans ...vapiauth.Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = plans
}

// source returns the secret as a function reads it.
func (s *secrets) source() *secret.Secret {
	return secretsmanager.New(aws.Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "key", ""), HTTPClient: s,
	}).Secret("webhook")
}

func (s *secrets) Do(*http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.reads++
	plans, code, err := s.plans, s.code, s.err
	if s.fail && s.reads%2 == 0 {
		code = "DecryptionFailure"
	}
	s.mu.Unlock()
	time.Sleep(40 * time.Millisecond)
	if err != nil {
		return nil, err
	}
	stored, err := json.Marshal(plans)
	if err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	if code != "" {
		answer.WriteHeader(http.StatusBadRequest)
	}
	err = json.NewEncoder(answer).Encode(map[string]string{"SecretString": string(stored), "__type": code})
	return answer.Result(), err
}

// counter is a queue that counts.
type counter struct{ jobs atomic.Int64 }

func (q *counter) Send(_ context.Context, messages []queue.Message) []error {
	q.jobs.Add(int64(len(messages)))
	return make([]error, len(messages))
}

// signed returns a webhook from a sender with the credential of the plan.
func signed(t *testing.T, plan vapiauth.Plan, call string) *http.Request {
	t.Helper()
	body := webhook(fmt.Sprintf(`"call":{"id":%q}`, call), toolCall("t", "x", "{}"))
	r := vapiauth.Request{Method: http.MethodPost, Body: []byte(body)}
	if err := plan.Sign(&r, time.Now()); err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body))
	request.Header = r.Header
	request.Header.Set("Content-Type", "application/json")
	return request
}

// TestRotationUnderLoad rotates the credential repeatedly, in the way that docs/security.md describes, while Vapi and
// attackers send webhooks: no genuine webhook is refused, and no forged one is accepted. Like Lambda functions, the
// functions serve one request at a time, and each of them has read the secret at another time.
func TestRotationUnderLoad(t *testing.T) {
	previous := slog.Default() // secrets log there
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(previous)
	synctest.Test(t, func(t *testing.T) {
		generation := func(n int) vapiauth.Plan {
			value := fmt.Sprintf("planted-%d", n)
			return []vapiauth.Plan{
				{Type: "bearer", Token: value},
				{Type: "hmac", SecretKey: value, Algorithm: "sha256"},
				{Type: "secret", Secret: value},
				{Type: "bearer", Token: value, HeaderName: "X-Api-Key", BearerPrefixEnabled: new(false)},
			}[n%4]
		}
		manager := &secrets{plans: []vapiauth.Plan{generation(0)}}
		var logged bytes.Buffer
		var logging sync.Mutex
		log := slog.New(slog.NewJSONHandler(writer(func(p []byte) (int, error) {
			logging.Lock()
			defer logging.Unlock()
			return logged.Write(p)
		}), nil))
		q := new(counter)
		const functions = 6
		free := make(chan http.Handler, functions)
		for range functions {
			h, err := ack.New(ack.Config{Queue: q, Credential: manager.source(), Log: log})
			if err != nil {
				t.Fatal(err)
			}
			free <- functiontest.Gateway(deployment.WebhookRoute, h)
		}
		serve := func(r *http.Request) int {
			function := <-free
			defer func() { free <- function }()
			answer := httptest.NewRecorder()
			function.ServeHTTP(answer, r)
			return answer.Code
		}

		var sending sync.WaitGroup
		var vapiHas atomic.Int64 // the generation of the credential at Vapi
		var accepted, refused, stopped atomic.Int64
		send := func(name string) {
			n := int(vapiHas.Load())
			if status := serve(signed(t, generation(n), name)); status != http.StatusOK {
				t.Errorf("a genuine webhook of generation %d was answered with %d", n, status)
			}
			accepted.Add(1)
		}
		stop := make(chan struct{})
		every := func(pause time.Duration, do func(i int)) {
			sending.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(pause):
						do(i)
					}
				}
			})
		}
		for i := range 4 {
			every(time.Duration(700+70*i)*time.Millisecond, func(n int) { send(fmt.Sprint("call-", i, "-", n)) })
		}
		for i := range 2 {
			every(time.Duration(1900+130*i)*time.Millisecond, func(int) {
				guess := vapiauth.Plan{Type: "bearer", Token: "guessed"}
				if status := serve(signed(t, guess, "forged")); status != http.StatusUnauthorized {
					t.Errorf("a forged webhook was answered with %d", status)
				}
				refused.Add(1)
			})
		}

		for n := 1; n <= 8; n++ {
			before, after := generation(n-1), generation(n)
			manager.store(after, before) // 1. both are stored
			time.Sleep(10 * time.Second) // 2. from now on, a webhook with the new one makes a function read again
			vapiHas.Store(int64(n))      // 3. Vapi gets the new one
			time.Sleep(time.Minute)      // until no webhook with the old one is on its way
			manager.store(after)         // 4. the old one is removed
			// 5. after five minutes every function has read that
			time.Sleep(secret.MaxAge + time.Second)
			for range functions {
				if status := serve(signed(t, before, "late")); status != http.StatusUnauthorized {
					t.Errorf("a webhook with the credential before generation %d was answered with %d", n, status)
				}
				stopped.Add(1)
			}
		}
		// Between rotations, Secrets Manager can fail.
		manager.mu.Lock()
		manager.fail = true
		manager.mu.Unlock()
		time.Sleep(10 * time.Minute)
		close(stop)
		sending.Wait()
		if q.jobs.Load() != accepted.Load() || accepted.Load() < 5000 || refused.Load() < 1000 {
			t.Errorf("%d jobs of %d genuine webhooks; %d forged", q.jobs.Load(), accepted.Load(), refused.Load())
		}
		// A forged webhook makes a function read again, but not each of them does.
		if most := int(8*7*time.Minute+10*time.Minute)/int(10*time.Second)*functions + functions; manager.reads > most {
			t.Errorf("the secret was read %d times, want at most %d", manager.reads, most)
		}
		if strings.Contains(logged.String(), "planted-") || logged.Len() == 0 {
			t.Error("the log has a credential, or nothing")
		}
		t.Logf("%d genuine webhooks, %d forged, %d with an old credential, %d reads of the secret",
			accepted.Load(), refused.Load(), stopped.Load(), manager.reads)
	})
}

// TestRevokedCredential takes the secret away from a running function. The sender still knows the credential, and
// must not be served with a cached copy of it.
func TestRevokedCredential(t *testing.T) {
	previous := slog.Default() // secrets log there
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(previous)
	const served, unserved = http.StatusOK, http.StatusServiceUnavailable
	for name, row := range map[string]struct {
		code string                // of Secrets Manager's error
		err  error                 // instead of an answer
		want map[time.Duration]int // statuses, by the time since the last successful read
	}{
		"access is denied": {
			"AccessDeniedException", nil,
			map[time.Duration]int{secret.MaxAge - time.Second: served, secret.MaxAge: unserved, 2 * time.Hour: unserved},
		},
		"the secret is deleted": {
			"ResourceNotFoundException", nil,
			map[time.Duration]int{secret.MaxAge - time.Second: served, secret.MaxAge: unserved, 2 * time.Hour: unserved},
		},
		"Secrets Manager is down": {
			"", errors.New("no response"),
			map[time.Duration]int{secret.MaxAge: served, 59 * time.Minute: served, time.Hour: unserved, 2 * time.Hour: unserved},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := vapiauth.Plan{Type: "bearer", Token: "revoked"}
				manager := &secrets{plans: []vapiauth.Plan{plan}}
				h, err := ack.New(ack.Config{
					Queue: new(counter), Credential: manager.source(), Log: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				read := time.Now()
				if err := h.Warm(t.Context()); err != nil {
					t.Fatal(err)
				}
				manager.code, manager.err = row.code, row.err
				for _, at := range slices.Sorted(maps.Keys(row.want)) {
					time.Sleep(time.Until(read.Add(at)))
					answer := httptest.NewRecorder()
					h.ServeHTTP(answer, signed(t, plan, "call"))
					if answer.Code != row.want[at] {
						t.Errorf("after %s, the answer is %d, want %d", at, answer.Code, row.want[at])
					}
				}
			})
		})
	}
}
