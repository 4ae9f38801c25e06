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

	"github.com/ringback/ringback/internal/job"
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
	reader := d.user(t, ctx, "reader", read)
	client, at := d.page(t, ctx, program, reader, "--stack", stack)
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
	const caller = "e2e-page"
	d.askManager(t, ctx, caller)
	waits, delivered := d.record(t, ctx, caller).ID, d.record(t, ctx, "e2e-result").ID
	changes := map[string]url.Values{
		"/ui/cancel/" + waits: {}, "/ui/complete/" + waits: {"text": {"Granted, by hand."}},
		"/ui/replay/" + delivered: {}, "/ui/redrive/" + delivered: {},
	}
	for path, values := range changes {
		if status, text := posted(t, client, at+path, values); status != http.StatusForbidden ||
			!strings.Contains(text, "read-only") {
			t.Errorf("%s in a read-only page: %d\n%s", path, status, text)
		}
	}
	// Without the permissions to write, --write changes nothing.
	client, at = d.page(t, ctx, program, reader, "--stack", stack, "--write")
	for path, values := range changes {
		if status, text := posted(t, client, at+path, values); status != http.StatusForbidden ||
			!strings.Contains(text, "OperatorWritePolicy") {
			t.Errorf("%s without the permission: %d\n%s", path, status, text)
		}
	}
	if state := d.record(t, ctx, caller).State; state != job.StateWaiting {
		t.Errorf("the job that waits is %s", state)
	}
	client, at = d.page(t, ctx, program, d.user(t, ctx, "writer", read, write), "--stack", stack, "--write")
	for _, row := range []struct {
		path   string
		status int
		want   string
	}{
		{"/ui/complete/" + waits, http.StatusOK, "The result is stored, and on its way to the call."},
		{"/ui/replay/" + delivered, http.StatusOK, "j_replay"},
		{"/ui/redrive/" + delivered, http.StatusConflict, "No message of the job is in a dead-letter queue"},
		{"/ui/cancel/" + delivered, http.StatusConflict, "The job has already finished: delivered"},
	} {
		if status, text := posted(t, client, at+row.path, changes[row.path]); status != row.status ||
			!strings.Contains(text, row.want) {
			t.Errorf("%s: %d, without %q\n%s", row.path, status, row.want, text)
		}
	}
	d.heardPart(t, ctx, caller, "Granted, by hand.")
	d.settled(t, ctx, caller, job.StateDelivered)
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

// posted submits a form of the page, and then the answer to its question if it asks. It returns the status and the
// text of what follows.
func posted(t *testing.T, client *http.Client, at string, values url.Values) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "http://"+request.URL.Host) // as a browser does
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if ticket := regexp.MustCompile(`name="agreed" value="(\w+)"`).FindSubmatch(text); ticket != nil {
		return posted(t, client, at, url.Values{"agreed": {string(ticket[1])}})
	}
	return answer.StatusCode, string(text)
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
