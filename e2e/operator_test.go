//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/job"
)

// ringback runs the command line of the project, and returns what it prints.
func (d *deployment) ringback(t *testing.T, ctx context.Context, arguments ...string) string {
	t.Helper()
	arguments = append([]string{"run", "./cmd/ringback"}, append(arguments, "--stack", stack)...)
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir, command.Env = d.project, slices.Concat(d.env, []string{
		"ORDERS_API_URL=" + d.server.URL, "REQUESTS_API_URL=" + d.server.URL, "E2E_URL=" + d.server.URL,
	})
	var errOut bytes.Buffer
	command.Stderr = &errOut
	out, err := command.Output()
	if err != nil {
		t.Fatalf("ringback %s: %v\n%s%s", strings.Join(arguments[2:], " "), err, out, errOut.Bytes())
	}
	return string(out)
}

// deadLetters redrives the job that failed for good. Its failure was delivered before the deadline, so its message is
// deleted, and nothing else happens: see [deployment.nothingMore].
func (d *deployment) deadLetters(t *testing.T, ctx context.Context, id string) {
	type letter struct {
		ID, Job, Tool, Loss, Why string
		State                    job.State
	}
	eventually(t, ctx, d.jobs(t).deadLetter(), "the failed job in the list", func() error {
		var list struct{ Letters []letter }
		text := d.ringback(t, ctx, "dead", "list", "--json")
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Letters, func(l letter) bool {
			return l.Job == id && l.State == job.StateDelivered && l.Loss == "nothing" && strings.Contains(l.Why, "times: ")
		}) {
			return fmt.Errorf("it has %s", text)
		}
		return nil
	})
	if shown := d.ringback(t, ctx, "dead", "show", id); strings.Contains(shown, "BROKEN") {
		t.Errorf("it shows an argument:\n%s", shown)
	}
	if out := d.ringback(t, ctx, "dead", "redrive", id); out != "Redriven: 1 messages.\n" {
		t.Errorf("redrive: %q", out)
	}
	eventually(t, ctx, d.resultWait(t), "an empty dead-letter queue", func() error {
		visible, hidden, _, err := d.messages(ctx, d.outputs["JobsDeadLettersUrl"])
		if err == nil && visible+hidden > 0 {
			err = fmt.Errorf("it has %d visible and %d hidden messages", visible, hidden)
		}
		return err
	})
}

// allEvents returns the address of a server that passes the emulator's log events on, as AWS would. The emulator takes
// the optional terms of a filter pattern as required ones, so the pattern is removed. The command itself selects the
// lines once more. The emulator's events have no ids, so they get some.
func (d *deployment) allEvents(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var input map[string]any
		err := json.NewDecoder(r.Body).Decode(&input)
		if pattern, _ := input["filterPattern"].(string); pattern == "" || err != nil {
			t.Errorf("a request without a filter pattern: %v, %v", input, err)
		}
		delete(input, "filterPattern")
		body, err := json.Marshal(input)
		if err != nil {
			t.Error(err)
		}
		request, err := http.NewRequestWithContext(r.Context(), r.Method, d.endpoint+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		request.Header = r.Header.Clone()
		request.Header.Del("Content-Length")
		answer, err := d.client.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		var output struct {
			Events []map[string]any `json:"events"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&output); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("the emulator answered %s, %v", answer.Status, err)
		}
		for i := range output.Events {
			output.Events[i]["eventId"] = fmt.Sprint(i)
		}
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		json.NewEncoder(w).Encode(output)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// logsOfACall prints what the functions have logged about one call.
func (d *deployment) logsOfACall(t *testing.T, ctx context.Context) {
	t.Helper()
	before := d.env
	defer func() { d.env = before }()
	d.env = append(slices.Clone(before), "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS="+d.allEvents(t))
	out := d.ringback(t, ctx, "logs", "--call", "e2e-result", "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	id := d.record(t, ctx, "e2e-result").ID
	if !strings.Contains(out, "tool finished") || !strings.Contains(out, "outcome delivered") {
		t.Errorf("the log of the call lacks a function:\n%s", out)
	}
	for _, line := range lines {
		if !strings.Contains(line, id) && !strings.Contains(line, job.CallHash("e2e-result")) {
			t.Errorf("a line of another call: %s", line)
		}
	}
}

// replay runs the tool of a delivered job once more, in this process. The call does not hear of it.
func (d *deployment) replay(t *testing.T, ctx context.Context) {
	t.Helper()
	heard := len(d.heard("e2e-result"))
	out := d.ringback(t, ctx, "jobs", "replay", d.record(t, ctx, "e2e-result").ID, "--yes", "--json")
	if !strings.Contains(out, `"jobId":"j_replay`) || !strings.Contains(out, `"event":"result"`) {
		t.Errorf("the replay printed:\n%s", out)
	}
	if again := len(d.heard("e2e-result")); again != heard {
		t.Errorf("the call heard %d messages, and %d after the replay", heard, again)
	}
}
