package cli_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// waits records the waits of a command, and does not wait.
func waits(t *testing.T) *[]time.Duration {
	var all []time.Duration
	t.Cleanup(cli.SetSleep(func(_ context.Context, d time.Duration) error {
		all = append(all, d)
		return nil
	}))
	return &all
}

// TestRotateCommand rotates a credential that sync refuses, because it is too short. The first run is interrupted.
func TestRotateCommand(t *testing.T) {
	account := atVapi(t)
	secret := deployed(t, `{"type":"bearer","token":"t0ken"}`)
	waited := waits(t)
	plain := []string{"sync", "--stack", "Ringback", "--yes"}
	rotate := []string{"sync", "--stack", "Ringback", "--rotate", "hmac"}

	_, errOut := runs(t, plain, 1)
	if !strings.Contains(errOut, "token has fewer than 24 characters") ||
		!strings.Contains(errOut, "ringback sync --rotate hmac replaces it") {
		t.Error(errOut)
	}
	before, _ := secret.Current()
	_, errOut = runs(t, rotate, 1, "~ secret: store a new credential of type hmac beside the old one of type bearer",
		"~ secret: wait 15s, until functions read it, and make the changes at Vapi",
		"~ secret: wait 1m27s, until no webhook with the old one is in flight, and remove the old one from the secret")
	if !strings.Contains(errOut, "nothing was changed: there is no terminal to ask on") {
		t.Error(errOut)
	}
	runs(t, append(rotate, "--dry-run"), 0, "Dry run: nothing was changed.")
	if text, labels := secret.Current(); text != before || len(labels) != 1 {
		t.Errorf("stored %s with %q", text, labels)
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("wrote %v", writes)
	}

	rotate = append(rotate, "--yes")
	// The credential cannot be created at Vapi.
	account.Fail(4, fakevapi.FailureForbidden, false)
	_, errOut = runs(t, rotate, 1, "stored the new credential beside the old one")
	if !strings.Contains(errOut, "run the command again to continue from here") {
		t.Error(errOut)
	}
	both, _ := secret.Current()
	out, _ := runs(t, rotate, 0, "~ secret: a rotation is under way: the secret holds two credentials, of types hmac and "+
		"bearer, and Vapi does not send the first one yet", "created the credential ringback ",
		"bound the secret to the organisation "+fakevapi.OrgID, "removed the old credential")
	after, labels := secret.Current()
	plans, err := vapiauth.ParsePlans([]byte(after))
	if err != nil || len(plans) != 1 || both != "["+after+","+before+"]" {
		t.Errorf("stored %s, and then %s", both, after)
	}
	if want := []string{"AWSCURRENT", "ringback/organisation/" + fakevapi.OrgID}; !slices.Equal(labels, want) {
		t.Errorf("the labels are %q", labels)
	}
	if credential := string(account.Objects("credential")[0]); !strings.Contains(credential, plans[0].SecretKey) {
		t.Errorf("Vapi has %s", credential)
	}
	if strings.Contains(out, plans[0].SecretKey) {
		t.Errorf("the output has the new key:\n%s", out)
	}
	if want := []time.Duration{15 * time.Second, 15 * time.Second, 87 * time.Second}; !slices.Equal(*waited, want) {
		t.Errorf("waited %v, want %v", *waited, want)
	}
	runs(t, plain, 0, "Nothing to change.")
}

// TestRotateCommandStrands meets a tool that posts with another credential, and would be refused.
func TestRotateCommandStrands(t *testing.T) {
	account := atVapi(t)
	waits(t)
	secret := deployed(t, bearer)
	account.Add("tool", `{"type":"function","function":{"name":"theirs"},"server":{"url":"`+hook+`","credentialId":"c"}}`)
	_, errOut := runs(t, []string{"sync", "--stack", "Ringback", "--rotate", "hmac", "--yes"}, 1,
		"conflict: the tool theirs")
	if !strings.Contains(errOut, "nothing was changed: the webhooks of 1 tools or assistants would be refused") {
		t.Error(errOut)
	}
	if text, _ := secret.Current(); text != bearer || len(fakevapi.Writes(account.Requests())) > 0 {
		t.Errorf("stored %s", text)
	}
}

// TestSyncBinds binds the secret to the organisation, and then uses the private key of another one.
func TestSyncBinds(t *testing.T) {
	account := atVapi(t)
	secret := deployed(t, bearer)
	plain := []string{"sync", "--stack", "Ringback", "--yes"}
	runs(t, plain, 0, "Organisation at Vapi: unknown",
		"~ secret: refuse the webhooks of organisations other than this one\n",
		"bound the secret to the organisation "+fakevapi.OrgID)
	if text, labels := secret.Current(); text != bearer || len(labels) != 2 {
		t.Errorf("stored %s with %q", text, labels)
	}
	if out, _ := runs(t, plain, 0); out != "Nothing to change.\n" {
		t.Error(out)
	}

	other := atVapi(t) // another account, which is empty
	_, errOut := runs(t, plain, 1)
	if !strings.Contains(errOut, "the private key belongs to another organisation at Vapi "+
		"(it is unknown, because it has no objects) than the deployment's secret ("+fakevapi.OrgID+")") ||
		!strings.Contains(errOut, "--add-organisation") {
		t.Error(errOut)
	}
	const otherOrg = "11111111-2222-4333-8444-555555555555"
	other.Add("tool", `{"type":"function","function":{"name":"theirs"},"orgId":"`+otherOrg+`"}`)
	_, errOut = runs(t, plain, 1)
	if !strings.Contains(errOut, "(it is "+otherOrg+")") || len(fakevapi.Writes(other.Requests())) > 0 {
		t.Error(errOut)
	}
	runs(t, append(plain, "--add-organisation"), 0,
		"refuse the webhooks of organisations other than "+fakevapi.OrgID+", "+otherOrg+"\n")
	if _, labels := secret.Current(); !slices.Contains(labels, "ringback/organisation/"+otherOrg) || len(labels) != 3 {
		t.Errorf("the labels are %q", labels)
	}
	if len(account.Objects("tool")) != len(toolNames(t)) {
		t.Error("the first organisation has changed")
	}
	// By hand, an operator stores another credential, which loses the labels.
	secret.Put("by-hand", hmac)
	runs(t, plain, 0, "bound the secret to the organisation ")
}
