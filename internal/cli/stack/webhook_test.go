package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/vapi/vapiauth"
)

const stored = `{"type":"bearer","token":"t0ken"}`

// secretOf returns the secret of a stack, and what was read of it.
func secretOf(t *testing.T, simulated *stacktest.Secret) (*stack.Secret, wiring.Stored) {
	t.Helper()
	a := account{outputs: map[string]string{"WebhookUrl": hook, "WebhookSecretArn": arn}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stacktest.Serves(r) {
			simulated.ServeHTTP(w, r)
			return
		}
		a.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, secret, err := stack.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}, "Ringback").Webhook(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	read, err := secret.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return secret, read
}

func checkSecret(t *testing.T, simulated *stacktest.Secret, wantText string, wantLabels ...string) {
	t.Helper()
	text, labels := simulated.Current()
	if text != wantText || !slices.Equal(labels, append([]string{"AWSCURRENT"}, wantLabels...)) {
		t.Errorf("stored %s with the labels %q, want %s with %q", text, labels, wantText, wantLabels)
	}
}

var newPlan = vapiauth.Plan{Type: "bearer", Token: "n3w"}

// TestReplace rotates a secret that is bound to an organisation.
func TestReplace(t *testing.T) {
	simulated := stacktest.NewSecret(stored)
	secret, first := secretOf(t, simulated)
	if err := secret.Bind(t.Context(), first, "org-1"); err != nil {
		t.Fatal(err)
	}
	if err := secret.Replace(t.Context(), first, []vapiauth.Plan{newPlan, first.Plans[0]}); err != nil {
		t.Fatal(err)
	}
	checkSecret(t, simulated, `[{"type":"bearer","token":"n3w"},`+stored+`]`, "ringback/organisation/org-1")
	second, err := secret.Read(t.Context())
	if err != nil || !slices.Equal(second.Organisations, []string{"org-1"}) || second.Version == first.Version {
		t.Errorf("%+v, %v", second, err)
	}
	if err := secret.Replace(t.Context(), second, second.Plans[:1]); err != nil {
		t.Fatal(err)
	}
	checkSecret(t, simulated, `{"type":"bearer","token":"n3w"}`, "ringback/organisation/org-1")
	if err := secret.Replace(t.Context(), second, first.Plans); !errors.Is(err, wiring.ErrChanged) {
		t.Errorf("a secret that has changed was replaced: %v", err)
	}
}

// TestReplaceTwice lets two runs replace the same version at the same moment, after both have read it.
func TestReplaceTwice(t *testing.T) {
	simulated := stacktest.NewSecret(stored)
	secret, first := secretOf(t, simulated)
	if err := secret.Replace(t.Context(), first, []vapiauth.Plan{newPlan}); err != nil {
		t.Fatal(err)
	}
	simulated.Put(first.Version, stored) // what the second run has read
	other := vapiauth.Plan{Type: "bearer", Token: "0ther"}
	if err := secret.Replace(t.Context(), first, []vapiauth.Plan{other}); !errors.Is(err, wiring.ErrChanged) {
		t.Errorf("%v", err)
	}
}

func TestBind(t *testing.T) {
	simulated := stacktest.NewSecret(stored)
	secret, first := secretOf(t, simulated)
	bind := func(to wiring.Stored, organisation string) {
		t.Helper()
		if err := secret.Bind(t.Context(), to, organisation); err != nil {
			t.Fatal(err)
		}
	}
	bind(first, "org-1")
	bind(first, "org-2")
	bind(first, "org-2") // again
	checkSecret(t, simulated, stored, "ringback/organisation/org-1", "ringback/organisation/org-2")
	// By hand, an operator stores another credential. The labels stay at the old version.
	simulated.Put("v-2", `{"type":"bearer","token":"by hand"}`)
	second, err := secret.Read(t.Context())
	if err != nil || len(second.Organisations) > 0 {
		t.Fatalf("%+v, %v", second, err)
	}
	bind(second, "org-1")
	checkSecret(t, simulated, `{"type":"bearer","token":"by hand"}`, "ringback/organisation/org-1")
	if slices.Contains(simulated.Requests(), "PutSecretValue") {
		t.Error("the value was written")
	}
}

func TestSecretIsDenied(t *testing.T) {
	for action, call := range map[string]func(*stack.Secret, wiring.Stored) error{
		"PutSecretValue": func(s *stack.Secret, stored wiring.Stored) error {
			return s.Replace(t.Context(), stored, []vapiauth.Plan{newPlan})
		},
		"DescribeSecret": func(s *stack.Secret, stored wiring.Stored) error {
			return s.Bind(t.Context(), stored, "org-1")
		},
		"UpdateSecretVersionStage": func(s *stack.Secret, stored wiring.Stored) error {
			return s.Bind(t.Context(), stored, "org-1")
		},
	} {
		simulated := stacktest.NewSecret(stored)
		simulated.Deny(action)
		secret, read := secretOf(t, simulated)
		err := call(secret, read)
		if err == nil || !strings.Contains(err.Error(), "the stack Ringback: AccessDeniedException") ||
			strings.Contains(fmt.Sprint(err), "n3w") {
			t.Errorf("%s: %v", action, err)
		}
		checkSecret(t, simulated, stored)
	}
}
