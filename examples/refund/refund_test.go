package refund

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
)

// refunds is the shop's system. It answers with statuses, the last of them again and again.
type refunds struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
}

type request struct{ key, text string }

func serve(t *testing.T, statuses ...int) *refunds {
	s := &refunds{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		status := statuses[min(len(s.requests), len(statuses)-1)]
		text := r.Method + " " + r.RequestURI + " " + string(body)
		s.requests = append(s.requests, request{r.Header.Get("Idempotency-Key"), text})
		if status == 0 { // the connection breaks: the shop may have begun
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

// seen returns the requests so far.
func (s *refunds) seen() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func at(url string) asynctool.Definition { return Tool(func(string) string { return url }) }

func ask(t *testing.T, arguments string) []byte {
	return asynctooltest.Webhook(t, "refund_order", arguments)
}

const (
	made    = "The refund of 12.50 euros for order A-1042 is on its way."
	unknown = "I couldn't find out whether the refund was made. A colleague will check it, and write to you."
	noOrder = "There's no order with that number. Please check it."
	again   = "There was a refund for that order before. A colleague has to look at another one."
	busy    = "The shop's system is too busy right now. Nothing was refunded, so please try again later."
)

func TestRefund(t *testing.T) {
	for name, row := range map[string]struct {
		statuses []int // of the shop's answers; 0 means that the connection breaks
		text     string
		requests int
	}{
		"made":                 {[]int{201}, made, 1},
		"busy, then made":      {[]int{429, 503, 201}, made, 3},
		"busy for good":        {[]int{503}, busy, 1 + asynctool.MaxNotStarted},
		"no order":             {[]int{404}, noOrder, 1},
		"refunded before":      {[]int{409}, again, 1},
		"broken":               {[]int{500, 201}, unknown, 1},
		"busy, then broken":    {[]int{503, 502, 201}, unknown, 2},
		"a broken connection":  {[]int{0, 201}, unknown, 1},
		"a time-out at a door": {[]int{504, 201}, unknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			shop := serve(t, row.statuses...)
			got := asynctooltest.Run(t, at(shop.URL), ask(t, `{"order_id":" A-1042","cents":1250}`))
			requests := shop.seen()
			if got.Text != row.text || len(requests) != row.requests || len(got.Delays) != row.requests-1 {
				t.Errorf("%d requests\n%s", len(requests), got)
			}
			for i, r := range requests {
				if want := `POST /orders/A-1042/refunds {"cents":1250}`; r.text != want || r.key == "" || r.key != requests[0].key {
					t.Errorf("request %d is %q, the first one %q", i, r, requests[0])
				}
			}
			for _, delay := range got.Delays {
				if delay != 3*time.Second {
					t.Errorf("the tool waits for %s, and the shop asks for 3s", delay)
				}
			}
		})
	}
}

// A shop that cannot be reached has not begun.
func TestUnreachable(t *testing.T) {
	shop := serve(t, 201)
	shop.Close()
	got := asynctooltest.Run(t, at(shop.URL), ask(t, `{"order_id":"A-1042","cents":1250}`))
	if got.Text != busy || len(got.Delays) != asynctool.MaxNotStarted {
		t.Error(got)
	}
}

func TestNothingIsSent(t *testing.T) {
	for name, row := range map[string]struct{ arguments, text string }{
		"another path": {`{"order_id":"../A-1042","cents":1}`, "That doesn't look like an order number. Please check it."},
		"nothing":      {`{"order_id":"A-1042","cents":0}`, "cents"},
		"too much":     {`{"order_id":"A-1042","cents":50001}`, "cents"},
	} {
		t.Run(name, func(t *testing.T) {
			shop := serve(t, 201)
			got := asynctooltest.Run(t, at(shop.URL), ask(t, row.arguments))
			if got.Status != "error" || !strings.Contains(got.Text, row.text) || len(shop.seen()) != 0 {
				t.Errorf("%d requests\n%s", len(shop.seen()), got)
			}
		})
	}
	got := asynctooltest.Run(t, at("shop"), ask(t, `{"order_id":"A-1042","cents":1}`))
	if !strings.Contains(got.Log, "REFUNDS_API_URL cannot be used by the tool refund_order: it is not an address") {
		t.Error(got)
	}
}

// The caller asks a second time while the shop is busy, and once more when the refund is made.
func TestAskedAgain(t *testing.T) {
	shop := serve(t, 503, 201, 409)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, at(shop.URL))
		call.Ask("refund_order", `{"order_id":"A-1042","cents":1250}`)
		call.Ask("refund_order", `{"order_id":" a-1042","cents":1250}`)
		call.Wait(time.Minute)
		if heard := strings.Join(call.Heard(), "\n"); len(shop.seen()) != 2 || strings.Count(heard, made) != 1 {
			t.Errorf("%d requests\n%s", len(shop.seen()), call)
		}
		call.Ask("refund_order", `{"order_id":"A-1042","cents":1250}`)
		call.Wait(time.Minute)
		requests, heard := shop.seen(), call.Heard()
		if len(requests) != 3 || requests[2].key == requests[1].key ||
			!strings.Contains(heard[len(heard)-1], again) {
			t.Errorf("%q\n%s", requests, call)
		}
	})
}
