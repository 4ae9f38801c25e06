package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

func TestLogsOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	const call = "planted-call"
	id := job.ID(call, "t", "approval", nil)
	waitingAs(t, table, id, call, "t")
	for _, name := range []string{"Ack", "Process", "Callback"} {
		a.outputs[name+"LogGroupName"] = "group-" + strings.ToLower(name)
	}
	now := time.Now()
	a.more = map[string]func([]byte) any{"Logs_20140328.FilterLogEvents": func(body []byte) any {
		var in struct{ LogGroupName string }
		_ = json.Unmarshal(body, &in)
		event := func(after time.Duration, text string) map[string]any {
			return map[string]any{
				"eventId": text, "timestamp": now.Add(after).UnixMilli(), "message": text + "\n",
			}
		}
		return map[string]any{"events": map[string][]map[string]any{
			"group-ack": {
				event(1*time.Second, `{"level":"INFO","message":"webhook accepted","call":"`+job.CallHash(call)+`"}`),
				event(2*time.Second, `{"level":"INFO","message":"another call","call":"x"}`),
			},
			"group-process": {
				event(3*time.Second, `{"level":"ERROR","message":"tool failed","job":"`+id+`","error":"\u001b[31m no"}`),
			},
			"group-callback": {event(2*time.Second, `{"level":"INFO","message":"outcome sent","job":"`+id+`"}`)},
		}[in.LogGroupName]}
	}}
	logs := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		out, errOut = runs(t, append([]string{"logs", "--stack", "Ringback"}, more...), code)
		if strings.Contains(out+errOut, call) || strings.Contains(out, "\x1b") || strings.Contains(out, "another call") {
			t.Errorf("%s%s", out, errOut)
		}
		return out, errOut
	}
	if _, err := jobtable.NewCallTracker(a.calls(t)).Live(t.Context(), call, now); err != nil {
		t.Fatal(err)
	}
	out, errOut := logs(0, "--call", call)
	if named, _ := logs(0, "--call", job.CallHash(call)); named != out {
		t.Errorf("by its name in the list:\n%sby its id:\n%s", named, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	stamp := now.Add(time.Second).Local().Format("2006-01-02 15:04:05.000")
	if len(lines) != 3 || lines[0] != stamp+"  ack       webhook accepted  call="+job.CallHash(call) ||
		!strings.Contains(lines[1], "  callback  outcome sent  job="+id) ||
		!strings.HasSuffix(lines[2], "  process   tool failed  job="+id+"  error=[31m no") {
		t.Errorf("%s%s", out, errOut)
	}
	out, _ = logs(0, "--job", id, "--json")
	if lines = strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 {
		t.Error(out)
	}
	for _, line := range lines {
		var object map[string]string
		if err := json.Unmarshal([]byte(line), &object); err != nil || object["job"] != id {
			t.Errorf("%v, %s", err, line)
		}
	}
	if out, errOut := logs(0, "--job", "j_x"); out != "" || !strings.Contains(errOut, "There are no such lines.") {
		t.Errorf("%q, %q", out, errOut)
	}
	for want, arguments := range map[string][]string{
		"--call":                 {},
		"can't be used together": {"--call", "a", "--job", "b"},
	} {
		if _, errOut := logs(80, arguments...); !strings.Contains(errOut, want) {
			t.Error(errOut)
		}
	}
	if _, errOut := logs(1, "--job", id, "--since=-1h"); !strings.Contains(errOut, "--since must be positive") {
		t.Error(errOut)
	}
	delete(a.outputs, "ProcessLogGroupName")
	if _, errOut := logs(1, "--job", id); !strings.Contains(errOut, "has no output ProcessLogGroupName") {
		t.Error(fmt.Sprint(errOut))
	}
}
