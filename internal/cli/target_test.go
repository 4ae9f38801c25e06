package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// webhookOf makes the command line use an AWS account with the stack Ringback, whose webhook accepts a
// credential. It returns the bodies that the webhook received.
func webhookOf(t *testing.T, credential, organisation string) *[]string {
	t.Helper()
	var received []string
	plans, err := vapiauth.ParsePlans([]byte(credential))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := vapiauth.NewVerifier(plans...)
	if err != nil {
		t.Fatal(err)
	}
	var address string
	webhook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		signed := vapiauth.Request{Method: r.Method, URL: address, Header: r.Header, Body: body}
		if err := verifier.Verify(signed, time.Now()); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		received = append(received, string(body))
		fmt.Fprint(w, `{"results":[]}`)
	}))
	t.Cleanup(webhook.Close)
	address = webhook.URL
	secret := stacktest.NewSecret(credential)
	if organisation != "" {
		secret.Label(deployment.OrganisationLabel(organisation))
	}
	useAWS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stacktest.Serves(r) {
			secret.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		outputs := map[string]string{"WebhookUrl": address, "WebhookSecretArn": "arn"}
		switch form.Get("StackName") {
		case "Ringback-jwt":
			delete(outputs, "WebhookSecretArn")
		case "Ringback-http":
			outputs["WebhookUrl"] = "http://hooks.example.com/vapi"
		}
		writeStack(w, outputs)
	}))
	return &received
}

// TestSendToAStack takes the URL and the credential from the stack.
func TestSendToAStack(t *testing.T) {
	file, err := os.ReadFile(toolCalls)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		credential string
		env        []string
		arguments  []string
		code       int
		says       string
	}{
		"bearer":            {credential: bearer},
		"hmac":              {credential: hmac},
		"during a rotation": {credential: "[" + hmac + "," + bearer + "]"},
		"no default of WEBHOOK_AUTH": {
			credential: bearer, env: []string{"WEBHOOK_AUTH", `{"type":"bearer","token":"another"}`},
		},
		"another credential": {credential: bearer, arguments: []string{"--bearer", "another"}, code: 1, says: "401"},
		"a URL as well": {
			credential: bearer, arguments: []string{"--url", "https://example.com"}, code: 80,
			says: "--url and --stack can't be used together",
		},
		"not encrypted": {
			credential: bearer, arguments: []string{"--stack", "Ringback-http"}, code: 1,
			says: "the webhook of the stack Ringback-http has no URL with https://",
		},
		"OAuth2": {
			credential: bearer, arguments: []string{"--stack", "Ringback-jwt"}, code: 1,
			says: "API Gateway verifies OAuth2 tokens: use --bearer with a token of the issuer",
		},
		"OAuth2 with a token": {
			credential: bearer, arguments: []string{"--stack", "Ringback-jwt", "--bearer", hookToken},
		},
	} {
		t.Run(name, func(t *testing.T) {
			received := webhookOf(t, row.credential, "")
			arguments := append([]string{"send", toolCalls, "--stack", "Ringback"}, row.arguments...)
			code, out, errOut := runIn(t, row.env, arguments...)
			if code != row.code || !strings.Contains(errOut, row.says) {
				t.Errorf("code %d, out %q, err %q", code, out, errOut)
			}
			switch {
			case row.code == 0 && (len(*received) != 1 || (*received)[0] != string(file)):
				t.Errorf("the webhook received %q", *received)
			case row.code != 0 && len(*received) > 0:
				t.Errorf("the webhook accepted %q", *received)
			}
		})
	}
}

// TestSendToABoundStack posts a webhook of another organisation than the one that the secret is bound to,
// such as a sample.
func TestSendToABoundStack(t *testing.T) {
	const organisation = "b0b1c2d3-52a4-4f0e-9a47-7a1c6f9f1c11"
	received := webhookOf(t, bearer, organisation)
	for _, file := range []string{"spending-report.json", "no-wrapper.json", "tool-calls.json"} {
		if code, _, errOut := run(t, "send", "../../events/vapi/"+file, "--stack", "Ringback"); code != 0 {
			t.Fatalf("%s: code %d, err %q", file, code, errOut)
		}
		var webhook struct {
			Call    struct{ OrgID string }
			Message struct{ Call struct{ OrgID string } }
		}
		if err := json.Unmarshal([]byte((*received)[len(*received)-1]), &webhook); err != nil {
			t.Fatal(err)
		}
		if id := webhook.Call.OrgID + webhook.Message.Call.OrgID; id != organisation && id != "" {
			t.Errorf("%s: the call belongs to %s", file, id)
		}
	}
}
