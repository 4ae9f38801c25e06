package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/vapi"
)

// pageTools are tools that do everything that the page can show. The yearly report is ready when ready is closed, and
// the check of an address fails when fails is closed.
func pageTools(ready, fails <-chan struct{}) []asynctool.Definition {
	type none struct{}
	type invoice struct {
		Customer string `json:"customer" jsonschema:"the number of the customer, such as C-7"`
		Month    string `json:"month,omitempty" jsonschema:"the month, such as 2026-10"`
		Copies   int    `json:"copies,omitempty" jsonschema:"how many copies"`
		Express  bool   `json:"express,omitempty"`
	}
	return []asynctool.Definition{
		shop.OrderStatus(os.Getenv),
		shop.NotifyWhenReady(os.Getenv),
		asynctool.TaskStatus(),
		asynctool.Tool[invoice]{
			Name: "prepare_invoice", Description: "Prepares the invoice of a customer. Takes some seconds.", Attempts: 3,
			Hold: "One moment, I'm preparing the invoice.", HoldAfter: time.Second,
			Run: func(ctx context.Context, call asynctool.Call, in invoice) (asynctool.Result, error) {
				if call.Attempt == 1 {
					time.Sleep(400 * time.Millisecond)
					return asynctool.Result{}, asynctool.TryAgain(600*time.Millisecond, "", errors.New("the ledger answered 503"))
				}
				call.Progress(ctx, "The positions are collected.")
				time.Sleep(900 * time.Millisecond)
				return asynctool.Text("The invoice of " + in.Customer + " is ready. Questions: +49 30 901820."), nil
			},
		},
		asynctool.Tool[none]{
			Name: "yearly_report", Description: "Makes the report of the year.", Timeout: 2 * patience,
			Run: func(ctx context.Context, _ asynctool.Call, _ none) (asynctool.Result, error) {
				select {
				case <-ready:
				case <-ctx.Done():
				}
				return asynctool.Text("The report has 40 pages. I have sent it by mail."), nil
			},
		},
		asynctool.Tool[struct {
			Request string `json:"request" jsonschema:"what must be approved"`
		}]{
			Name: "ask_manager", Description: "Asks the manager for an approval.", Cancellable: true, Deadline: time.Hour,
			Run: func(ctx context.Context, call asynctool.Call, _ struct {
				Request string `json:"request" jsonschema:"what must be approved"`
			}) (asynctool.Result, error) {
				_, err := call.CompletionURL(ctx)
				return asynctool.Wait(), err
			},
		},
		asynctool.Tool[none]{
			Name: "check_address", Description: "Checks the address of a delivery.", Timeout: 2 * patience,
			Run: func(ctx context.Context, _ asynctool.Call, _ none) (asynctool.Result, error) {
				select {
				case <-fails:
				case <-ctx.Done():
				}
				return asynctool.Result{}, asynctool.Fail("The map isn't available.", errors.New("the map answered 403"))
			},
		},
		asynctool.Tool[none]{
			Name: "delivery_slots", Description: "Finds free times for a delivery.",
			Run: func(context.Context, asynctool.Call, none) (asynctool.Result, error) {
				return asynctool.Result{}, asynctool.Fail("The calendar isn't available.", errors.New("the calendar answered 403"))
			},
		},
	}
}

// pageWorld is a local run with its page.
type pageWorld struct {
	t           *testing.T
	host, token string
	report      chan struct{} // is closed when the yearly report is ready
	address     chan struct{} // is closed when the check of an address fails
	first       string        // the link of a page that is not that of the local run
	began       time.Time     // of the calls, as their webhooks show it; zero means that they do not
}

func newPageWorld(t *testing.T) *pageWorld {
	t.Helper()
	withoutSettings(t)
	w := &pageWorld{t: t, report: make(chan struct{}), address: make(chan struct{})}
	w.host = hostOf(startDev(t, dev.Config{
		Addr: "127.0.0.1:0", ShopDelay: 2 * time.Second, Try: "ringback call",
		Tools: func() ([]asynctool.Definition, error) { return pageTools(w.report, w.address), nil },
	}))
	var err error
	if w.token, err = guard.Token(w.host); err != nil {
		t.Fatal(err)
	}
	return w
}

// post posts a webhook with the token of the run.
func (w *pageWorld) post(path, body string) string {
	w.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+w.host+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s %s, %v", path, answer.Status, text, err)
	}
	return string(text)
}

// calls posts the tool calls of a simulated call: names, each followed by its arguments.
func (w *pageWorld) calls(callID string, toolCalls ...string) {
	w.t.Helper()
	var list []any
	for i := 0; i < len(toolCalls); i += 2 {
		list = append(list, map[string]any{
			"id": fmt.Sprintf("tc_%s_%s_%d", callID, toolCalls[i], i), "type": "function",
			"function": map[string]any{"name": toolCalls[i], "arguments": json.RawMessage(toolCalls[i+1])},
		})
	}
	w.webhook(callID, map[string]any{"type": vapi.TypeToolCalls, "toolCallList": list})
}

// hangUp posts the end of a call.
func (w *pageWorld) hangUp(callID string) {
	w.t.Helper()
	w.webhook(callID, map[string]any{"type": vapi.TypeStatusUpdate, "status": vapi.StatusEnded})
}

func (w *pageWorld) webhook(callID string, message map[string]any) {
	w.t.Helper()
	message["call"] = map[string]any{
		"id": callID, "type": "inboundPhoneCall", "customer": map[string]any{"number": "+15550100123"},
		"monitor": map[string]any{"controlUrl": "https://simulated-call.vapi.ai/" + callID + "/control"},
	}
	if !w.began.IsZero() {
		message["call"].(map[string]any)["startedAt"] = w.began
	}
	w.post("/vapi", asJSON(w.t, map[string]any{"message": message}))
}

// link returns the URL of a new link to the page.
func (w *pageWorld) link() string {
	if w.first != "" {
		return w.first
	}
	return "http://" + w.host + w.post(dev.LinkPath, "")
}

// browser is a Chromium with the page. It records what must not happen.
type browser struct {
	*pageWorld
	ctx context.Context

	mu        sync.Mutex
	problems  []string
	elsewhere []string
}

// open opens the page in a Chromium.
func (w *pageWorld) open(width, height int, dark bool) *browser {
	w.t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(w.t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(width, height),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(w.t.TempDir()),
	)
	allocated, end := chromedp.NewExecAllocator(w.t.Context(), options...)
	w.t.Cleanup(end)
	b := &browser{pageWorld: w}
	var endTab context.CancelFunc
	b.ctx, endTab = chromedp.NewContext(allocated, chromedp.WithListener(b.event))
	w.t.Cleanup(endTab)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do(command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}), b.sized(width, height),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		chromedp.Navigate(w.link()))
	return b
}

// event records errors on the console, and requests to other machines.
func (b *browser) event(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.problems = append(b.problems, asJSON(b.t, e.Args))
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.host && u.Scheme != "data" {
			b.elsewhere = append(b.elsewhere, e.Request.URL)
		}
	}
}

// command returns the action that sends a command to the tab.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// sized sets the size of the window.
func (b *browser) sized(width, height int) chromedp.Action[chromedp.Void] {
	return command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1,
	})
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of a JavaScript expression.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// picture returns a picture of the window.
func (b *browser) picture() []byte {
	b.t.Helper()
	image, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	return image
}

// goTo opens a page of the page.
func (b *browser) goTo(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate("http://"+b.host+path), chromedp.WaitVisible("#live.on"))
}

// until waits until the text of an element matches. The styles and the scripts of the page are there then.
func (b *browser) until(selector string, is func(text string) bool) string {
	b.t.Helper()
	type shown struct {
		Complete bool
		Text     string
	}
	var text string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all := fmt.Sprintf(`({
			Complete: document.readyState == "complete",
			Text: [...document.querySelectorAll(%q)].map(e => e.innerText).join("\n"),
		})`, selector)
		page, err := chromedp.Run(b.ctx, chromedp.Evaluate[shown](all))
		if err != nil {
			text = err.Error() // the page is being replaced
			continue
		}
		if text = page.Text; page.Complete && is(text) {
			return text
		}
	}
	b.t.Fatalf("%s has the text %q", selector, text)
	return ""
}

// shows waits until an element contains a text.
func (b *browser) shows(selector, want string) {
	b.t.Helper()
	b.until(selector, func(text string) bool { return strings.Contains(text, want) })
}

// check reports what must not have happened.
func (b *browser) check() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		b.t.Errorf("the console shows: %s", problem)
	}
	for _, u := range b.elsewhere {
		b.t.Errorf("a request left the machine: %s", u)
	}
}

// click clicks an element. The page may replace it meanwhile, so this is one step in the browser.
func (b *browser) click(selector string) {
	b.t.Helper()
	if !eval[bool](b, fmt.Sprintf(`(e => { e?.click(); return Boolean(e) })(document.querySelector(%q))`, selector)) {
		b.t.Fatalf("there is no %s", selector)
	}
}

// submit fills in the inputs of a form, and presses its button.
func (b *browser) submit(form string, values map[string]string) {
	b.t.Helper()
	for name, value := range values {
		eval[any](b, fmt.Sprintf(`document.querySelector(%q).elements[%q].value = %q; null`, form, name, value))
	}
	b.click(form + " button")
}

// refresh makes the page replace its content, which differs each second because a job waits.
func (b *browser) refresh() {
	b.t.Helper()
	eval[any](b, `document.getElementById("content").dataset.before = 1`)
	for end := time.Now().Add(patience); eval[bool](b, `"before" in document.getElementById("content").dataset`); {
		if time.Now().After(end) {
			b.t.Fatal("the page is not refreshed")
		}
		eval[any](b, `htmx.trigger(document.body, "sse:change")`)
		time.Sleep(20 * time.Millisecond)
	}
}

// TestPage uses the page in a real browser, as an operator does.
func TestPage(t *testing.T) {
	w := newPageWorld(t)
	b := w.open(1280, 800, false)
	b.shows("#live", "connected")
	b.shows("main", "No call yet")

	// Calls and what happens to them appear by themselves.
	w.calls("live", "prepare_invoice", `{"customer":"C-7"}`, "yearly_report", `{}`)
	name := job.CallHash("live")
	b.shows("table.calls", "prepare_invoice")
	b.shows("table.calls", "yearly_report")
	b.shows("#row-"+name, "live")
	w.hangUp("live")
	b.shows("#row-"+name, "ended")
	b.shows("#row-"+name, "running")
	close(w.report)
	b.shows("#row-"+name, "not delivered")

	// The waterfall of the call shows which jobs were late.
	b.click("#call-" + name)
	b.shows("h1", "Call "+name)
	lanes := b.until(".lane.late", func(text string) bool { return strings.Contains(text, "yearly_report") })
	if !strings.Contains(lanes, "after the hang-up") || eval[int](b, `document.querySelectorAll(".lane").length`) != 2 {
		t.Errorf("the waterfall shows:\n%s", lanes)
	}
	if at := eval[[]float64](b, `["line.end", "svg.mark.lost"].map(
		s => [...document.querySelectorAll(".lane.late " + s)].at(-1).getBoundingClientRect().left)`,
	); at[0] <= 0 || at[0] >= at[1] {
		t.Errorf("the hang-up is at %.0f, and the event at %.0f", at[0], at[1])
	}

	// Numbers are not in the page before they are asked for.
	b.goTo("/ui/undelivered")
	b.shows("main", "The report has 40 pages")
	b.shows("main", "•••••23")
	html := eval[string](b, `document.documentElement.outerHTML`)
	if strings.Contains(html, "901820") || strings.Contains(html, "5550100123") {
		t.Error("the page contains a number")
	}
	b.click(`a[href*="numbers=shown"]`)
	b.shows("main", "+15550100123")

	// A form calls a tool.
	b.goTo("/ui/tools")
	b.click("#tool-prepare_invoice")
	b.shows("h1", "prepare_invoice")
	const height = `document.querySelector("textarea.text").offsetHeight`
	one := eval[int](b, height)
	eval[any](b, `document.querySelector("textarea.text").value = "1\n2\n3\n4"; null`)
	if four := eval[int](b, height); one > 50 || four < 2*one {
		t.Errorf("the field for a text is %d pixels high with a line, and %d with four", one, four)
	}
	b.submit("form.start", map[string]string{
		"argument.customer": "C-8\nby mail", "argument.copies": "2", "argument.express": "true",
	})
	b.shows("h1", "Call ")
	b.shows(".heard", "The positions are collected.")
	b.shows(".lane", "delivered at")
	b.click(".lane a")
	b.shows("main", "Attempt failed (answered 503)")
	b.shows("main", `"express": true`)
	b.shows("main", `"customer": "C-8\nby mail"`)

	// A replay is a new call with the same arguments.
	replayed := eval[string](b, "location.pathname")
	b.click(`form[action^="/ui/replay"] button`)
	b.shows("h1", "Call ")
	b.shows(".lane", "delivered at")
	b.click(".lane a")
	b.shows("main", `"express": true`)
	if again := eval[string](b, "location.pathname"); again == replayed || !strings.Contains(again, "j_replay") {
		t.Errorf("the replay is %s", again)
	}

	// A call is found by its id at Vapi, which is in no address.
	b.goTo("/")
	b.submit("form.find", map[string]string{"id": " live "})
	b.shows("h1", "Call "+name)
	if u := eval[string](b, "location.href"); !strings.HasSuffix(u, "/"+name) || strings.Contains(u, "live") {
		t.Errorf("the address is %q", u)
	}

	// Filters select jobs. One that failed and was not delivered is selected by both, and one that an operator has
	// cancelled has not failed.
	w.calls("late", "check_address", "{}")
	w.calls("withdrawn", "ask_manager", `{"request":"nothing"}`)
	w.hangUp("late")
	b.goTo("/ui/calls/" + job.CallHash("withdrawn") + "?new=true")
	b.shows(".lane", "waiting")
	b.click(".lane a")
	b.shows("h1", "waiting")
	b.submit(`form[action^="/ui/cancel"]`, nil)
	b.shows("h1", "cancelled, delivered")
	b.goTo("/ui/calls/" + job.CallHash("late"))
	b.shows("h1", "ended")
	close(w.address)
	b.shows(".lane.late", "failed, not delivered")
	b.goTo("/")
	for _, row := range []struct{ name, value, shown, hidden string }{
		{"state", "undelivered", "yearly_report", "job fits"},
		{"state", "undelivered", "check_address", "job fits"},
		{"state", "failed", "check_address", "ask_manager"},
		{"state", "cancelled", "ask_manager", "check_address"},
		{"state", "undelivered", "check_address", "ask_manager"},
		{"tool", "order_status", "No job fits", "yearly_report"},
		{"state", "", "No job fits", "yearly_report"},
		{"tool", "prepare_invoice", "delivered", "yearly_report"},
	} {
		eval[any](b, fmt.Sprintf(`{
			const select = document.querySelector("form.filter").elements[%q]
			select.value = %q
			select.dispatchEvent(new Event("change", {bubbles: true}))
		}`, row.name, row.value))
		b.until("#content", func(text string) bool {
			return strings.Contains(text, row.shown) && !strings.Contains(text, row.hidden)
		})
	}
	if u := eval[string](b, "location.search"); !strings.Contains(u, "tool=prepare_invoice") {
		t.Errorf("the address is %q", u)
	}

	// A job is completed by hand, and another one is cancelled.
	for _, row := range []struct{ form, input, value, shown string }{
		{`form[action^="/ui/complete"]`, "text", "Approved, by hand.", "on its way to the call"},
		{`form[action^="/ui/cancel"]`, "reason", "by mistake", "The job is cancelled"},
	} {
		w.calls(row.input, "ask_manager", `{"request":"ten percent"}`)
		b.goTo("/ui/calls/" + job.CallHash(row.input) + "?new=true")
		b.shows(".lane", "waiting")
		b.click(".lane a")
		b.shows("h1", "waiting")
		b.submit(row.form, map[string]string{row.input: row.value})
		b.shows(".notice", row.shown)
		b.until("h1", func(text string) bool { return !strings.Contains(text, "waiting") })
		if eval[int](b, `document.querySelectorAll(".actions form").length`) != 0 {
			t.Error("a job that has ended can be changed")
		}
	}
	b.shows("main", "I'm sorry, that request was cancelled.")

	// What is typed stays while the page changes.
	w.calls("typing", "ask_manager", `{"request":"ten percent"}`)
	b.goTo("/ui/calls/" + job.CallHash("typing") + "?new=true")
	b.shows(".lane", "waiting")
	b.click(".lane a")
	b.shows("h1", "waiting")
	eval[any](b, `document.querySelector("textarea").focus()`)
	b.do(chromedp.KeyEvent("half a sen"))
	id := eval[string](b, `location.pathname`)
	w.calls("other", "delivery_slots", "{}")
	b.refresh()
	if text := eval[string](b, `document.querySelector("textarea").value`); text != "half a sen" {
		t.Errorf("%s: %q is left of what was typed", id, text)
	}

	// The keyboard's focus stays where it is when the page is refreshed.
	for _, id := range []string{"copy-0", "crumb-calls", "crumb-call", "cancel-reason"} {
		eval[any](b, fmt.Sprintf(`document.getElementById(%q).focus()`, id))
		b.refresh()
		if got := eval[string](b, `document.activeElement.id`); got != id {
			t.Errorf("the focus was on %s, and is on %q", id, got)
		}
	}

	// Every page is used with the keyboard.
	b.goTo("/")
	b.shows("table.calls", "delivery_slots")
	b.do(chromedp.KeyEvent("\t"))
	if shown := eval[bool](b, `(e => e.matches(".skip:focus-visible") && e.getBoundingClientRect().left > 0)(
		document.activeElement)`); !shown {
		t.Error("the first key does not lead to the content")
	}

	// No width needs a scroll bar.
	for _, width := range []int{400, 720, 1280, 2000} {
		b.do(b.sized(width, 900))
		for _, path := range []string{
			"/", "/ui/calls/" + name, id, "/ui/tools", "/ui/tools/prepare_invoice", "/ui/undelivered",
		} {
			b.goTo(path)
			if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%s has a width of %d in %d pixels", path, wide, width)
			}
		}
	}

	// A narrow list says what its numbers are.
	b.do(b.sized(400, 900))
	b.goTo("/ui/tools")
	const last = `getComputedStyle([...document.querySelectorAll(".toollist td.number")].at(-1), "::before").content`
	if label := eval[string](b, last); !strings.Contains(label, "p95") {
		t.Errorf("the last number has the label %s", label)
	}

	// The link worked once.
	if code := status(t, "http://"+w.host+"/"); code != http.StatusUnauthorized {
		t.Errorf("without a link: %d", code)
	}
	b.check()
}

// hostileNeighbour is a page on another port of this machine. The browser sends it the cookies of the page, and the
// other way round. It reports what it can read.
const hostileNeighbour = `<!doctype html><body><script>
const at = "http://%s", read = []
const attempt = async (what, get) => {
  try {
    const text = await get()
    if (text) read.push(what + ": " + text)
  } catch {}
}
const form = (path, values) => new Promise(end => {
  const frame = document.createElement("iframe")
  const form = document.body.appendChild(document.createElement("form"))
  frame.name = form.target = path + document.forms.length
  document.body.append(frame)
  form.action = at + path
  form.method = "post"
  for (const [name, value] of Object.entries(values)) {
    const input = form.appendChild(document.createElement("input"))
    input.name = name
    input.value = value
  }
  frame.onload = end
  form.submit()
})
const framed = path => new Promise(end => {
  const frame = document.body.appendChild(document.createElement("iframe"))
  frame.onload = () => {
    let text = ""
    try { text = frame.contentDocument.body.innerText } catch {}
    end(text)
  }
  frame.src = at + path
})
const attacks = async () => {
  for (const path of ["/", "/ui/tools", "/ui/jobs/%[2]s", "/ui/jobs/%[3]s?arguments=stored", "/ui/at-aws/logs/%[3]s"]) {
    await attempt(path, async () => (await fetch(at + path, {credentials: "include"})).text())
    await attempt(path + " without consent", async () =>
      (await fetch(at + path, {credentials: "include", mode: "no-cors"})).text())
    await attempt(path + " in a frame", () => framed(path))
  }
  await attempt("events", () => new Promise(end => {
    const source = new EventSource(at + "/ui/changes", {withCredentials: true})
    source.onmessage = source.onopen = () => end("open")
    source.onerror = () => end("")
  }))
  await form("/ui/cancel/%[2]s", {reason: "planted"})
  await form("/ui/complete/%[2]s", {text: "planted"})
  await form("/ui/start/order_status", {"argument.order_id": "A-1042"})
  for (const path of ["/ui/replay/%[3]s", "/ui/redrive/%[3]s"])
    for (const values of [{}, {agreed: "true"}])
      await form(path, values)
  for (const path of ["/ui/cancel/%[2]s", "/ui/start/order_status", "/ui/replay/%[3]s", "/ui/redrive/%[3]s", "/link"])
    await attempt(path, async () => (await fetch(at + path, {
      method: "POST", credentials: "include", mode: "no-cors",
      body: new URLSearchParams({"argument.order_id": "A-1042"}),
    })).text())
  document.title = "ended: " + JSON.stringify(read)
}
attacks()
</script>`

// TestPageAndNeighbour opens a hostile page in the browser of the operator, who has the page open.
func TestPageAndNeighbour(t *testing.T) {
	w := newPageWorld(t)
	w.calls("asks", "ask_manager", `{"request":"ten percent"}`)
	b := w.open(1280, 800, false)
	b.shows("#row-"+job.CallHash("asks"), "waiting")
	b.click("#call-" + job.CallHash("asks"))
	b.shows(".lane", "waiting")
	b.click(".lane a")
	b.shows("h1", "ask_manager")
	id := strings.TrimPrefix(eval[string](b, "location.pathname"), "/ui/jobs/")
	w.calls("failed", "delivery_slots", "{}")
	b.goTo("/ui/calls/" + job.CallHash("failed") + "?new=true")
	b.shows(".lane", "failed, delivered")
	b.click(".lane a")
	b.shows("main", "Replay in a new call")
	failed := strings.TrimPrefix(eval[string](b, "location.pathname"), "/ui/jobs/")
	b.attackedBy(id, failed)
	all, _ := runs(t, []string{"jobs", "list", "--local", "--addr", w.host, "--since", "1h"}, 0)
	if strings.Count(all, "j_") != 2 {
		t.Errorf("a job is new:\n%s", all)
	}
	out, _ := runs(t, []string{"jobs", "list", "--local", "--addr", w.host}, 0)
	if strings.Count(out, "j_") != 1 || !strings.Contains(out, id) || !strings.Contains(out, "waiting") {
		t.Errorf("the jobs are not those before:\n%s", out)
	}
}

// attackedBy opens a hostile page. It attacks a job that waits, and another one that has failed.
func (b *browser) attackedBy(waits, failed string) {
	b.t.Helper()
	neighbour := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(out, hostileNeighbour, b.host, waits, failed)
	}))
	defer neighbour.Close()
	b.do(chromedp.Navigate(neighbour.URL))
	title := ""
	for end := time.Now().Add(patience); !strings.HasPrefix(title, "ended: "); time.Sleep(20 * time.Millisecond) {
		if title = eval[string](b, "document.title"); time.Now().After(end) {
			b.t.Fatal("the hostile page has not ended")
		}
	}
	if title != "ended: []" {
		b.t.Errorf("the hostile page has read %s", title)
	}
}

// TestHiddenPage hides the tab of the page. It asks for nothing until it is shown again.
func TestHiddenPage(t *testing.T) {
	w := newPageWorld(t)
	w.calls("before", "ask_manager", `{"request":"ten percent"}`)
	b := w.open(1280, 800, false)
	b.shows("#row-"+job.CallHash("before"), "waiting")
	asked := func() int { return eval[int](b, `window.asked`) }
	eval[any](b, `
		window.addEventListener("sse:change", () => window.changes++, true)
		window.asked = 0
		document.addEventListener("htmx:beforeRequest", () => asked++)
		null`)
	changes := func(callID string) {
		t.Helper()
		eval[any](b, `window.changes = 0; null`)
		w.calls(callID, "ask_manager", `{"request":"ten percent"}`)
		for end := time.Now().Add(patience); eval[int](b, `window.changes`) == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the tab gets no event")
			}
		}
	}
	b.do(command(target.CreateTarget, target.CreateTargetParams{URL: "about:blank"})) // which is shown instead
	if state := eval[string](b, "document.visibilityState"); state != "hidden" {
		t.Fatalf("the tab is %s", state)
	}
	before := asked()
	changes("meanwhile")
	changes("later")
	if more := asked() - before; more != 0 {
		t.Errorf("the hidden tab sent %d requests", more)
	}
	b.do(command(page.BringToFront, cdp.Empty{}))
	b.shows("#row-"+job.CallHash("later"), "waiting")
	b.check()
}

// TestLastChange tests that the page shows the last change, whenever it comes, and that it does not refresh too often.
func TestLastChange(t *testing.T) {
	w := newPageWorld(t)
	w.calls("first", "ask_manager", `{"request":"ten percent"}`)
	b := w.open(1280, 800, false)
	// From here on, the page learns of changes from the test alone.
	takeOver := func() {
		t.Helper()
		eval[any](b, `
			window.addEventListener("sse:change", e => e.detail.ofTest || e.stopImmediatePropagation(), true)
			window.change = () => htmx.trigger(document.body, "sse:change", {ofTest: true})
			null`)
	}

	// Changes come without a pause, while answers take no time, and then 500 ms. The last change comes just before an
	// answer replaces the content.
	b.goTo("/?state=waiting")
	b.shows("table.jobs", "ask_manager")
	takeOver()
	eval[any](b, `{
		let changes = 0, over = false
		const storm = setInterval(() => { changes++; change() }, 20)
		const send = XMLHttpRequest.prototype.send
		XMLHttpRequest.prototype.send = function() { setTimeout(() => send.call(this), changes < 50 ? 0 : 500) }
		window.asked = []
		document.addEventListener("htmx:beforeRequest", () => {
			asked.push(performance.now())
			over ||= changes > 100
			if (over) clearInterval(storm)
		})
		document.addEventListener("htmx:beforeSwap", e => {
			if (!over || window.last) return
			if (e.detail.shouldSwap) window.last = performance.now()
			change()
		})
	}`)
	var last float64
	var asked []float64
	for end := time.Now().Add(patience); last == 0 || asked[len(asked)-1] < last; time.Sleep(20 * time.Millisecond) {
		last, asked = eval[float64](b, "window.last ?? 0"), eval[[]float64](b, "asked")
		if time.Now().After(end) {
			t.Fatalf("the last change came at %.0f, and the page was refreshed at %.0f", last, asked)
		}
	}
	if most := 2 + int(last-asked[0])/300; len(asked) > most {
		t.Errorf("the page is refreshed %d times, want %d at most: %.0f", len(asked), most, asked)
	}

	// A filter is chosen while the page is refreshed, and answered later.
	b.goTo("/?state=waiting")
	b.shows("table.jobs", "ask_manager")
	takeOver()
	eval[any](b, `{
		const send = XMLHttpRequest.prototype.send, select = document.querySelector("form.filter").elements.state
		document.addEventListener("htmx:configRequest", e => e.detail.path = e.detail.path.replace("seen=", "other="))
		htmx.trigger("#content", "refresh")
		XMLHttpRequest.prototype.send = function() { setTimeout(() => send.call(this), 500) }
		select.value = "failed"
		select.dispatchEvent(new Event("change", {bubbles: true}))
	}`)
	b.shows("#content", "No job fits")

	// The list and one of its rows change together.
	b.goTo("/")
	b.shows("#row-"+job.CallHash("first"), "waiting")
	takeOver()
	w.calls("first", "delivery_slots", "{}")
	w.calls("second", "delivery_slots", "{}")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list, _ := runs(t, []string{"jobs", "list", "--local", "--addr", w.host, "--failed", "--since", "1h"}, 0)
		if strings.Count(list, "j_") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the jobs have not failed:\n%s", list)
		}
	}
	eval[any](b, "change()")
	b.shows("#row-"+job.CallHash("second"), "failed")
	b.shows("#row-"+job.CallHash("first"), "failed")
	b.check()
}

// TestPageOfADeployment uses the page of a deployment in a real browser: it replays a job, and redrives its message. A
// hostile page can do neither.
func TestPageOfADeployment(t *testing.T) {
	chromium(t)
	a, table := inAccount(t)
	for _, name := range []string{"Ack", "Process", "Callback"} {
		a.outputs[name+"LogGroupName"] = "/ringback/" + name
	}
	waiting(t, table, "c", "a")
	j, message, outcome := a.failedForGood(t, table)
	link, end := startUI(t, "--write")
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	b := (&pageWorld{t: t, host: u.Host, first: link}).open(1280, 800, false)
	sent := func() []string {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Clone(a.sent)
	}
	asked := func(action, title string) {
		t.Helper()
		b.goTo("/ui/jobs/" + j.ID)
		b.click(`form[action="/ui/` + action + `/` + j.ID + `"] button`)
		b.shows("h1", title)
		for _, width := range []int{400, 720, 1280, 2000} {
			b.do(b.sized(width, 900))
			if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("the question of %s has a width of %d in %d pixels", action, wide, width)
			}
		}
	}
	b.shows("table.calls, .empty", "No call yet")
	b.goTo("/ui/jobs/c/a")
	b.shows("main", "Complete by hand")
	if links := eval[[]string](b, `[...document.querySelectorAll(".links a")].map(a =>
		[a.getAttribute("href"), a.target, a.rel].join(" "))`); !slices.Equal(links, []string{
		"/ui/at-aws/logs/c/a _blank noreferrer noopener", "/ui/at-vapi/c/a _blank noreferrer noopener",
	}) {
		t.Errorf("the links are %q", links)
	}
	for _, row := range []struct{ action, title, done string }{
		{"replay", "Replay this job?", "The replay is queued"},
		{"redrive", "Redrive the message of this job?", "on its queue again"},
	} {
		before := sent()
		asked(row.action, row.title)
		b.click(".question a.button")
		b.shows("h1", "failed")
		if texts := sent(); len(texts) != len(before) {
			t.Errorf("%s: sent without an answer: %q", row.action, texts)
		}
		asked(row.action, row.title)
		b.click(".question button")
		b.shows("main", row.done)
	}
	if texts := sent(); len(texts) != 3 || !strings.Contains(texts[0], "j_replay") || texts[1] != "long-jobs "+message ||
		texts[2] != "results "+outcome {
		t.Errorf("sent %q", texts)
	}
	b.check()
	b.attackedBy("c/a", j.ID)
	if texts := sent(); len(texts) != 3 {
		t.Errorf("the hostile page has sent %q", texts[3:])
	}
	end()
}

// TestScreenshots makes the pictures of the documentation, if RINGBACK_SCREENSHOTS names a folder for them.
func TestScreenshots(t *testing.T) {
	folder := os.Getenv("RINGBACK_SCREENSHOTS")
	if folder == "" {
		t.Skip("make screenshots makes them")
	}
	w := newPageWorld(t)
	w.calls("4b1f", "order_status", `{"order_id":"A-1042"}`)
	w.calls("a95c", "delivery_slots", `{}`, "order_status", `{"order_id":"A-1043"}`)
	w.calls("77e0", "order_status", `{"order_id":"A-1044"}`)
	time.Sleep(4 * time.Second)
	w.hangUp("4b1f")
	w.hangUp("a95c")
	time.AfterFunc(3*time.Second, func() { close(w.report) })
	w.began = time.Now().Add(-1500 * time.Millisecond)
	w.calls("c0de", "prepare_invoice", `{"customer":"C-7","month":"2026-10"}`, "yearly_report", `{}`)
	time.Sleep(2500 * time.Millisecond)
	w.hangUp("c0de")
	time.Sleep(1500 * time.Millisecond)
	w.calls("d1ce", "ask_manager", `{"request":"ten percent off order A-1042"}`, "order_status", `{"order_id":"A-1042"}`)
	time.Sleep(4 * time.Second)
	for _, scheme := range []string{"light", "dark"} {
		b := w.open(1280, 800, scheme == "dark")
		picture := func(name, path, shown string) {
			t.Helper()
			b.goTo(path)
			b.shows("main", shown)
			time.Sleep(300 * time.Millisecond)
			height := eval[float64](b, `document.querySelector("main").getBoundingClientRect().height + 49`)
			b.do(b.sized(1280, int(min(max(height, 420), 900))), chromedp.Sleep(100*time.Millisecond))
			if err := os.WriteFile(filepath.Join(folder, name+"-"+scheme+".png"), b.picture(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		picture("calls", "/", "waiting")
		picture("call", "/ui/calls/"+job.CallHash("c0de"), "after the hang-up")
		b.goTo("/ui/calls/" + job.CallHash("d1ce"))
		b.shows(".waterfall", "ask_manager")
		id := eval[string](b, `[...document.querySelectorAll(".lane a")].
			find(a => a.innerText == "ask_manager").getAttribute("href")`)
		picture("job", id, "Complete by hand")
		picture("tools", "/ui/tools", "yearly_report")
		picture("tool", "/ui/tools/prepare_invoice", "Call it")
		picture("undelivered", "/ui/undelivered", "40 pages")
		b.check()
	}
}
