//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shownInBrowser serves the page of the deployment with exactly the permissions of its outputs, and reads each kind of
// page. Only with --write, and the permissions for it, a job can be changed.
func (d *deployment) shownInBrowser(t *testing.T, ctx context.Context) {
	program := filepath.Join(d.folder, "ringback")
	run(t, ctx, d.project, os.Environ(), "go", "build", "-o", program, "./cmd/ringback")
	read, write := d.outputs["OperatorReadPolicy"], d.outputs["OperatorWritePolicy"]
	if read == "" || write == "" {
		t.Fatalf("the policies are %q and %q", read, write)
	}
	client, at := d.page(t, ctx, program, d.user(t, ctx, "reader", read), "--stack", stack)
	get := func(path, pattern string) string {
		t.Helper()
		answer, err := client.Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		found := regexp.MustCompile(pattern).FindSubmatch(body)
		if err != nil || answer.StatusCode != http.StatusOK || found == nil {
			t.Fatalf("%s: %s, %v, without %s:\n%s", path, answer.Status, err, pattern, body)
		}
		if strings.Contains(string(body), number) || strings.Contains(string(body), other) {
			t.Errorf("%s contains the number of a caller", path)
		}
		return string(found[len(found)-1])
	}
	get(get("/", `hx-get="(/ui/row/[^"?]*)\?`), "<b>1</b>")
	call := get("/?tool=order_status", `href="(/ui/calls/[^"]*)"`)
	id := get(call, `href="(/ui/jobs/[^"]*)"`)
	get(id, "Webhook received")
	get("/ui/tools", "order_status")
	get("/ui/undelivered", "Undelivered")
	cancel := "/ui/cancel/" + strings.TrimPrefix(id, "/ui/jobs/")
	if status := posted(t, client, at+cancel); status != http.StatusForbidden {
		t.Errorf("a read-only page cancels a job: %d", status)
	}
	client, at = d.page(t, ctx, program, d.user(t, ctx, "writer", read, write), "--stack", stack, "--write")
	if status := posted(t, client, at+cancel); status != http.StatusConflict {
		t.Errorf("the answer to the cancellation of a finished job: %d", status)
	}
}

// page starts ringback ui with credentials, and returns a client that has opened its link, and the page's address.
func (d *deployment) page(
	t *testing.T, ctx context.Context, program string, credentials []string, flags ...string,
) (*http.Client, string) {
	t.Helper()
	command := exec.CommandContext(ctx, program, append([]string{"ui"}, flags...)...)
	command.Dir = d.folder
	command.Env = append(slices.Clone(d.env), credentials...)
	command.Stderr = d.screen(t, "ui")
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	link, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("ringback ui printed no link: %v, %s", err, shown(t, command.Stderr.(*os.File)))
	}
	u, err := url.Parse(strings.TrimSpace(link))
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	answer, err := client.Get(u.String())
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the link: %s", answer.Status)
	}
	return client, u.Scheme + "://" + u.Host
}

// posted submits a form of the page without inputs, and returns the status of the answer.
func posted(t *testing.T, client *http.Client, at string) int {
	t.Helper()
	answer, err := client.Post(at, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// user returns the credentials of a user with policies.
func (d *deployment) user(t *testing.T, ctx context.Context, name string, policies ...string) []string {
	t.Helper()
	_, _ = d.query(ctx, "iam", iamVersion, "CreateUser", "UserName", name) // it may exist
	for i, document := range policies {
		// A user who may send a message may send a batch: see permitEmulator.
		document = strings.ReplaceAll(document, `"sqs:SendMessage"`, `"sqs:SendMessage","sqs:SendMessageBatch"`)
		if _, err := d.query(ctx, "iam", iamVersion, "PutUserPolicy", "UserName", name,
			"PolicyName", fmt.Sprint(name, i), "PolicyDocument", document); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := d.query(ctx, "iam", iamVersion, "CreateAccessKey", "UserName", name)
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	if err := xml.Unmarshal(answer, &key); err != nil || key.ID == "" {
		t.Fatalf("%v: %s", err, answer)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + key.ID, "AWS_SECRET_ACCESS_KEY=" + key.Secret}
}
