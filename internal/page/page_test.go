package page_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/page"
	"github.com/ringback/ringback/internal/policy"
)

// sleeps is a tool that takes some seconds.
func sleeps(name string, d time.Duration) asynctool.Definition {
	return asynctool.Tool[struct {
		Order string `json:"order" jsonschema:"the number of the order"`
	}]{
		Name: name, Description: "Takes a while.",
		Run: func(ctx context.Context, call asynctool.Call, in struct {
			Order string `json:"order" jsonschema:"the number of the order"`
		}) (asynctool.Result, error) {
			call.Progress(ctx, "It has begun.")
			time.Sleep(d)
			return asynctool.Text("Order " + in.Order + " is ready. Call +49 30 901820."), nil
		},
	}
}

// flaky is a tool whose first attempt fails.
var flaky = asynctool.Tool[struct{}]{
	Name: "flaky", Description: "Fails first.", Attempts: 2,
	Run: func(_ context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
		if call.Attempt == 1 {
			return asynctool.Result{}, asynctool.TryAgain(2*time.Second, "", errors.New("answered 503"))
		}
		return asynctool.Text("At last."), nil
	},
}

// approval is a tool that waits for an external system.
var approval = asynctool.Tool[struct{}]{
	Name: "approval", Description: "Waits for an approval.", Deadline: time.Hour,
	Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
		_, err := call.CompletionURL(ctx)
		return asynctool.Wait(), err
	},
}

// TestOneCall follows a call with four jobs through all pages: one is in time, one is late, one is repeated and one
// waits.
func TestOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sleeps("quick", time.Second), sleeps("slow", 10*time.Second), flaky, approval)
		contains(t, get(t, w.local, "/"), "No call yet", "ringback call NAME")
		contains(t, get(t, w.deployed, "/"), "No call yet", "ringback doctor --stack Ringback")
		contains(t, get(t, w.local, "/ui/undelivered"), "Everything was delivered", "--hang-up-after")
		w.run()
		w.calls("c", "quick", `{"order":"A-1"}`, "slow", `{"order":"A-2"}`, "flaky", "{}", "approval", "{}")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		body := get(t, w.local, "/ui/calls/"+job.CallHash("c"))
		contains(t, body, `<span class="status busy">live</span>`, "Hang up", `class="bar run open"`)
		if strings.Contains(body, "hang-up</text>") {
			t.Error("the call has ended")
		}
		w.hangUp("c")
		time.Sleep(20 * time.Second)
		synctest.Wait()

		for name, p := range map[string]*page.Page{"local": w.local, "deployed": w.deployed} {
			t.Log(name)
			func() {
				list := get(t, p, "/")
				key := regexp.MustCompile(`hx-get="(/ui/row/[^"?]*)\?`).FindStringSubmatch(list)
				if key == nil {
					t.Fatal(list)
				}
				contains(t, get(t, p, key[1]), "ended", "<b>2</b> delivered", "<b>1</b> not delivered", "<b>1</b> waiting",
					"A result was not delivered", "quick, slow, flaky, approval")
				contains(t, get(t, p, "/"), "<b>2</b> delivered") // read before

				body := get(t, p, "/ui/calls/"+job.CallHash("c"))
				contains(t, body, "not delivered: finished 4.0 s after the hang-up", `class="lane late"`, "delivered at 1.0 s",
					"hang-up</text>", `class="bar fail"`, `class="bar pause"`, `class="bar external open"`,
					`class="mark progress"`, `class="mark delivered"`, `class="mark lost"`, `class="mark webhook"`)
				for _, key := range []string{
					"queue", "attempt", "failed attempt", "pause before a retry", "external system", "webhook", "progress",
					"delivery attempt", "line accepted by the call", "delivered", "not delivered", "hang-up",
				} {
					contains(t, body, "</svg>"+key+"</span>")
				}
				for _, key := range []string{"parked", "external completion"} {
					if strings.Contains(body, "</svg>"+key+"</span>") {
						t.Errorf("the legend explains %s, which is not there", key)
					}
				}
				if n := strings.Count(body, `<div class="lane`); n != 4 {
					t.Errorf("%d lanes", n)
				}

				contains(t, get(t, p, "/?state=undelivered"), "not delivered", "the call has ended", ">slow</a>", "jobs searched")
				contains(t, get(t, p, "/?tool=flaky&since=1h"), ">flaky</a>", "delivered")
				if body := get(t, p, "/?tool=flaky"); strings.Contains(body, ">slow</a>") {
					t.Error("the filter shows another tool")
				}
				contains(t, get(t, p, "/?state=failed"), "No job fits")
				contains(t, get(t, p, "/?state=waiting"), ">approval</a>")

				contains(t, get(t, p, "/ui/jobs/"+w.jobOf("c", "slow").ID), "Webhook received", "Tool started", "Tool finished",
					"Not delivered: the call has ended", "Order A-2 is ready", "ringback jobs show --")
				contains(t, get(t, p, "/ui/jobs/"+w.jobOf("c", "flaky").ID), "Attempt failed (answered 503)", "attempt 2")
				contains(t, get(t, p, "/ui/undelivered"), "Order A-2 is ready", "the call has ended", ">slow</a>")
				contains(t, get(t, p, "/ui/tools"), "100 %", "1.0 s", "0 %", "1 not delivered", "delivery", "deadline")
				contains(t, get(t, p, "/ui/tools/slow"), "the number of the order", "timeout")
			}()
		}
		contains(t, get(t, w.local, "/ui/calls/"+job.CallHash("c")), "What reached the call", "It has begun.")
	})
}

// TestCompleteAndCancel completes a job by hand, and cancels another one.
func TestCompleteAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, approval)
		w.run()
		for _, call := range []string{"completed", "failed", "cancelled"} {
			w.calls(call, "approval", "{}")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for call, row := range map[string]struct {
			path   string
			values url.Values
			state  job.State
			status job.Status
			text   string
		}{
			"completed": {"/ui/complete/", url.Values{"text": {" Approved. "}}, job.StateDelivered, job.StatusOK, "Approved."},
			"failed": {"/ui/complete/", url.Values{"text": {"Refused."}, "failed": {"true"}}, job.StateDelivered,
				job.StatusError, "Refused."},
			"cancelled": {"/ui/cancel/", url.Values{"reason": {"by mistake"}}, job.StateDelivered, job.StatusError,
				"I'm sorry, that request was cancelled."},
		} {
			id := w.jobOf(call, "approval").ID
			contains(t, get(t, w.local, "/ui/jobs/"+id), "Complete by hand", "Cancel the job")
			if body := get(t, w.deployed, "/ui/jobs/"+id); strings.Contains(body, "<form") {
				t.Error("a read-only page has a form")
			}
			if status, body, _ := submit(t, w.deployed, row.path+id, row.values); status != http.StatusForbidden {
				t.Errorf("read-only: %d %s", status, body)
			}
			empty := url.Values{"text": {" "}}
			if status, _, _ := submit(t, w.local, "/ui/complete/"+id, empty); status != http.StatusBadRequest {
				t.Errorf("no text: %d", status)
			}
			status, body, header := submit(t, w.local, row.path+id, row.values)
			if status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/ui/jobs/"+id+"?done=") {
				t.Fatalf("%d %v %s", status, header, body)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			r := w.jobOf(call, "approval")
			if r.State != row.state || r.Result.Status != row.status || r.Result.Content != row.text {
				t.Errorf("%s: %s, %+v", call, r.State, r.Result)
			}
			contains(t, get(t, w.local, header.Get("Location")), `class="notice good"`, row.text[len(row.text)-8:])
			if status, _, _ := submit(t, w.local, row.path+id, row.values); status != http.StatusConflict {
				t.Errorf("again: %d", status)
			}
		}
	})
}

// TestFilters tests which jobs each filter selects. A job that failed and was not delivered is found under both, as
// ringback jobs list finds it, and one that an operator has cancelled has not failed.
func TestFilters(t *testing.T) {
	w := newWorld(t, approval)
	const lost, both = "not delivered", "failed undelivered"
	ok, failed := job.StatusOK, job.StatusError
	for tool, row := range map[string]struct {
		state   job.State
		result  job.Status
		history job.History
		word    string
		filters string
	}{
		"runs":             {job.StateRunning, "", "", "running", "running"},
		"waits":            {job.StateWaiting, "", "", "waiting", "waiting"},
		"done":             {job.StateDone, ok, "", "on its way", "running"},
		"done-failed":      {job.StateDone, failed, "", "failed, on its way", "running failed"},
		"delivered":        {job.StateDelivered, ok, "", "delivered", "delivered"},
		"delivered-failed": {job.StateDelivered, failed, "", "failed, delivered", "failed"},
		"lost":             {job.StateUndelivered, ok, "u0=call_gone", "not delivered", "undelivered"},
		"lost-failed":      {job.StateUndelivered, failed, "e0=error,u0=call_gone", "failed, " + lost, both},
		"parked-failed":    {job.StateParked, failed, "", "failed, parked", "failed parked"},
		"replaced":         {job.StateCancelled, "", "C0=replaced", "cancelled", "cancelled"},
		"cancelled":        {job.StateDelivered, failed, "C0=operator,d5", "cancelled, delivered", "cancelled"},
		"cancelled-lost": {
			job.StateUndelivered, failed, "C0=operator,u1=call_gone", "cancelled, " + lost, "undelivered cancelled",
		},
		"cancelled-underway": {job.StateDone, failed, "C0=operator", "cancelled, on its way", "running cancelled"},
	} {
		r := job.Record{
			ID: "j_" + tool, State: row.state, Tool: tool, CallID: "c", Created: time.Now(), Updated: time.Now(),
			Deadline: time.Now().Add(time.Hour), History: row.history,
		}
		if row.result != "" {
			r.Result = &job.Result{Status: row.result, Content: "text", Delivery: policy.DeliveryRespond}
		}
		w.save(r)
		var found []string
		for _, filter := range []string{
			"running", "waiting", "delivered", "failed", "undelivered", "parked", "cancelled",
		} {
			if body := get(t, w.deployed, "/?state="+filter); strings.Contains(body, ">"+tool+"</a>") {
				found = append(found, filter)
				contains(t, body, `">`+row.word+`</span>`)
			}
		}
		if got := strings.Join(found, " "); got != row.filters {
			t.Errorf("%s is found as %q, want %q", tool, got, row.filters)
		}
	}
}

// TestUndelivered tests what the page says was not delivered. A cancellation is no failure of the tool.
func TestUndelivered(t *testing.T) {
	w := newWorld(t, approval)
	want := make(map[string]string)
	for tool, row := range map[string]struct {
		status  job.Status
		history job.History
		want    string
	}{
		"succeeded": {job.StatusOK, "f0,u1=call_gone", `<span class="status uneasy">a result</span>`},
		"failed":    {job.StatusError, "e0=error,u1=call_gone", `<span class="status bad">a failure</span>`},
		"cancelled": {job.StatusError, "C0=operator,u1=call_gone", `<span class="status quiet">a cancellation</span>`},
	} {
		r := job.Record{
			ID: "j_" + tool, State: job.StateUndelivered, Tool: tool, CallID: "c", Created: time.Now(), Updated: time.Now(),
			Deadline: time.Now().Add(time.Hour), History: row.history,
			Result: &job.Result{Status: row.status, Content: "text", Delivery: policy.DeliveryRespond},
		}
		w.save(r)
		w.undelivered = append(w.undelivered, job.Undelivered{JobID: r.ID, Tool: tool, Status: row.status, CallID: "c"})
		want[tool] = row.want
	}
	// The record of this job is gone.
	w.undelivered = append(w.undelivered, job.Undelivered{JobID: "j_gone", Tool: "gone", Status: job.StatusError})
	for _, p := range []*page.Page{w.local, w.deployed} {
		if want["gone"] = ""; p == w.local {
			want["gone"] = want["failed"]
		}
		body := get(t, p, "/ui/undelivered")
		for tool, want := range want {
			_, after, _ := strings.Cut(body, ">"+tool+"</a>")
			if got := strings.TrimSpace(after); !strings.HasPrefix(got, want) {
				t.Errorf("%s: no %s in\n%s", tool, want, body)
			}
		}
	}
}

// TestStatistics tests what the rates of a tool count.
func TestStatistics(t *testing.T) {
	w := newWorld(t, approval)
	for id, row := range map[string]struct {
		state   job.State
		result  job.Status
		history job.History
	}{
		"j_a":       {job.StateDelivered, job.StatusOK, ""},
		"j_b":       {job.StateUndelivered, job.StatusOK, "u0=call_gone"},
		"j_c":       {job.StateDelivered, job.StatusError, ""},
		"j_d":       {job.StateDone, job.StatusOK, ""}, // it succeeded, and is not delivered yet
		"j_e":       {job.StateRunning, "", ""},
		"j_f":       {job.StateDelivered, job.StatusError, "C0=operator,d5"},
		"j_g":       {job.StateCancelled, "", "C0=replaced"},
		"j_replayh": {job.StateUndelivered, job.StatusError, ""},
	} {
		at := time.Now().Add(-3 * time.Second)
		r := job.Record{
			ID: id, State: row.state, Tool: "approval", CallID: "c", Created: at, Updated: at.Add(2 * time.Second),
			Deadline: at.Add(time.Hour), History: row.history,
		}
		if row.result != "" {
			r.Result = &job.Result{Status: row.result, Content: "text", Delivery: policy.DeliveryRespond}
		}
		w.save(r)
	}
	contains(t, get(t, w.deployed, "/ui/tools"), `data-label="Jobs">7<`, `data-label="Succeeded">75 % <span`, "1 failed",
		`data-label="Delivered">66 % <span`, "1 not delivered", `data-label="p50">2.0 s<`)
}

// TestEndNotKnown tests that the page does not go on reading calls whose end Vapi does not report.
func TestEndNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := approval
		patient.Deadline = 24 * time.Hour
		w := newWorld(t, patient)
		w.run()
		w.calls("old", "approval", "{}")
		time.Sleep(time.Second)
		synctest.Wait()
		r := w.jobOf("old", "approval")
		if _, err := w.jobs.Cancel(t.Context(), r.ID, ""); err != nil {
			t.Fatal(err)
		}
		w.calls("waits", "approval", "{}")
		time.Sleep(50 * time.Minute)
		w.calls("new", "approval", "{}")
		time.Sleep(time.Second)
		synctest.Wait()
		rows := func(p *page.Page) map[string]string {
			shown := make(map[string]string)
			for _, name := range []string{"old", "waits", "new"} {
				key := regexp.MustCompile(`href="/ui/calls/([^"]*` + job.CallHash(name) + `)"`).FindStringSubmatch(get(t, p, "/"))
				body := get(t, p, "/ui/row/"+key[1])
				shown[name] = regexp.MustCompile(`(?s)^<tr[^>]*>.*?</td>\s*<td>.*?</td>\s*<td>.*?</td>`).FindString(body)
			}
			return shown
		}
		for _, row := range rows(w.deployed) {
			contains(t, row, ">live<", `hx-trigger="refresh-row"`)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		for name, want := range map[string][2]string{
			"old": {">end not known<", ""}, "waits": {">end not known<", `hx-trigger="refresh-row throttle:60s"`},
			"new": {">live<", `hx-trigger="refresh-row"`},
		} {
			row := rows(w.deployed)[name]
			contains(t, row, want[0], want[1])
			if got := strings.Contains(row, "hx-get"); got != (want[1] != "") {
				t.Errorf("%s: read again: %t", name, got)
			}
			contains(t, rows(w.local)[name], strings.ReplaceAll(want[1], " throttle:60s", ""))
		}
		contains(t, get(t, w.local, "/ui/calls/"+job.CallHash("old")), ">end not known</span>")
	})
}

// TestBeginning tests that a call begins when Vapi says, as far as that is known.
func TestBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sleeps("quick", time.Second))
		w.run()
		w.began = time.Now().Add(-26 * time.Second)
		w.calls("known", "quick", `{"order":"A-1"}`)
		w.began = time.Time{}
		w.calls("unknown", "quick", `{"order":"A-1"}`)
		time.Sleep(4 * time.Second)
		w.hangUp("known")
		w.hangUp("unknown")
		synctest.Wait()
		body := get(t, w.deployed, "/ui/calls/"+job.CallHash("known"))
		contains(t, body, "<dt>Began</dt>", "<dt>First job</dt>", "<dd>30 s</dd>", `class="begin" x1="0.000%"`,
			"call began</span>", "delivered at 27 s")
		body = get(t, w.deployed, "/ui/calls/"+job.CallHash("unknown"))
		contains(t, body, "<dt>First job</dt>", "<dd>4.0 s, from the first job</dd>", "delivered at 1.0 s")
		if strings.Contains(body, "<dt>Began</dt>") || strings.Contains(body, `class="begin"`) {
			t.Error("the beginning of the call is not known")
		}
	})
}

// TestProgressAfterTheHangUp tests that a progress line that the call did not accept does not look like one that was.
func TestProgressAfterTheHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, asynctool.Tool[struct{}]{
			Name: "talks", Description: "Reports twice.",
			Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
				call.Progress(ctx, "One.")
				time.Sleep(5 * time.Second)
				call.Progress(ctx, "Two.")
				time.Sleep(5 * time.Second)
				return asynctool.Text("Done."), nil
			},
		})
		w.run()
		w.calls("c", "talks", "{}")
		time.Sleep(2 * time.Second)
		w.hangUp("c")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		body := get(t, w.local, "/ui/calls/"+job.CallHash("c"))
		for kind, title := range map[string]string{
			"spoken": "Progress line 1 accepted by the call", "unheard": "Progress line 2 not accepted by the call: 404",
		} {
			contains(t, body, title, "</svg>"+map[string]string{
				"spoken": "line accepted by the call", "unheard": "line not known to be accepted",
			}[kind])
			if n := strings.Count(body, `class="mark `+kind+`" x=`); n != 1 {
				t.Errorf("%d marks of the kind %s", n, kind)
			}
		}
		body = get(t, w.local, "/ui/jobs/"+w.jobOf("c", "talks").ID)
		contains(t, body, "Progress line 2 not accepted by the call: 404", "Not delivered: the call has ended")
		if strings.Contains(body, "Last failure") {
			t.Error("a good result that was not delivered is shown as a failure")
		}
	})
}

// TestCallAgain tests that a command can be copied only as it must be typed.
func TestCallAgain(t *testing.T) {
	w := newWorld(t, sleeps("slow", time.Second))
	at := time.Now()
	r := job.Record{
		ID: "j_cccccccccccccccccccccccccc", State: job.StateWaiting, Tool: "slow", CallID: "c", Attempt: 1, Created: at,
		Updated: at, Deadline: at.Add(48 * time.Hour), WakeAt: at.Add(400 * 24 * time.Hour),
	}
	w.save(r)
	w.toolCalls[r.ID] = page.ToolCall{Arguments: json.RawMessage(`{"order":"12345678"}`)}
	body := get(t, w.local, "/ui/jobs/"+r.ID)
	contains(t, body, "ringback call slow order=•••••78</pre><a id=\"copy-1\"", "Show numbers to copy it",
		at.Add(48*time.Hour).Format("2 Jan")+" <time", at.Add(400*24*time.Hour).Format("2 Jan 2006")+" <time")
	if n := strings.Count(body, "data-copy"); n != 1 {
		t.Errorf("%d commands can be copied", n)
	}
	body = get(t, w.local, "/ui/jobs/"+r.ID+"?numbers=shown")
	contains(t, body, `ringback call slow order=12345678</pre><button id="copy-1"`)
	// A deployment does not have them.
	body = get(t, w.deployed, "/ui/jobs/"+r.ID)
	contains(t, body, "ringback call slow order=ORDER --stack Ringback", "with arguments of your own",
		"only while the job waits")
	contains(t, get(t, w.deployed, "/ui/tools/slow"), "ringback call slow order=ORDER --stack Ringback")
}

// TestFind finds a call by its id at Vapi, which is in no address.
func TestFind(t *testing.T) {
	w := newWorld(t, approval)
	w.calls("7420f27a", "approval", "{}")
	w.save(job.Record{ID: "j_x", CallID: "7420f27a", State: job.StateRunning, Created: time.Now(), Updated: time.Now()})
	for id, want := range map[string]string{
		" 7420f27a ": "/ui/calls/2", "https://dashboard.vapi.ai/calls/7420f27a": "/ui/calls/2",
		job.CallHash("7420f27a"): "/ui/calls/2", "j_x": "/ui/jobs/j_x", "other": "", "": "", "0123456789abcdef": "",
	} {
		status, body, header := submit(t, w.deployed, "/ui/find", url.Values{"id": {id}})
		where := header.Get("Location")
		switch found := strings.HasPrefix(where, want); {
		case want == "" && status == http.StatusNotFound && where == "":
			contains(t, body, "There is no call")
		case !found || want == "" || strings.Contains(where, "7420f27a"):
			t.Errorf("%q: %d, %q", id, status, where)
		default:
			contains(t, get(t, w.deployed, where), job.CallHash("7420f27a"))
		}
	}
}

// TestStart calls a tool by its form.
func TestStart(t *testing.T) {
	w := newWorld(t, formTool())
	body := get(t, w.local, "/ui/tools/everything")
	contains(t, body, `<textarea class="text" name="argument.name" rows="1" required>`,
		`<input type="number" step="1" name="argument.seats" value="2"`,
		`<input type="number" step="any" name="argument.price"`,
		`<input type="date" name="argument.day"`,
		`<option value="&#34;M&#34;">M</option>`, `<textarea name="argument.extras"`,
		`<option value="true">true</option>`, "the name of the guest")
	if body := get(t, w.deployed, "/ui/tools/everything"); strings.Contains(body, "<form") {
		t.Error("a deployment has a form")
	}
	for name, row := range map[string]struct {
		values  url.Values
		want    string // the arguments
		problem string
	}{
		"all": {url.Values{
			"argument.name": {"Ada"}, "argument.seats": {"4"}, "argument.price": {"1.50"}, "argument.day": {"2026-12-01"},
			"argument.size": {`"M"`}, "argument.window": {"true"}, "argument.extras": {`["a"]`}, "argument.other": {"x"},
		}, `{"day":"2026-12-01","extras":["a"],"name":"Ada","price":1.5,"seats":4,"size":"M","window":true}`, ""},
		"lines":          {url.Values{"argument.name": {"a\r\n\r\nb"}}, `{"name":"a\n\nb"}`, ""},
		"required ones":  {url.Values{"argument.name": {"Ada"}, "argument.seats": {""}}, `{"name":"Ada"}`, ""},
		"an empty text":  {url.Values{"argument.name": {""}}, `{"name":""}`, ""},
		"no number":      {url.Values{"argument.name": {"Ada"}, "argument.seats": {"many"}}, "", "seats must be a number"},
		"no choice":      {url.Values{"argument.name": {"Ada"}, "argument.size": {`"XL"`}}, "", "size must be one"},
		"no boolean":     {url.Values{"argument.name": {"Ada"}, "argument.window": {"yes"}}, "", "window must be one"},
		"no JSON":        {url.Values{"argument.name": {"Ada"}, "argument.extras": {"a, b"}}, "", "extras must be JSON"},
		"refused":        {url.Values{"argument.name": {"refuse"}}, "", "the webhook was answered with 401"},
		"no hexadecimal": {url.Values{"argument.name": {"Ada"}, "argument.seats": {"0x10"}}, "", "seats must be"},
	} {
		t.Run(name, func(t *testing.T) {
			w.started, w.startError = nil, nil
			if name == "refused" {
				w.startError = errors.New("the webhook was answered with 401")
			}
			status, body, header := submit(t, w.local, "/ui/start/everything", row.values)
			if row.problem != "" {
				if status != http.StatusBadRequest {
					t.Errorf("%d", status)
				}
				contains(t, body, row.problem, "\n"+row.values.Get("argument.name")+"</textarea>") // as it was entered
				return
			}
			got, err := json.Marshal(w.started)
			if err != nil || string(got) != row.want {
				t.Errorf("called with %s, want %s", got, row.want)
			}
			where := header.Get("Location")
			if status != http.StatusSeeOther || where != "/ui/calls/"+job.CallHash("started")+"?new=true" {
				t.Fatalf("%d, %q", status, where)
			}
			contains(t, get(t, w.local, where), "The tool is called", `hx-trigger="refresh"`)
		})
	}
	for _, p := range []*page.Page{w.local, w.deployed} {
		for _, tool := range []string{"another", asynctool.TaskStatusName} {
			status, _, _ := submit(t, p, "/ui/start/"+tool, nil)
			if want := map[bool]int{true: http.StatusNotFound, false: http.StatusForbidden}[p == w.local]; status != want {
				t.Errorf("%s: %d", tool, status)
			}
		}
	}
}

func formTool() asynctool.Definition {
	type in struct {
		Name   string   `json:"name" jsonschema:"the name of the guest"`
		Seats  int      `json:"seats,omitempty"`
		Price  float64  `json:"price,omitempty"`
		Day    string   `json:"day,omitempty"`
		Size   string   `json:"size,omitempty"`
		Window bool     `json:"window,omitempty"`
		Extras []string `json:"extras,omitempty"`
	}
	return asynctool.Tool[in]{
		Name: "everything", Description: "Has all kinds of arguments.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["size"].Enum = []any{"S", "M"}
			s.Properties["day"].Format = "date"
			s.Properties["seats"].Default = json.RawMessage("2")
		},
		Run: func(context.Context, asynctool.Call, in) (asynctool.Result, error) { return asynctool.Text("x"), nil },
	}
}

// everywhere returns a world in which each text that a page can show is text, the paths of all its pages, and those
// that show numbers.
func everywhere(t testing.TB, text string) (w *world, paths []string) {
	t.Helper()
	w = newWorld(t, sleeps("slow", time.Second), approval)
	encoded, err := json.Marshal(map[string]string{"order": text, text: text})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	call := job.Call{ID: "call-" + text, CustomerNumber: text, ControlURL: "https://control.example/" + text}
	record := job.Record{
		ID: "j_aaaaaaaaaaaaaaaaaaaaaaaaaa", State: job.StateWaiting, Tool: text, CallID: call.ID, External: true,
		Attempt: 1, Deadline: now.Add(time.Hour), WakeAt: now.Add(time.Hour), Reason: text, Created: now, Updated: now,
		Progress: &job.ProgressLine{Sequence: 1, Text: text, At: now}, ToolState: encoded,
		StoredJob: &job.Job{ID: "j_aaaaaaaaaaaaaaaaaaaaaaaaaa", Tool: text, Arguments: encoded, Call: call},
	}
	w.save(record)
	done := record
	done.ID, done.State, done.Tool, done.CallID = "j_bbbbbbbbbbbbbbbbbbbbbbbbbb", job.StateUndelivered, "slow", "another"
	done.StoredJob, done.NextCallID, done.Exhausted = nil, "next-"+text, true
	done.Result = &job.Result{Status: job.StatusError, Content: text, Delivery: policy.DeliveryControl, Control: encoded}
	w.save(done)
	w.stored = encoded
	for _, id := range []string{record.ID, done.ID} {
		w.toolCalls[id] = page.ToolCall{Arguments: encoded, Number: text}
	}
	w.heard[job.CallHash("another")] = []page.Heard{{At: now, What: "says", Text: text}}
	w.undelivered = []job.Undelivered{{
		JobID: done.ID, Tool: text, CallID: call.ID, CustomerNumber: text, Reason: job.Reason("unknown"), Detail: text,
		Status: job.StatusOK, Content: text, Control: encoded, At: now,
	}}
	return w, []string{
		"/", "/?since=1h", "/?tool=slow&state=undelivered", "/ui/calls/" + job.CallHash(call.ID),
		"/ui/calls/" + job.CallHash("another"), "/ui/jobs/" + record.ID, "/ui/jobs/" + done.ID, "/ui/tools",
		"/ui/tools/slow", "/ui/undelivered", "/ui/jobs/" + done.ID + "?arguments=stored",
		"/ui/row/" + job.CallHash(call.ID), "/ui/row/" + job.CallHash("another"),
	}
}

// TestHostileTexts tests that no text of a caller, a tool or an external system becomes markup.
func TestHostileTexts(t *testing.T) {
	for _, text := range []string{
		`<script>planted()</script>`, `"><img src=x onerror=planted()>`, `' onmouseover='planted()`, "javascript:planted()",
		"</textarea><b>planted", "</title><b>planted", "</pre><b hx-get=/planted>", "\u2028planted()\x00<b>planted",
	} {
		w, paths := everywhere(t, text)
		for _, p := range w.pages() {
			for _, path := range append(paths, "/?tool="+url.QueryEscape(text), "/ui/calls/"+url.PathEscape(text)) {
				_, body, _ := do(t, p, httptest.NewRequest(http.MethodGet, path, nil))
				for _, markup := range []string{
					"<script>", "<img", "<b>planted", "<b hx", "' onmouse", `" onmouse`, "href=\"javascript",
				} {
					if strings.Contains(body, markup) {
						t.Errorf("%q: %s contains %s:\n%s", text, path, markup, body)
					}
				}
			}
		}
		status, body, _ := submit(t, w.local, "/ui/start/slow", url.Values{"argument.order": {text}, "argument.x": {text}})
		if status == http.StatusOK || strings.Contains(body, "<img") {
			t.Errorf("%q: %d %s", text, status, body)
		}
	}
}

// FuzzNumbers tests that a number is in no page before it is asked for, however it is written.
func FuzzNumbers(f *testing.F) {
	for _, text := range []string{
		"+15550100123", "call +49 (30) 901-820 77 now", "0049.30.90182077", "5 5 5 0 1 0 0 1 2 3", "2026-11-26 15550100123",
		"+1\u00a0555\u2011010\u20110123", "2026-11-2655501001", "٠١٢٣٤٥٦٧٨٩",
		"1\u200b5\u200b5\u200b5\u200b0\u200b1\u200b0\u200b0",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "+15550100123"
		planted := strings.ToValidUTF8(text, "?") + " " + secret + " "
		if len(planted) > 200 {
			t.Skip()
		}
		w, paths := everywhere(t, planted)
		for _, p := range []*page.Page{w.local, w.deployed} {
			for _, path := range paths {
				_, body, _ := do(t, p, httptest.NewRequest(http.MethodGet, path, nil))
				for _, hidden := range []string{"555010012", "control.example", "call-" + planted, "next-" + planted} {
					if strings.Contains(body, hidden) {
						t.Fatalf("%s contains %q:\n%s", path, hidden, body)
					}
				}
			}
		}
	})
}

// TestShowNumbers tests that numbers are shown if they are asked for.
func TestShowNumbers(t *testing.T) {
	w, _ := everywhere(t, "call +49 30 901820")
	for _, p := range []*page.Page{w.local, w.deployed} {
		for _, path := range []string{"/ui/jobs/j_bbbbbbbbbbbbbbbbbbbbbbbbbb", "/ui/undelivered"} {
			contains(t, get(t, p, path), `?numbers=shown">Show numbers</a>`, "•••••20")
			body := get(t, p, path+"?numbers=shown")
			contains(t, body, `">Hide numbers</a>`, "49 30 901820", "numbers=shown&amp;seen=")
		}
	}
}

// TestMask tests what counts as a number.
func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		"order A-1042":                     "order A-1042",
		"on 2026-11-26 at 15:04":           "on 2026-11-26 at 15:04",
		"2026-11-26T15:04:05.123456789Z":   "2026-11-26T15:04:05.123456789Z",
		"1234567":                          "•••••67",
		"123456":                           "123456",
		"+1 (555) 010-0123.":               "•••••23.",
		"from 030/90182077 on":             "from •••••77 on",
		"at 2026-11-26 15550100123":        "at 2026-11-26 •••••23",
		"1, 2, 3, 4, 5, 6, 7, 8":           "1, 2, 3, 4, 5, 6, 7, 8",
		"j_wbzzis5k5mqlhhm7b5jav65luv":     "j_wbzzis5k5mqlhhm7b5jav65luv",
		"+49 30 901820 and +49 30 901821.": "•••••20 and •••••21.",
	} {
		if got := page.Masked(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// TestHeaders tests what protects every answer, and that the page works with the policy that it sends.
func TestHeaders(t *testing.T) {
	w, paths := everywhere(t, "text")
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|<script(?:>| [^>]*>[^<])|\son\w+=|https?://`)
	for _, p := range w.pages() {
		for _, path := range append(paths, "/ui/nothing", "/ui/assets/page.css", "/ui/assets/htmx.min.js", "/ui/jobs/j_x") {
			_, body, header := do(t, p, httptest.NewRequest(http.MethodGet, path, nil))
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'self'; ", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
				"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Content-Type": "text/",
			} {
				if !strings.HasPrefix(header.Get(name), want) {
					t.Errorf("%s: %s: %q", path, name, header.Get(name))
				}
			}
			if found := inline.FindString(body); found != "" && !strings.Contains(path, "assets") {
				t.Errorf("%s contains %q", path, found)
			}
		}
	}
	for name, change := range map[string]func(*http.Request){
		"another origin": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"another site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		r := httptest.NewRequest(http.MethodPost, "/ui/cancel/j_aaaaaaaaaaaaaaaaaaaaaaaaaa", nil)
		if change(r); true {
			if status, _, _ := do(t, w.local, r); status != http.StatusForbidden {
				t.Errorf("%s: %d", name, status)
			}
		}
	}
}

// TestAtVapi tests that only a link that is opened leads to the call, whose id is a secret.
func TestAtVapi(t *testing.T) {
	w, _ := everywhere(t, "x")
	const id = "j_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	contains(t, get(t, w.deployed, "/ui/jobs/"+id), `href="/ui/at-vapi/`+id+`"`,
		"ringback logs --stack Ringback --job "+id)
	r := httptest.NewRequest(http.MethodGet, "/ui/at-vapi/"+id, nil)
	status, _, header := do(t, w.deployed, r)
	if status != http.StatusSeeOther || header.Get("Location") != "https://dashboard.vapi.ai/calls/call-x" ||
		header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%d %v", status, header)
	}
	if status, _, _ := do(t, w.local, r); status != http.StatusNotFound {
		t.Errorf("a simulated call is at Vapi: %d", status)
	}
}

// TestReplayAndRedrive runs a job again, and sends its message again. In a deployment, and before a tool runs that must
// not run twice, the page asks first, and each answer works once.
func TestReplayAndRedrive(t *testing.T) {
	const waits = "j_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	ticket := regexp.MustCompile(`name="agreed" value="(\w+)"`)
	for name, row := range map[string]struct {
		page       func(*world) *page.Page
		path, word string
		did        func(*world) []string
		asks       []string // what the question says; nil means that there is none
		to         string
	}{
		"replay": {func(w *world) *page.Page { return w.operated }, "/ui/replay/", "Replay …",
			func(w *world) []string { return w.replayed },
			[]string{"slow has one attempt, so it must not run twice", "in the deployment", "The customer does not hear of it",
				"the result stays in the record"},
			"/ui/jobs/j_replayed?new=true"},
		"redrive": {func(w *world) *page.Page { return w.operated }, "/ui/redrive/", "Redrive its message …",
			func(w *world) []string { return w.redriven },
			[]string{"Correct the cause first", "nothing is delivered again"},
			"/ui/jobs/" + exhausted + "?done=redriven"},
		"local replay": {func(w *world) *page.Page { return w.local }, "/ui/replay/", "Replay in a new call",
			func(w *world) []string { return w.replayed },
			[]string{"slow has one attempt, so it must not run twice", "a new simulated call"},
			"/ui/calls/" + job.CallHash("replayed") + "?new=true"},
		"local redrive": {func(w *world) *page.Page { return w.local }, "/ui/redrive/", "Redrive its message",
			func(w *world) []string { return w.redriven }, nil, "/ui/jobs/" + exhausted + "?done=redriven"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := everywhere(t, "text")
			p := row.page(w)
			contains(t, get(t, p, "/ui/jobs/"+exhausted), row.word+"</button>", `action="`+row.path+exhausted+`"`)
			if body := get(t, p, "/ui/jobs/"+waits); strings.Contains(body, row.word) {
				t.Errorf("there is a button in\n%s", body)
			}
			if status, _, _ := submit(t, p, row.path+waits, url.Values{}); status == http.StatusSeeOther {
				t.Error("a job that waits is replayed or redriven")
			}
			for _, path := range []string{row.path + waits, row.path + exhausted} {
				if status, _, _ := submit(t, w.deployed, path, nil); status != http.StatusForbidden {
					t.Errorf("%s: read-only: %d", path, status)
				}
			}
			values := url.Values{}
			if row.asks != nil {
				status, body, _ := submit(t, p, row.path+exhausted, values)
				if status != http.StatusOK || len(row.did(w)) > 0 {
					t.Fatalf("without an answer: %d, %q", status, row.did(w))
				}
				contains(t, body, row.asks...)
				if strings.Contains(body, "undelivered event") && row.path == "/ui/replay/" {
					t.Errorf("a replay is said to become an event:\n%s", body)
				}
				values.Set("agreed", ticket.FindStringSubmatch(body)[1])
				other := map[string]string{"/ui/replay/": "/ui/redrive/", "/ui/redrive/": "/ui/replay/"}[row.path]
				for path, answer := range map[string]string{
					row.path + exhausted: "forged", other + exhausted: values.Get("agreed"),
				} {
					submit(t, w.operated, path, url.Values{"agreed": {answer}})
				}
				if len(w.replayed)+len(w.redriven) > 0 {
					t.Fatal("the answer to another question works")
				}
			}
			status, body, header := submit(t, p, row.path+exhausted, values)
			if where := header.Get("Location"); status != http.StatusSeeOther || where != row.to || len(row.did(w)) != 1 {
				t.Errorf("%d, %q, %q\n%s", status, where, row.did(w), body)
			}
			if row.asks == nil {
				return
			}
			if status, _, _ := submit(t, p, row.path+exhausted, values); status != http.StatusConflict || len(row.did(w)) != 1 {
				t.Errorf("the same answer again: %d, %q", status, row.did(w))
			}
		})
	}
}

// TestNothingToRepeat tests what the page says if it cannot replay or redrive.
func TestNothingToRepeat(t *testing.T) {
	w, _ := everywhere(t, "text")
	record := job.Record{
		ID: "j_cccccccccccccccccccccccccc", State: job.StateDelivered, Tool: "approval", CallID: "c", Exhausted: true,
		Created: time.Now(), Updated: time.Now(),
	}
	w.save(record)
	denied := fmt.Errorf("receive from the queue: %w", accessDenied{})
	refused := w.page(page.Config{
		Write: true, Local: nil, Replay: func(context.Context, string) (job.Job, error) { return job.Job{}, denied },
		Redrive: func(context.Context, string) (int, error) { return 0, denied },
	})
	answer := func(p *page.Page, path string) (int, string) {
		t.Helper()
		_, body, _ := submit(t, p, path, nil)
		agreed := regexp.MustCompile(`name="agreed" value="(\w+)"`).FindStringSubmatch(body)
		if agreed == nil {
			t.Fatalf("%s: no question:\n%s", path, body)
		}
		status, body, _ := submit(t, p, path, url.Values{"agreed": agreed[1:]})
		return status, body
	}
	for _, row := range []struct {
		page   *page.Page
		path   string
		status int
		want   string
	}{
		{w.operated, "/ui/replay/" + record.ID, http.StatusConflict, "are not stored, or no longer"},
		{w.operated, "/ui/redrive/" + record.ID, http.StatusConflict, "No message of the job is in a dead-letter queue"},
		{refused, "/ui/replay/" + record.ID, http.StatusForbidden, "OperatorWritePolicy"},
		{refused, "/ui/redrive/" + record.ID, http.StatusForbidden, "OperatorWritePolicy"},
	} {
		status, body := answer(row.page, row.path)
		if contains(t, body, row.want); status != row.status {
			t.Errorf("%s: %d", row.path, status)
		}
	}
	bare := w.page(page.Config{Write: true})
	if body := get(t, bare, "/ui/jobs/"+record.ID); strings.Contains(body, "Replay") || strings.Contains(body, "Redrive") {
		t.Errorf("there are buttons in\n%s", body)
	}
	if status, body, _ := submit(t, bare, "/ui/replay/"+record.ID, nil); status != http.StatusConflict ||
		!strings.Contains(body, "argumentRetentionDays") {
		t.Errorf("%d %s", status, body)
	}
	// The page of a deployment also asks before a tool runs again that may.
	often := record
	often.ID, often.Tool = "j_often", "flaky"
	w.save(often)
	w.operated = w.page(page.Config{Write: true, Replay: w.replay, Redrive: w.redrive, Tools: set(t, flaky)})
	if _, body, _ := submit(t, w.operated, "/ui/replay/"+often.ID, nil); strings.Contains(body, "must not run twice") ||
		!strings.Contains(body, "Replay this job?") {
		t.Errorf("no question, or a wrong one:\n%s", body)
	}
	// The page says what may follow from a message.
	for name, row := range map[string]struct {
		exhausted bool
		want      string
	}{
		"lost":   {false, "The tool may run again. "},
		"failed": {true, "the tool does not run again. "},
	} {
		r := record
		r.ID, r.State, r.Exhausted, r.Policy.AfterCall = "j_"+name, job.StateDone, row.exhausted, policy.AfterCallOutboundCall
		w.save(r)
		_, body, _ := submit(t, w.operated, "/ui/redrive/"+r.ID, nil)
		contains(t, body, row.want+"Its result is delivered. If the call has ended, this follows: call the customer.")
	}
	// A replay that has not begun is no error. Any other job that does not exist is.
	contains(t, get(t, w.operated, "/ui/jobs/j_replay3e2fewggk5quojhw4hyi?new=true"), "The replay is queued",
		`hx-trigger="refresh"`)
	for _, path := range []string{"/ui/jobs/j_unknown?new=true", "/ui/jobs/j_replay3e2fewggk5quojhw4hyi"} {
		if status, _, _ := do(t, w.operated, httptest.NewRequest(http.MethodGet, path, nil)); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// accessDenied is an error of AWS.
type accessDenied struct{}

func (accessDenied) Error() string     { return "api error AccessDeniedException: no such permission" }
func (accessDenied) ErrorCode() string { return "AccessDeniedException" }

// TestCommands tests that a read-only page names the commands for what it cannot do, and one that writes has buttons.
func TestCommands(t *testing.T) {
	w, _ := everywhere(t, "text")
	const waits = "j_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	for id, commands := range map[string][]string{
		waits: {"ringback jobs cancel --stack Ringback " + waits},
		exhausted: {"ringback jobs replay --stack Ringback " + exhausted,
			"ringback dead redrive --stack Ringback " + exhausted},
	} {
		contains(t, get(t, w.deployed, "/ui/jobs/"+id), append(commands, "ringback logs --stack Ringback --job "+id)...)
		for _, p := range []*page.Page{w.local, w.operated} {
			body := get(t, p, "/ui/jobs/"+id)
			for _, command := range commands {
				if strings.Contains(body, command) {
					t.Errorf("a page with a button has %s", command)
				}
			}
		}
	}
	// The stored arguments are read if they are asked for, and never again by the refresh.
	line := "ringback call slow order=text --stack Ringback"
	body := get(t, w.operated, "/ui/jobs/"+exhausted)
	if contains(t, body, `href="/ui/jobs/`+exhausted+`?arguments=stored"`); strings.Contains(body, line) {
		t.Error("the stored arguments are shown before they are asked for")
	}
	body = get(t, w.operated, "/ui/jobs/"+exhausted+"?arguments=stored")
	if contains(t, body, line); strings.Contains(body, "hx-get") {
		t.Error("the page with the stored arguments is refreshed")
	}
	for _, p := range []*page.Page{w.local, w.deployed} {
		if body := get(t, p, "/ui/jobs/"+exhausted+"?arguments=stored"); strings.Contains(body, "arguments=stored\"") {
			t.Error("a page that cannot read the stored arguments has a link to them")
		}
	}
}

// TestMayBeDead tests which jobs can be redriven: those whose message may be in a dead-letter queue.
func TestMayBeDead(t *testing.T) {
	w := newWorld(t, approval)
	now := time.Now()
	for name, row := range map[string]struct {
		record job.Record
		want   bool
	}{
		"runs":            {job.Record{State: job.StateRunning, LeaseExpiry: now.Add(time.Minute)}, false},
		"died":            {job.Record{State: job.StateRunning, LeaseExpiry: now.Add(-time.Hour)}, true},
		"waits":           {job.Record{State: job.StateWaiting, WakeAt: now.Add(time.Minute)}, false},
		"is overdue":      {job.Record{State: job.StateWaiting, WakeAt: now.Add(-time.Hour)}, true},
		"on its way":      {job.Record{State: job.StateDone, Updated: now}, false},
		"long on its way": {job.Record{State: job.StateDone, Updated: now.Add(-time.Hour)}, true},
		"failed for good": {job.Record{State: job.StateDelivered, Exhausted: true}, true},
		"delivered":       {job.Record{State: job.StateDelivered}, false},
	} {
		r := row.record
		r.ID, r.Tool, r.CallID, r.Created = "j_"+strings.ReplaceAll(name, " ", "_"), "approval", "c", now.Add(-2*time.Hour)
		w.save(r)
		for _, p := range []*page.Page{w.local, w.operated} {
			if got := strings.Contains(get(t, p, "/ui/jobs/"+r.ID), `action="/ui/redrive/`); got != row.want {
				t.Errorf("%s: a button to redrive: %t", name, got)
			}
		}
	}
}

// TestAtAWS tests that only a link that is opened leads to the console of AWS. The page itself contains no address.
func TestAtAWS(t *testing.T) {
	w := newWorld(t, approval)
	now := time.Now()
	traced := job.Record{
		ID: "j_dddddddddddddddddddddddddd", State: job.StateDelivered, Tool: "approval", CallID: "c",
		Created: now.Add(-time.Hour), Updated: now.Add(-30 * time.Minute),
		Traceparent: "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
	}
	w.save(traced)
	plain := traced
	plain.ID, plain.Traceparent = "j_eeeeeeeeeeeeeeeeeeeeeeeeee", ""
	w.save(plain)
	const attributes = ` target="_blank" rel="noreferrer noopener">`
	contains(t, get(t, w.deployed, "/ui/jobs/"+traced.ID), `href="/ui/at-aws/logs/`+traced.ID+`"`+attributes,
		`href="/ui/at-aws/trace/`+traced.ID+`"`+attributes, `href="/ui/at-vapi/`+traced.ID+`"`+attributes)
	if body := get(t, w.deployed, "/ui/jobs/"+plain.ID); strings.Contains(body, "at-aws/trace") {
		t.Error("a job without a trace has a link to it")
	}
	if body := get(t, w.local, "/ui/jobs/"+traced.ID); strings.Contains(body, "at-aws") ||
		!strings.Contains(body, "5759e988bd862e3fe1be46a994272793") {
		t.Errorf("the local run is at AWS, or does not show the trace:\n%s", body)
	}
	for path, want := range map[string]string{
		"logs/" + traced.ID:  "https://console.example/#logs~(" + traced.ID + "~'1h0m0s)",
		"trace/" + traced.ID: "https://console.example/#trace/5759e988bd862e3fe1be46a994272793",
		"trace/" + plain.ID:  "", "another/" + traced.ID: "", "logs/j_unknown": "",
	} {
		status, _, header := do(t, w.deployed, httptest.NewRequest(http.MethodGet, "/ui/at-aws/"+path, nil))
		if got := header.Get("Location"); got != want || status != map[bool]int{
			true: http.StatusNotFound, false: http.StatusSeeOther,
		}[want == ""] || want != "" && header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d, %q, want %q", path, status, got, want)
		}
		status, _, _ = do(t, w.local, httptest.NewRequest(http.MethodGet, "/ui/at-aws/"+path, nil))
		if status != http.StatusNotFound {
			t.Errorf("%s in a local run: %d", path, status)
		}
	}
}

// TestRefresh tests that a page is sent again only if it has changed, and without what surrounds it.
func TestRefresh(t *testing.T) {
	w, _ := everywhere(t, "text")
	const path = "/ui/undelivered"
	next := regexp.MustCompile(`hx-get="([^"]+)"`).FindStringSubmatch(get(t, w.local, path))[1]
	refresh := func() (int, string) {
		r := httptest.NewRequest(http.MethodGet, next, nil)
		r.Header.Set("HX-Request", "true")
		status, body, _ := do(t, w.local, r)
		return status, body
	}
	if status, body := refresh(); status != http.StatusNoContent || body != "" {
		t.Errorf("unchanged: %d %s", status, body)
	}
	w.undelivered[0].Content = "another text"
	status, body := refresh()
	if status != http.StatusOK || strings.Contains(body, "<html") || !strings.Contains(body, `<div id="content" hx-get=`) {
		t.Errorf("changed: %d %s", status, body)
	}
}

// TestChanges reads the stream of events of a local run.
func TestChanges(t *testing.T) {
	w := newWorld(t, approval)
	server := httptest.NewServer(w.local)
	defer server.Close()
	answer, err := http.Get(server.URL + "/ui/changes")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Error(kind)
	}
	lines := bufio.NewScanner(answer.Body)
	event := func() bool {
		for lines.Scan() {
			if lines.Text() == "event: change" {
				return true
			}
		}
		return false
	}
	if !event() {
		t.Fatal("there is no first event")
	}
	w.save(job.Record{ID: "j_x", State: job.StateRunning, CallID: "c", Created: time.Now(), Updated: time.Now()})
	if !event() {
		t.Fatal("the change is no event")
	}
	w.local.Close()
	w.local.Close()
	if event() {
		t.Error("the stream goes on")
	}
}

// TestVendored tests that the vendored files are those of their releases, and that their licences are here.
func TestVendored(t *testing.T) {
	for file, want := range map[string]string{
		"htmx.min.js":          "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717", // htmx.org 2.0.11
		"htmx-ext-sse.min.js":  "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136", // htmx-ext-sse 2.2.4
		"htmx.LICENSE":         "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
		"htmx-ext-sse.LICENSE": "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf",
	} {
		text, err := os.ReadFile(filepath.Join("assets", file))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has the checksum %x", file, sum)
		}
	}
}

// BenchmarkFirstPage measures the list of calls, and its first row, among a thousand calls with ten thousand jobs.
func BenchmarkFirstPage(b *testing.B) {
	w := newWorld(b, approval)
	now := time.Now()
	for call := range 1000 {
		for n := range 10 {
			at := now.Add(time.Duration(call) * time.Second)
			w.save(job.Record{
				ID: fmt.Sprintf("j_%d_%d", call, n), State: job.StateDelivered, Tool: "approval", CallID: fmt.Sprint("call-", call),
				Result:  &job.Result{Status: job.StatusOK, Content: "text", Delivery: policy.DeliveryRespond},
				Created: at, Updated: at, Deadline: at.Add(time.Hour),
			})
		}
	}
	row := regexp.MustCompile(`hx-get="(/ui/row/[^"?]*)\?`).FindStringSubmatch(get(b, w.local, "/"))[1]
	for name, path := range map[string]string{"list": "/", "row": row, "search": "/?tool=approval"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				get(b, w.local, path)
			}
		})
	}
}
