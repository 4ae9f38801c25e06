package vapiclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// apiTo starts a server and returns a client of it, and the delays that the client asked for.
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
		got = append(got, fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL.RequestURI(),
			r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body))
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

func TestAPIVersions(t *testing.T) {
	const (
		first  = "/assistant/a/versions"
		second = first + "/v1"
		one    = `{"version":"v1"}`
		list   = `{"results":[{"version":7},{"version":"v7","name":"seven"},{"version":"v6"}],"metadata":{}}`
	)
	for name, row := range map[string]struct {
		list    string // empty: 404
		version string
		want    string // empty: an error
		paths   []string
	}{
		"on the first page":  {list, "v7", `{"version":"v7","name":"seven"}`, []string{first}},
		"older":              {list, "v1", one, []string{first, second}},
		"no list":            {"", "v1", one, []string{first, second}},
		"another shape":      {`[7]`, "v1", one, []string{first, second}},
		"no such version":    {list, "v0", "", []string{first, first + "/v0"}},
		"a label with slash": {list, "v/1", "", []string{first, first + "/v%2F1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
				paths = append(paths, r.URL.RequestURI())
				switch path := r.URL.RequestURI(); {
				case path == first && row.list != "":
					io.WriteString(w, row.list)
				case path == second:
					io.WriteString(w, one)
				default:
					w.WriteHeader(404)
				}
			})
			got, err := api.AssistantVersion(t.Context(), "a", row.version)
			if string(got) != row.want || (err != nil) != (row.want == "") {
				t.Errorf("%s, %v", got, err)
			}
			if diff := cmp.Diff(row.paths, paths); diff != "" {
				t.Error(diff)
			}
		})
	}
	var path string
	api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.RequestURI()
		w.WriteHeader(403)
	})
	_, err := api.AssistantVersion(t.Context(), "a", "v1")
	if failed, ok := errors.AsType[*vapiclient.APIError](err); !ok || failed.Status != 403 {
		t.Errorf("%v", err)
	}
	_, err = api.TrafficAllocation(t.Context(), "a&b")
	if err == nil || path != "/traffic-allocations/latest?assistantId=a%26b" {
		t.Errorf("%s, %v", path, err)
	}
}

func TestAPIRepeats(t *testing.T) {
	const second, last = time.Second, 16 * time.Second
	for name, row := range map[string]struct {
		method     string
		status     int // 0: the connection breaks
		retryAfter string
		failures   int
		slept      []time.Duration
		ok         bool
	}{
		"server error":         {"GET", 500, "", 2, []time.Duration{second, 2 * second}, true},
		"bad gateway":          {"PATCH", 502, "", 1, []time.Duration{second}, true},
		"broken connection":    {"DELETE", 0, "", 1, []time.Duration{second}, true},
		"timeout":              {"GET", 408, "", 1, []time.Duration{second}, true},
		"rate limit":           {"POST", 429, "", 1, []time.Duration{second}, true},
		"seconds":              {"GET", 429, "7", 1, []time.Duration{7 * second}, true},
		"date":                 {"GET", 503, "Mon, 05 Jan 2026 10:00:30 GMT", 1, []time.Duration{30 * second}, true},
		"date in the past":     {"GET", 503, "Mon, 05 Jan 2026 09:00:00 GMT", 1, []time.Duration{second}, true},
		"an hour":              {"GET", 429, "3600", 1, []time.Duration{time.Minute}, true},
		"six attempts":         {"GET", 500, "", 6, []time.Duration{second, 2 * second, 4 * second, 8 * second, last}, false},
		"create, server error": {"POST", 500, "", 1, nil, false},
		"create, broken":       {"POST", 0, "", 1, nil, false},
		"bad request":          {"PATCH", 400, "", 1, nil, false},
		"redirect":             {"GET", 302, "", 1, nil, false},
		"wrong key":            {"GET", 401, "", 1, nil, false},
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
			if (err == nil) != row.ok || int(requests.Load()) != len(row.slept)+1 || !slices.Equal(*slept, row.slept) {
				t.Errorf("%v after %d requests and %v", err, requests.Load(), *slept)
			}
			if err == nil {
				return
			}
			failed, ok := errors.AsType[*vapiclient.APIError](err)
			lost := row.status == 0 || row.status >= 500
			if !ok || failed.Status != row.status || failed.Method != row.method || failed.Lost() != lost {
				t.Errorf("%#v", failed)
			}
			if strings.Contains(err.Error(), privateKey) || row.status != 0 && !strings.Contains(err.Error(), "a …; b") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A cancelled context ends the attempts.
func TestAPICancelled(t *testing.T) {
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
	for name, row := range map[string]struct {
		status     int
		body, want string
	}{
		"HTML":       {200, "<html>", "the answer is not JSON"},
		"a text":     {400, `{"message":"too\tlong"}`, "answered 400 too long"},
		"no message": {418, "", "answered 418"},
		"a long text": {400, `{"message":"` + strings.Repeat("é", 10_000) + `"}`,
			"answered 400 " + strings.Repeat("é", 500) + "…"},
		"a page":       {400, "<html>private-key", "answered 400"},
		"wrong key":    {401, `{}`, "answered 401 {} (check that the key is the private key of this region)"},
		"wrong id":     {404, `{"message":"none"}`, "answered 404 none (check the ID and the key's organisation)"},
		"odd messages": {400, `{"message":{"a":1}}`, `answered 400 {"message":{"a":1}}`},
	} {
		api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(row.status)
			io.WriteString(w, row.body)
		})
		_, err := api.Get(t.Context(), vapiclient.Tools, "t")
		if want := "GET /tool/t at Vapi: " + row.want; err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

// secretBody has secrets that are written in another way when they are escaped.
type secretBody struct{ Token, Key string }

func (b secretBody) Secrets() []string { return []string{b.Token, b.Key, b.Key + "-and-more", ""} }

// TestAPIErrorsHideSecrets refuses bodies with answers that quote them.
func TestAPIErrorsHideSecrets(t *testing.T) {
	body := secretBody{Token: `pass<"wörd\`, Key: "k3y/with+more&"}
	longer := body.Key + "-and-more"
	whole, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	inJSON := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, row := range map[string]struct{ answer, want string }{
		"in the message":  {`{"message":` + inJSON("not "+body.Token+", "+body.Key) + `}`, "not …, …"},
		"with escapes":    {`{"message":"not \u006b3y\/with+more&"}`, "not …"},
		"in a list":       {`{"message":[` + inJSON(body.Token) + `,"x"]}`, "…; x"},
		"without message": {`{"error":{"body":` + string(whole) + `}}`, `{"error":{"body":{"Key":"…","Token":"…"}}}`},
		"as a name":       {`{"` + body.Key + `":1.50}`, `{"…":1.50}`},
		"a quoted body":   {`{"message":` + inJSON("not "+string(whole)) + `}`, `not {"Token":"…","Key":"…"}`},
		"in a URL":        {`{"message":` + inJSON("not "+url.QueryEscape(body.Key)) + `}`, "not …"},
		"at the end": {`{"message":"` + strings.Repeat("x", 495) + `k3y/with+more&"}`,
			strings.Repeat("x", 495) + "…"},
		"of the organisation": {`{"error":"private\u002dkey"}`, `{"error":"…"}`},
		"a longer one":        {`{"message":"` + longer + `"}`, "…"},
		"not JSON":            {"<p>" + body.Key, ""},
	} {
		api, _ := apiTo(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, row.answer)
		})
		_, err := api.Create(t.Context(), vapiclient.Credentials, body)
		want := strings.TrimSpace("POST /credential at Vapi: answered 400 " + row.want)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got  %v\nwant %s", name, err, want)
		}
	}
}

// TestAPIList lists more objects than fit into one answer. Some were created at the same time.
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
		"oldest first": {serve(1500, func(i int) int { return i }), "not listed newest first"},
		"all at once": {func(w http.ResponseWriter, r *http.Request) {
			page := make([]map[string]string, 1000)
			for i := range page {
				page[i] = map[string]string{"id": strconv.Itoa(i), "createdAt": "2026-01-01T00:00:00.000Z"}
			}
			_ = json.NewEncoder(w).Encode(page)
		}, "every page lists the same"},
		"no list": {serveText(`{"results":[]}`), "the answer is not a list"},
		"no id":   {serveText(`[{"id":"x"},{}]`), "object 2 has no ID"},
	} {
		t.Run(name, func(t *testing.T) {
			api, _ := apiTo(t, row.handler)
			list, err := api.List(t.Context(), vapiclient.Assistants)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%d objects, error %v, want %q", len(list), err, row.want)
			}
		})
	}
	// A credential that is missing from the list would be created once more.
	api, _ := apiTo(t, serveText("["+strings.Repeat(`{"id":"x"},`, 99)+`{"id":"x"}]`))
	_, err := api.List(t.Context(), vapiclient.Credentials)
	if err == nil || !strings.Contains(err.Error(), "--credential") {
		t.Errorf("100 credentials: error %v", err)
	}
}

func serveText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }
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
