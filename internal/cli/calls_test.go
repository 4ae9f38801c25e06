package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
)

// ends stores a job that has ended.
func ends(t *testing.T, table *jobtable.Table, callID, toolCallID string, status job.Status, state job.State) string {
	t.Helper()
	time.Sleep(2 * time.Millisecond) // jobs that began in the same millisecond have no order
	now, id := time.Now(), job.ID(callID, toolCallID, "order_status", nil)
	j := job.Job{
		ID: id, Tool: "order_status", Call: job.Call{ID: callID, ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: now.Add(-3 * time.Second), CallEnds: now.Add(time.Hour),
	}
	r := job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now.Add(-2*time.Second), time.Minute)
	if _, err := table.Claim(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	result := job.Result{Status: status, Content: "planted result", Delivery: policy.DeliveryRespond}
	for _, rule := range []job.Rule{
		job.Finish(now, result, false, "planted reason"), job.ClaimDelivery(now, time.Minute),
		job.Settle(now, state, "call_gone: planted detail"),
	} {
		if _, err := table.Change(t.Context(), id, rule); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func TestCallsOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	const call = "planted-7420f27a"
	name := job.CallHash(call)
	ringback := func(code int, arguments ...string) string {
		t.Helper()
		out, errOut := runs(t, append(arguments, "--stack", "Ringback"), code)
		return out + errOut
	}
	for _, command := range []string{"calls list", "jobs list --failed"} {
		if got := ringback(0, strings.Fields(command)...); !strings.Contains(got, "There are no ") {
			t.Errorf("%s: %s", command, got)
		}
	}
	calls := a.calls(t)
	admit := func(callID string, at time.Time) {
		t.Helper()
		if _, err := jobtable.NewCallTracker(calls).Live(t.Context(), callID, at); err != nil {
			t.Fatal(err)
		}
	}
	admit("planted-old", time.Now().Add(-25*time.Hour))
	admit("planted-silent", time.Now().Add(-2*time.Hour))
	admit(call, time.Now().Add(-4*time.Second))
	delivered := ends(t, table, call, "a", job.StatusOK, job.StateDelivered)
	failed := ends(t, table, call, "b", job.StatusError, job.StateDelivered)
	lost := ends(t, table, call, "c", job.StatusOK, job.StateUndelivered)
	old := ends(t, table, "planted-old", "d", job.StatusError, job.StateDelivered)

	for _, row := range []struct {
		command string
		shows   []string // regular expressions
		never   []string
	}{
		{"calls list", []string{
			`(?m)^\S+ \S+  ` + name + `  live           \d`,
			`1 delivered; 1 failed, delivered; 1 not delivered \(the call has ended\)`,
			job.CallHash("planted-old") + `  live           1 failed, delivered`, // its job is new
			job.CallHash("planted-silent") + `  end not known  none`,
		}, []string{"planted"}},
		{"calls list --since 1h --limit 1", []string{name, "There are more calls"}, []string{job.CallHash("planted-old")}},
		{"calls list --since 1h", []string{name}, []string{job.CallHash("planted-old"), "more calls"}},
		{"calls list --data", []string{call, "planted-old"}, nil},
		{"calls show " + name, []string{
			`call +` + name + `\n`, `(?m)^1  ` + delivered + `  order_status  delivered$`,
			`(?m)^2  ` + failed + `  order_status  failed, delivered$`, `\+0s +1 order_status  webhook received\n`,
			`\+([3-9]|\d\d+)[.0-9]*s +2 order_status  failed \(error\)\n`,
			`3 order_status  not delivered: undelivered event \(the call has ended\)\n`,
		}, []string{"planted"}},
		{"calls show " + call + " --data", []string{`id at Vapi  ` + call}, []string{"planted result", "planted reason"}},
		{"jobs list --since 1h", []string{
			delivered, failed, lost, "Searched: 3 jobs of the calls since 2",
		}, []string{old, "planted"}},
		{"jobs list --failed", []string{failed + `  order_status  failed, delivered`}, []string{delivered, lost, old}},
		{"jobs list --failed --since 48h", []string{failed, old, "Searched: 4 jobs"}, []string{delivered, lost}},
		{"jobs list --failed --undelivered", []string{failed, lost}, []string{delivered}},
		{"jobs list --tool other", []string{"There are no jobs", "Searched: 3 jobs"}, []string{delivered}},
		{"jobs list --call " + name, []string{
			"this call is call=" + name + `\.`, delivered, failed, lost,
		}, []string{old, "planted"}},
		{"jobs list --call " + call + " --failed", []string{failed}, []string{delivered, lost}},
		{"jobs show " + failed, []string{
			`state +failed, delivered\n`, `(?m)^\S+ \S+  \+0s +webhook received$`, `(?m)^\S+ \S+  \+1s +tool started$`,
			`failed \(error\)\n`, `delivery attempt\n`, `delivered\n$`,
		}, []string{"planted result"}},
	} {
		got := ringback(0, strings.Fields(row.command)...)
		for _, part := range row.shows {
			if !regexp.MustCompile(part).MatchString(got) {
				t.Errorf("%s does not show %s:\n%s", row.command, part, got)
			}
		}
		for _, part := range append(row.never, "/control") {
			if strings.Contains(got, part) {
				t.Errorf("%s shows %s:\n%s", row.command, part, got)
			}
		}
	}

	var list struct {
		Calls []struct {
			Call, ID string
			Jobs     []struct {
				ID, Status, Why, State string
				Failed                 *bool
			}
		}
		All bool
	}
	out, _ := runs(t, []string{"calls", "list", "--json", "--stack", "Ringback"}, 0)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Calls) != 3 || !list.All ||
		list.Calls[0].ID != "" || list.Calls[0].Call != name || list.Calls[0].Jobs[2].Why != "call_gone" ||
		list.Calls[0].Jobs[1].Status != "error" {
		t.Errorf("%v, %s", err, out)
	}
	for i, x := range list.Calls[0].Jobs { // a failed job looks like no other one
		if want := i == 1; x.Failed == nil || *x.Failed != want {
			t.Errorf("job %d, which is %s: failed is %v, want %t", i, x.State, x.Failed, want)
		}
	}
	out, _ = runs(t, []string{"jobs", "show", failed, "--json", "--stack", "Ringback"}, 0)
	if !strings.Contains(out, `"failed": true`) {
		t.Error(out)
	}
	for command, want := range map[string]string{
		"calls show unknown":                         `there is no call "unknown" with jobs, or its records have expired`,
		"jobs list --call 0123456789abcdef":          `there is no call "0123456789abcdef" with jobs`,
		"jobs list --follow --call 0123456789abcdef": `there is no call "0123456789abcdef" with jobs`,
		"calls list --limit 0":                       "--limit is 0; it must be between 1 and 1000",
		"jobs list --since=-1h":                      "--since is negative; use a time such as 1h",
		"jobs list --follow --addr x":                "--addr requires --local",
	} {
		if got := ringback(1, strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("%s: %s", command, got)
		}
	}
}

// TestFollowJobs follows the jobs of a local run, until it is interrupted.
func TestFollowJobs(t *testing.T) {
	withoutSettings(t)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Hour})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	if code, out, errOut := run(t, "send", "../../events/vapi/notify-when-ready.json", "--url", at); code != 0 {
		t.Fatalf("code %d, %s%s", code, out, errOut)
	}
	c := start(t, shop.All, "jobs", "list", "--local", "--addr", addr, "--follow", "--json")
	id := c.shows(`"id":"(j_\w+)","tool":"notify_when_ready","state":"waiting"`)[1]
	listed, _ := runs(t, []string{"calls", "list", "--local", "--addr", addr}, 0)
	if !regexp.MustCompile(`  [0-9a-f]{16}  live   1 waiting\n$`).MatchString(listed) {
		t.Error(listed)
	}
	runs(t, []string{"jobs", "cancel", id, "--local", "--addr", addr}, 0)
	c.shows(fmt.Sprintf(`"id":"%s".*"state":"delivered".*"failed":false,"cancelledBy":"operator"`, id))
	c.end(syscall.SIGINT)
	if n := strings.Count(c.out.String(), `"state":"waiting"`); n != 1 {
		t.Errorf("an unchanged job was printed %d times:\n%s", n, c.out.String())
	}
}

// TestFollowSomeJobs follows jobs, and there are more.
func TestFollowSomeJobs(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	addr := hostOf(serveOwn(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Ringback-Local", "jobs")
		fmt.Fprint(w, `{"jobs":[],"loaded":1000,"all":false}`)
	})))
	for name, want := range map[string]string{
		"":       "There are more jobs. The command searches the newest 1000. Use a shorter --since.\n",
		"a call": "The call has more jobs. The command reads the newest 100.\n",
	} {
		c := start(t, shop.All, "jobs", "list", "--local", "--addr", addr, "--follow", "--call", name)
		for end := time.Now().Add(patience); c.errOut.String() == "" && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if c.end(syscall.SIGINT); c.errOut.String() != want {
			t.Errorf("%q: %q", name, c.errOut.String())
		}
	}
}

// TestTimelineOfDifferentClocks shows the steps of a job in their order, although the second one seems the first.
func TestTimelineOfDifferentClocks(t *testing.T) {
	a, table := inAccount(t)
	const call = "planted-call"
	now := time.Now()
	if _, err := jobtable.NewCallTracker(a.calls(t)).Live(t.Context(), call, now); err != nil {
		t.Fatal(err)
	}
	j := job.Job{
		ID: job.ID(call, "t", "order_status", nil), Tool: "order_status", Call: job.Call{ID: call},
		ReceivedAt: now.Add(-2 * time.Second), CallEnds: now.Add(time.Hour),
	}
	first := job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now, time.Minute)
	if _, err := table.Claim(t.Context(), first.Queued(j.ReceivedAt.Add(-time.Millisecond))); err != nil {
		t.Fatal(err)
	}
	out, _ := runs(t, []string{"calls", "show", call, "--stack", "Ringback"}, 0)
	const want = `\+0s +1 order_status  webhook received\n.* \+0s +1 order_status  queued\n` +
		`.* \+2s +1 order_status  tool started\n`
	if !regexp.MustCompile(want).MatchString(out) {
		t.Error(out)
	}
}
