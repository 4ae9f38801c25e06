package vapiclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/vapi/vapiclient"
)

const privateKey = "private-key"

// apiTo is a client of a server, and how long it would have slept.
func apiTo(t testing.TB, handler http.HandlerFunc) (*vapiclient.API, *[]time.Duration) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	var slept []time.Duration
	api, err := vapiclient.NewAPI(vapiclient.APIConfig{
		Key: privateKey, URL: server.URL + "/",
		Sleep: func(ctx context.Context, d time.Duration) error { slept = append(slept, d); return ctx.Err() },
		Now:   func() time.Time { return time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return api, &slept
}

func TestAPIRequests(t *testing.T) {
	var got []string
	api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body))
		switch {
		case r.Method == "DELETE" && strings.HasSuffix(r.URL.Path, "gone"):
			w.WriteHeader(404)
		case r.Method == "GET" && r.URL.Path == "/credential":
			io.WriteString(w, `[{"id":"c"}]`)
		default:
			io.WriteString(w, `{"id":"x"}`)
		}
	})
	ctx := t.Context()
	for _, err := range []error{
		second(api.Get(ctx, vapiclient.Assistants, "a/../b")),
		second(api.Create(ctx, vapiclient.Tools, vapiclient.StaticParameter{Key: "k", Value: "v"})),
		second(api.Update(ctx, vapiclient.Tools, "t", json.RawMessage(`{ "a" : "<" }`))),
		api.Delete(ctx, vapiclient.Tools, "t"),
		api.Delete(ctx, vapiclient.Tools, "gone"),
		second(api.List(ctx, vapiclient.Credentials)),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"GET /assistant/a%2F..%2Fb Bearer private-key  ",
		`POST /tool Bearer private-key application/json {"key":"k","value":"v"}`,
		`PATCH /tool/t Bearer private-key application/json { "a" : "<" }`,
		"DELETE /tool/t Bearer private-key  ",
		"DELETE /tool/gone Bearer private-key  ",
		"GET /credential Bearer private-key  ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func second[T any](_ T, err error) error { return err }

func TestAPIRepeats(t *testing.T) {
	const seconds = time.Second
	for name, row := range map[string]struct {
		method     string
		status     int // 0: the connection breaks
		retryAfter string
		failures   int
		requests   int
		slept      []time.Duration
		ok         bool
	}{
		"server error":         {"GET", 500, "", 2, 3, []time.Duration{seconds, 2 * seconds}, true},
		"bad gateway":          {"PATCH", 502, "", 1, 2, []time.Duration{seconds}, true},
		"broken connection":    {"DELETE", 0, "", 1, 2, []time.Duration{seconds}, true},
		"timeout":              {"GET", 408, "", 1, 2, []time.Duration{seconds}, true},
		"rate limit":           {"POST", 429, "", 1, 2, []time.Duration{seconds}, true},
		"seconds":              {"GET", 429, "7", 1, 2, []time.Duration{7 * seconds}, true},
		"date":                 {"GET", 503, "Mon, 05 Jan 2026 10:00:30 GMT", 1, 2, []time.Duration{30 * seconds}, true},
		"date that is past":    {"GET", 503, "Mon, 05 Jan 2026 09:00:00 GMT", 1, 2, []time.Duration{seconds}, true},
		"too long a wait":      {"GET", 429, "99999999999", 1, 2, []time.Duration{time.Minute}, true},
		"an hour":              {"GET", 429, "3600", 1, 2, []time.Duration{time.Minute}, true},
		"nonsense":             {"GET", 429, "soon", 1, 2, []time.Duration{seconds}, true},
		"for good":             {"GET", 500, "", 99, 6, []time.Duration{seconds, 2 * seconds, 4 * seconds, 8 * seconds, 16 * seconds}, false},
		"create, server error": {"POST", 500, "", 1, 1, nil, false},
		"create, broken":       {"POST", 0, "", 1, 1, nil, false},
		"bad request":          {"PATCH", 400, "", 1, 1, nil, false},
		"redirect":             {"GET", 302, "", 1, 1, nil, false},
		"wrong key":            {"GET", 401, "", 1, 1, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			api, slept := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
				if int(requests.Add(1)) > row.failures {
					io.WriteString(w, `{"id":"x"}`)
					return
				}
				if row.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Retry-After", row.retryAfter)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(row.status)
				io.WriteString(w, `{"message":["a `+privateKey+`","b\n"],"statusCode":1}`)
			})
			var err error
			switch row.method {
			case "GET":
				_, err = api.Get(t.Context(), vapiclient.Tools, "t")
			case "POST":
				_, err = api.Create(t.Context(), vapiclient.Tools, map[string]int{})
			case "PATCH":
				_, err = api.Update(t.Context(), vapiclient.Tools, "t", map[string]int{})
			case "DELETE":
				err = api.Delete(t.Context(), vapiclient.Tools, "t")
			}
			if (err == nil) != row.ok || int(requests.Load()) != row.requests || !slices.Equal(*slept, row.slept) {
				t.Errorf("%v after %d requests and %v", err, requests.Load(), *slept)
			}
			if err == nil {
				return
			}
			failed, ok := errors.AsType[*vapiclient.APIError](err)
			if !ok || failed.Status != row.status || failed.Method != row.method || failed.Lost() != (row.status == 0 || row.status >= 500) {
				t.Errorf("%#v", failed)
			}
			if strings.Contains(err.Error(), privateKey) || row.status != 0 && !strings.Contains(err.Error(), "a …; b") {
				t.Errorf("%v", err)
			}
		})
	}
}

// Somebody who does not want to wait any longer does not have to.
func TestAPIIsInterrupted(t *testing.T) {
	requests := 0
	ctx, cancel := context.WithCancel(t.Context())
	api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		cancel()
		w.WriteHeader(503)
	})
	if _, err := api.Get(ctx, vapiclient.Tools, "t"); err == nil || requests != 1 {
		t.Errorf("%v after %d requests", err, requests)
	}
}

func TestAPIErrors(t *testing.T) {
	for name, row := range map[string]struct{ status, body, want string }{
		"no JSON":      {"200", "<html>", "the Vapi API: GET /tool/t: the answer is not JSON"},
		"a text":       {"400", `{"message":"too\tlong"}`, "the Vapi API: GET /tool/t: answered 400 too long"},
		"no message":   {"418", "", "the Vapi API: GET /tool/t: answered 418"},
		"a page":       {"400", strings.Repeat("é", 10_000), "the Vapi API: GET /tool/t: answered 400 " + strings.Repeat("é", 500) + "…"},
		"wrong key":    {"401", `{}`, "the Vapi API: GET /tool/t: answered 401 {} (is it the private key, and of this region?)"},
		"wrong id":     {"404", `{"message":"none"}`, "the Vapi API: GET /tool/t: answered 404 none (is the id right, and the key's organisation?)"},
		"odd messages": {"400", `{"message":{"a":1}}`, `the Vapi API: GET /tool/t: answered 400 {"message":{"a":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
				status, _ := strconv.Atoi(row.status)
				w.WriteHeader(status)
				io.WriteString(w, row.body)
			})
			_, err := api.Get(t.Context(), vapiclient.Tools, "t")
			if err == nil || err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

// TestAPIList lists more than one answer holds, some of them made at the same
// moment.
func TestAPIList(t *testing.T) {
	serve := func(total int, order func(i int) int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			page := []map[string]string{}
			for i := range total {
				n := order(i)
				created := time.Date(2026, 1, 1, 0, 0, n/3, 0, time.UTC).Format("2006-01-02T15:04:05.000Z")
				if until := r.URL.Query().Get("createdAtLe"); until != "" && created > until {
					continue
				}
				if len(page) < 1000 {
					page = append(page, map[string]string{"id": strconv.Itoa(n), "createdAt": created})
				}
			}
			if err := json.NewEncoder(w).Encode(page); err != nil {
				t.Error(err)
			}
		}
	}
	newestFirst := func(total int) func(int) int { return func(i int) int { return total - 1 - i } }
	for _, total := range []int{0, 1, 999, 1000, 1001, 2500} {
		api, _ := apiTo(t, serve(total, newestFirst(total)))
		list, err := api.List(t.Context(), vapiclient.Tools)
		if err != nil || len(list) != total {
			t.Errorf("%d of %d, %v", len(list), total, err)
		}
	}
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"oldest first": {serve(1500, func(i int) int { return i }), "does not list the newest first any more"},
		"all at once": {func(w http.ResponseWriter, r *http.Request) {
			page := make([]map[string]string, 1000)
			for i := range page {
				page[i] = map[string]string{"id": strconv.Itoa(i), "createdAt": "2026-01-01T00:00:00.000Z"}
			}
			_ = json.NewEncoder(w).Encode(page)
		}, "again and again"},
		"no list": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"results":[]}`) }, "was not answered with a list"},
		"no id":   {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `[{"id":"x"},{}]`) }, "entry 2 has no id"},
	} {
		t.Run(name, func(t *testing.T) {
			api, _ := apiTo(t, row.handler)
			if list, err := api.List(t.Context(), vapiclient.Assistants); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%d, %v", len(list), err)
			}
		})
	}
	// One that is not listed would be made again and again.
	api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "["+strings.Repeat(`{"id":"x"},`, 99)+`{"id":"x"}]`)
	})
	if _, err := api.List(t.Context(), vapiclient.Credentials); err == nil || !strings.Contains(err.Error(), "--credential") {
		t.Errorf("%v", err)
	}
}

func TestNewAPI(t *testing.T) {
	for name, row := range map[string]struct {
		cfg vapiclient.APIConfig
		ok  bool
	}{
		"Vapi":                {vapiclient.APIConfig{Key: "k"}, true},
		"Europe":              {vapiclient.APIConfig{Key: "k", URL: vapiclient.APIURLEU}, true},
		"this machine":        {vapiclient.APIConfig{Key: "k", URL: "http://127.0.0.1:8080/api"}, true},
		"no key":              {vapiclient.APIConfig{}, false},
		"a line in the key":   {vapiclient.APIConfig{Key: "k\nX-Other: 1"}, false},
		"another's machine":   {vapiclient.APIConfig{Key: "k", URL: "http://api.vapi.ai"}, false},
		"no scheme":           {vapiclient.APIConfig{Key: "k", URL: "api.vapi.ai"}, false},
		"a password":          {vapiclient.APIConfig{Key: "k", URL: "https://a:b@api.vapi.ai"}, false},
		"a query":             {vapiclient.APIConfig{Key: "k", URL: "https://api.vapi.ai?x=1"}, false},
		"no address at all":   {vapiclient.APIConfig{Key: "k", URL: "https://"}, false},
		"not even an address": {vapiclient.APIConfig{Key: "k", URL: "https://%"}, false},
	} {
		if _, err := vapiclient.NewAPI(row.cfg); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
