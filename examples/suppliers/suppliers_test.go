package suppliers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
)

// serve serves suppliers, and returns the setting with them. It must be called outside of a bubble. The first
// supplier is the cheapest, and each further one wants a cent more. Those in failing answer 500.
func serve(t *testing.T, suppliers int, failing ...int) (setting string) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	var all []supplier
	for i := range suppliers {
		all = append(all, supplier{Name: fmt.Sprint("Supplier ", i), URL: fmt.Sprintf("%s/%d/", server.URL, i)})
		mux.HandleFunc(fmt.Sprintf("GET /%d/articles/K-200/price", i), func(w http.ResponseWriter, _ *http.Request) {
			if slices.Contains(failing, i) {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			fmt.Fprintf(w, `{"cents": %d}`, 1200+i)
		})
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func of(setting string) asynctool.Definition { return Tool(func(string) string { return setting }) }

// lines returns the prices that were reported, and the last message.
func lines(call *asynctooltest.Call) (reported []string, last string) {
	for _, text := range call.Heard() {
		if strings.HasSuffix(text, " euros.") {
			reported = append(reported, text)
		}
		last = text
	}
	return reported, last
}

// TestPrices reports all prices, at most one each five seconds, and none twice.
func TestPrices(t *testing.T) {
	setting := serve(t, 20, 3, 7)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, of(setting))
		call.Ask("supplier_prices", `{"article":"K-200"}`)
		call.Wait(time.Minute)
		some, _ := lines(call)
		if len(some) < 5 || len(some) > 13 {
			t.Errorf("%d lines after a minute\n%s", len(some), call)
		}
		call.Wait(2 * time.Minute)
		all, last := lines(call)
		if !slices.Equal(all[:len(some)], some) || len(all) != 18 {
			t.Errorf("%d lines\n%s", len(all), call)
		}
		for i := range 20 {
			n, want := strings.Count(strings.Join(all, "\n"), fmt.Sprintf("Supplier %d wants 12.%02d euros.", i, i)), 1
			if i == 3 || i == 7 {
				want = 0
			}
			if n != want {
				t.Errorf("supplier %d was reported %d times", i, n)
			}
		}
		const best = "18 of 20 suppliers have a price for K-200. The best one: Supplier 0 wants 12.00 euros."
		if !strings.Contains(last, best) {
			t.Errorf("the last message is %q", last)
		}
	})
}

// TestLittleTime asks more suppliers than can be reported in time. The result counts them all.
func TestLittleTime(t *testing.T) {
	setting := serve(t, 50)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, of(setting))
		call.Ask("supplier_prices", `{"article":"K-200"}`)
		call.Wait(patience + reserve)
		reported, last := lines(call)
		if len(reported) < 20 || len(reported) == 50 || !strings.Contains(last, "50 of 50 suppliers have a price") {
			t.Errorf("%d lines, then %q", len(reported), last)
		}
	})
}

// TestNoAnswer asks a supplier that does not answer. The result is that of the others.
func TestNoAnswer(t *testing.T) {
	done := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer silent.Close()
	defer close(done)
	setting := strings.Replace(serve(t, 3), "]", fmt.Sprintf(`,{"name":"Silent","url":%q}]`, silent.URL), 1)
	impatient := tool(func(string) string { return setting }, 2*time.Second)
	got := asynctooltest.Run(t, impatient, asynctooltest.Webhook(t, "supplier_prices", `{"article":"K-200"}`))
	const best = "3 of 4 suppliers have a price for K-200. The best one: Supplier 0 wants 12.00 euros."
	if got.Text != best || len(got.Progress) != 3 {
		t.Error(got)
	}
}

// TestStopped ends the tool before all prices are reported.
func TestStopped(t *testing.T) {
	setting := serve(t, 20)
	for name, end := range map[string]func(*testing.T, *asynctooltest.Call){
		"cancelled": func(t *testing.T, call *asynctooltest.Call) {
			if answer := call.Ask(asynctool.CancelTaskName, `{}`); !strings.Contains(answer, "is cancelled") {
				t.Error(answer)
			}
		},
		"hung up": func(_ *testing.T, call *asynctooltest.Call) { call.HangUp() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				call := asynctooltest.NewCall(t, of(setting))
				call.Ask("supplier_prices", `{"article":"K-200"}`)
				call.Wait(20 * time.Second)
				before, _ := lines(call)
				end(t, call)
				call.Wait(5 * time.Minute)
				after, last := lines(call)
				// A line that is on its way may still arrive.
				if len(before) < 2 || len(after) > len(before)+1 || strings.Contains(last, "of 20 suppliers") {
					t.Errorf("%d lines before, %d after\n%s", len(before), len(after), call)
				}
			})
		})
	}
}

func TestFailures(t *testing.T) {
	const (
		missing  = "I'm sorry, this service isn't available right now."
		unusable = "SUPPLIERS cannot be used by the tool supplier_prices: it "
		wrong    = "That doesn't look like the number of an article. Please check it."
	)
	for name, row := range map[string]struct{ setting, arguments, text, log string }{
		"no answers":   {serve(t, 2, 0, 1), `{"article":"K-200"}`, "None of the suppliers has told me a price.", ""},
		"another path": {serve(t, 1), `{"article":"../K"}`, wrong, ""},
		"no setting":   {"", `{"article":"K-200"}`, missing, "not set in the environment: SUPPLIERS"},
		"no JSON":      {"ada.example.com", `{"article":"K-200"}`, missing, unusable + "is not JSON"},
		"no suppliers": {"[]", `{"article":"K-200"}`, missing, unusable + "is not JSON"},
		"no name": {`[{"url":"https://ada.example.com"}]`, `{"article":"K-200"}`, missing,
			unusable + "has a supplier without a name"},
		"no address": {`[{"name":"Ada"}]`, `{"article":"K-200"}`, missing,
			unusable + "has a supplier whose url is not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			got := asynctooltest.Run(t, of(row.setting), asynctooltest.Webhook(t, "supplier_prices", row.arguments))
			if got.Text != row.text || !strings.Contains(got.Log, row.log) {
				t.Error(got)
			}
		})
	}
}
