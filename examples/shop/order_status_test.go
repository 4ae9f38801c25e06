package shop_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/internal/tooltest"
)

const noOrderNumber = "That doesn't look like an order number. Please check it."

func TestOrderStatusAnswers(t *testing.T) {
	future := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	past := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	const status = "The status of order A-1042 is: "
	// An error without a text makes the caller hear the tool's FailureText.
	for name, row := range map[string]struct {
		status int
		body   string
		header []string
		want   want
	}{
		"status alone": {200, `{"status":"being packed"}`, nil, want{Text: status + "being packed."}},
		"everything": {200, `{"status":"out_for_delivery","carrier":"DHL","expected_delivery":"2026-03-04"}`, nil,
			want{Text: status + "out for delivery. The carrier is DHL. It's expected on Wednesday, 4 March 2026."}},
		"expected with a time": {200, `{"status":"sent","expected_delivery":"2026-03-04T09:00:00+01:00"}`, nil,
			want{Text: status + "sent. It's expected on Wednesday, 4 March 2026."}},
		"expected in words": {200, `{"status":"sent","expected_delivery":"next\nweek"}`, nil,
			want{Text: status + "sent. It's expected on next week."}},
		"other fields and null": {200, `{"status":"sent","carrier":null,"items":[{"price":1}]}`, nil,
			want{Text: status + "sent."}},
		"no status":         {200, `{"carrier":"DHL"}`, nil, want{Log: "has no status"}},
		"not JSON":          {200, `<html>`, nil, want{Log: "not the JSON that the tool expects"}},
		"nothing":           {204, ``, nil, want{Log: "not the JSON that the tool expects"}},
		"status is no text": {200, `{"status":3}`, nil, want{Log: "not the JSON that the tool expects"}},
		"longer than the bound": {200, `{"status":"` + strings.Repeat("x", 256<<10) + `"}`, nil,
			want{Log: "longer than 262144 bytes"}},
		"not found": {404, `{"status":"sent"}`, nil,
			want{Spoken: "There's no order with that number. Please check it.", Log: "404 Not Found"}},
		"forbidden":            {403, ``, nil, want{Log: "403 Forbidden"}},
		"gone":                 {410, ``, nil, want{Log: "410 Gone"}},
		"not modified":         {304, ``, nil, want{Log: "304 Not Modified"}},
		"broken":               {500, ``, nil, want{Retry: true, Log: "500 Internal Server Error"}},
		"busy":                 {503, ``, []string{"Retry-After", "7"}, want{Retry: true, After: 7 * time.Second}},
		"too many":             {429, ``, []string{"Retry-After", "3600"}, want{Retry: true, After: 2 * time.Minute}},
		"too early":            {425, ``, nil, want{Retry: true}},
		"request timeout":      {408, ``, nil, want{Retry: true}},
		"retry at a date":      {503, ``, []string{"Retry-After", future}, want{Retry: true, After: 2 * time.Minute}},
		"retry at a past date": {503, ``, []string{"Retry-After", past}, want{Retry: true}},
		"retry negative":       {503, ``, []string{"Retry-After", "-5"}, want{Retry: true}},
		"retry nonsense":       {503, ``, []string{"Retry-After", "99999999999999999999"}, want{Retry: true}},
		"retry at the largest": {503, ``, []string{"Retry-After", "4294967295"}, want{Retry: true, After: 2 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			service := tooltest.Answering(t, row.status, row.body, row.header...)
			result, err := tooltest.Call(t, t.Context(), orderStatus(service.URL), `{"order_id":"A-1042"}`)
			row.want.Check(t, result, err)
		})
	}
}

func TestOrderStatusAddress(t *testing.T) {
	for name, row := range map[string]struct{ base, arguments, want string }{
		"plain":        {"", `{"order_id":"A-1042"}`, "/orders/A-1042"},
		"white space":  {"", `{"order_id":"  A-1042\n"}`, "/orders/A-1042"},
		"dots":         {"", `{"order_id":"2026.1042_b"}`, "/orders/2026.1042_b"},
		"below a path": {"/api/v1/", `{"order_id":"1"}`, "/api/v1/orders/1"},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Method + " " + r.RequestURI
				_, _ = w.Write([]byte(`{"status":"sent"}`))
			}))
			defer service.Close()
			if _, err := tooltest.Call(t, t.Context(), orderStatus(service.URL+row.base), row.arguments); err != nil {
				t.Fatal(err)
			}
			if want := "GET " + row.want; got != want {
				t.Errorf("requested %s, want %s", got, want)
			}
		})
	}
}

func TestOrderStatusSendsNoRequest(t *testing.T) {
	service, requests := tooltest.Counting(t)
	noAddress := want{Spoken: notAvailable,
		Log: "ORDERS_API_URL cannot be used by the tool order_status: it is not an address"}
	for name, row := range map[string]struct {
		base, arguments string
		want            want
	}{
		"slash":           {service.URL, `{"order_id":"A/../../admin"}`, want{Spoken: noOrderNumber}},
		"escaped slash":   {service.URL, `{"order_id":"..%2fadmin"}`, want{Spoken: noOrderNumber}},
		"escaped dots":    {service.URL, `{"order_id":"%252e%252e"}`, want{Spoken: noOrderNumber}},
		"query and more":  {service.URL, `{"order_id":"1?x=1#y"}`, want{Spoken: noOrderNumber}},
		"other languages": {service.URL, `{"order_id":"Ä1"}`, want{Spoken: noOrderNumber}},
		"two words":       {service.URL, `{"order_id":"A 1042"}`, want{Spoken: noOrderNumber}},
		"empty number":    {service.URL, `{"order_id":" "}`, want{Spoken: noOrderNumber}},
		"dot":             {service.URL, `{"order_id":"."}`, want{Spoken: noOrderNumber}},
		"dots":            {service.URL, `{"order_id":".."}`, want{Spoken: noOrderNumber}},
		"long number": {service.URL, `{"order_id":"` + strings.Repeat("1", 65) + `"}`,
			want{Spoken: noOrderNumber}},
		"no address": {"", `{"order_id":"1"}`,
			want{Spoken: notAvailable, Log: "not set in the environment: ORDERS_API_URL"}},
		"address of a file":  {"file:///etc", `{"order_id":"1"}`, noAddress},
		"address of nowhere": {"https://", `{"order_id":"1"}`, noAddress},
		"no address at all":  {"shop key", `{"order_id":"1"}`, noAddress},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := tooltest.Call(t, t.Context(), orderStatus(row.base), row.arguments)
			row.want.Check(t, result, err)
			if strings.Contains(err.Error(), "key") {
				t.Error("the error repeats the address")
			}
		})
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestOrderStatusUnreachable(t *testing.T) {
	t.Run("refuses", func(t *testing.T) {
		result, err := tooltest.Call(t, t.Context(), orderStatus(tooltest.ClosedAddress(t)), `{"order_id":"A-1042"}`)
		want{Retry: true, Log: "did not respond: it refused the connection"}.Check(t, result, err)
		if strings.Contains(err.Error(), "A-1042") {
			t.Error("the error holds the order number")
		}
	})
	t.Run("hangs", func(t *testing.T) {
		service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}))
		defer service.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		result, err := tooltest.Call(t, ctx, orderStatus(service.URL), `{"order_id":"A-1042"}`)
		want{Retry: true, Log: context.DeadlineExceeded.Error()}.Check(t, result, err)
	})
	t.Run("breaks off", func(t *testing.T) {
		service := tooltest.Answering(t, 200, `{"status":`, "Content-Length", "1000")
		result, err := tooltest.Call(t, t.Context(), orderStatus(service.URL), `{"order_id":"A-1042"}`)
		want{Retry: true, Log: "malformed: it is incomplete"}.Check(t, result, err)
	})
}

// A proxy that decodes a path before it reads it finds no way out of the folder.
func TestOrderStatusBehindADecodingProxy(t *testing.T) {
	var paths []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		decoded, _ := url.PathUnescape(r.URL.Path) // twice: net/http has decoded it once
		paths = append(paths, path.Clean(decoded))
		_, _ = w.Write([]byte(`{"status":"sent"}`))
	}))
	defer proxy.Close()
	tool := orderStatus(proxy.URL + "/v1")
	for _, id := range []string{"../admin", "..%2fadmin", "A/../../admin", "%2e%2e%2fadmin", "A-1042"} {
		_, _ = tooltest.Call(t, t.Context(), tool, `{"order_id":"`+id+`"}`)
	}
	if want := []string{"/v1/orders/A-1042"}; !slices.Equal(paths, want) {
		t.Errorf("the proxy reached %q", paths)
	}
}

// A busy shop is asked again after its Retry-After, and the caller hears one answer.
func TestOrderStatusIsDelivered(t *testing.T) {
	const packed = "The status of order A-1042 is: being packed."
	delays := []time.Duration{7 * time.Second, 7 * time.Second}
	for name, row := range map[string]struct {
		busy   int // how many requests get 503
		text   string
		delays []time.Duration
		dead   bool
	}{
		"at once":       {0, packed, nil, false},
		"after a while": {2, packed, delays, false},
		"never":         {3, "I'm sorry, the shop's order system isn't responding right now.", delays, true},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) <= int64(row.busy) {
					w.Header().Set("Retry-After", "7")
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				_, _ = w.Write([]byte(`{"status":"being_packed"}`))
			}))
			defer service.Close()
			webhook := asynctooltest.ReadWebhook(t, "../../events/vapi/tool-calls.json")
			got := asynctooltest.Run(t, orderStatus(service.URL), webhook)
			if got.Text != row.text || got.DeadLettered != row.dead || !slices.Equal(got.Delays, row.delays) ||
				len(got.Messages) != 1 {
				t.Error(got)
			}
		})
	}
}

func TestOrderStatusRedirects(t *testing.T) {
	elsewhere, requests := tooltest.Counting(t)
	var target string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			_, _ = w.Write([]byte(`{"status":"sent"}`))
			return
		}
		http.Redirect(w, r, target, http.StatusFound)
	}))
	defer service.Close()
	for name, row := range map[string]struct {
		target string
		want   want
	}{
		"same host":    {"/moved", want{Text: "The status of order 1 is: sent."}},
		"another host": {elsewhere.URL + "/moved", want{Log: "redirects to another host are not followed"}},
		"in a circle":  {"/orders/1", want{Log: "302 Found"}},
	} {
		t.Run(name, func(t *testing.T) {
			target = row.target
			result, err := tooltest.Call(t, t.Context(), orderStatus(service.URL), `{"order_id":"1"}`)
			row.want.Check(t, result, err)
		})
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}
