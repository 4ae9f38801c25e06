package shop_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/internal/tooltest"
)

const (
	resultsURL  = "https://api.example.com/results/token"
	notPassedOn = "I'm sorry, I couldn't pass that on."
	discount    = `{"subject":"a discount"}`
	noSubject   = "I need to know what it's about, in at most 500 characters."
)

// waits reports whether a result leaves the job to an external system.
func waits(r asynctool.Result) bool { return r.Later != nil && r.Later.Outside }

// notify runs the tool with a completion URL.
func notify(t *testing.T, ctx context.Context, base, token, arguments string) (asynctool.Result, error) {
	t.Helper()
	c := asynctool.Call{Host: &tooltest.Host{URL: resultsURL}}
	return tooltest.CallWith(t, ctx, c, notifyWhenReady(base, token), arguments)
}

func TestNotifyWhenReadyPassesOn(t *testing.T) {
	for name, row := range map[string]struct {
		below, token, arguments string
		want                    map[string]string
	}{
		"everything": {"", "s3cret", `{"subject":"Fifty euros off order <A-1042>?"}`, map[string]string{
			"subject": "Fifty euros off order <A-1042>?",
		}},
		"little": {"/api/v1/", "", `{"subject":"  a\n\tdiscount "}`, map[string]string{"subject": "a discount"}},
	} {
		t.Run(name, func(t *testing.T) {
			var path string
			var header http.Header
			var body map[string]string
			office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				path, header = r.Method+" "+r.RequestURI, r.Header
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				w.WriteHeader(http.StatusAccepted)
			}))
			defer office.Close()
			tool := notifyWhenReady(office.URL+row.below, row.token)
			c := asynctool.Call{CustomerNumber: "+15550100123", JobID: "j_1", Host: &tooltest.Host{URL: resultsURL}}
			result, err := tooltest.CallWith(t, t.Context(), c, tool, row.arguments)
			if err != nil || !waits(result) {
				t.Fatalf("got %+v, %v", result, err)
			}
			if want := "POST " + strings.TrimSuffix(row.below, "/") + "/requests"; path != want {
				t.Errorf("requested %s, want %s", path, want)
			}
			row.want["completion_url"], row.want["idempotency_key"] = resultsURL, "j_1"
			if diff := cmp.Diff(row.want, body); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			authorization := ""
			if row.token != "" {
				authorization = "Bearer " + row.token
			}
			if header.Get("Idempotency-Key") != "j_1" || header.Get("Authorization") != authorization ||
				header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", header)
			}
		})
	}
}

func TestNotifyWhenReadyRefused(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		header []string
		want   want
	}{
		"busy": {503, []string{"Retry-After", "7"},
			want{Spoken: notPassedOn, Retry: true, After: 7 * time.Second, Log: "503"}},
		"broken":    {500, nil, want{Spoken: notPassedOn, Retry: true, Log: "500"}},
		"forbidden": {403, nil, want{Spoken: notPassedOn, Log: "403"}},
		"unknown":   {404, nil, want{Spoken: notPassedOn, Log: "404"}},
	} {
		t.Run(name, func(t *testing.T) {
			office := tooltest.Answering(t, row.status, `{"error":"no"}`, row.header...)
			result, err := notify(t, t.Context(), office.URL, "", discount)
			row.want.Check(t, result, err)
		})
	}
	t.Run("is down", func(t *testing.T) {
		result, err := notify(t, t.Context(), tooltest.ClosedAddress(t), "", discount)
		want{Spoken: notPassedOn, Retry: true, Log: "did not respond: it refused the connection"}.Check(t, result, err)
	})
	t.Run("hangs", func(t *testing.T) {
		office := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			// A server notices that a client has left only after it has read the body.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}))
		defer office.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		result, err := notify(t, ctx, office.URL, "", discount)
		want{Spoken: notPassedOn, Retry: true, Log: context.DeadlineExceeded.Error()}.Check(t, result, err)
	})
}

// The completion URL goes to the office and to no other host.
func TestNotifyWhenReadyKeepsTheURL(t *testing.T) {
	elsewhere, requests := tooltest.Counting(t)
	office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/requests", http.StatusTemporaryRedirect)
	}))
	defer office.Close()
	result, err := notify(t, t.Context(), office.URL, "s3cret", discount)
	want{Spoken: notPassedOn, Log: "redirects to another host are not followed"}.Check(t, result, err)
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
	if strings.Contains(err.Error(), resultsURL) {
		t.Error("the error holds the completion URL")
	}
}

func TestNotifyWhenReadySendsNoRequest(t *testing.T) {
	office, requests := tooltest.Counting(t)
	for name, row := range map[string]struct {
		base, arguments string
		host            asynctool.Host
		want            want
	}{
		"blank subject": {office.URL, `{"subject":" \n"}`, &tooltest.Host{URL: resultsURL}, want{Spoken: noSubject}},
		"no address": {"", discount, &tooltest.Host{URL: resultsURL},
			want{Spoken: notAvailable, Log: "not set in the environment: REQUESTS_API_URL"}},
		"address of a file": {"file:///etc", discount, &tooltest.Host{URL: resultsURL},
			want{Spoken: notAvailable, Log: "REQUESTS_API_URL cannot be used by the tool notify_when_ready: it is not an"}},
		"no completion URL": {office.URL, discount, &tooltest.Host{},
			want{Spoken: notPassedOn, Retry: true, Log: "COMPLETION_URL is not set"}},
		"no host": {office.URL, discount, nil,
			want{Spoken: notPassedOn, Retry: true, Log: asynctool.ErrNoHost.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			tool := notifyWhenReady(row.base, "")
			result, err := tooltest.CallWith(t, t.Context(), asynctool.Call{Host: row.host}, tool, row.arguments)
			row.want.Check(t, result, err)
		})
	}
	for name, arguments := range map[string]string{
		"empty subject": `{"subject":""}`,
		"long subject":  `{"subject":"` + strings.Repeat("ä", 501) + `"}`,
		"no subject":    `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			result, err := notify(t, t.Context(), office.URL, "", arguments)
			if _, ok := err.(*asynctool.ArgumentError); !ok {
				t.Errorf("got %+v, %v, want an *asynctool.ArgumentError", result, err)
			}
		})
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// A repeated question with other capitals and spaces joins the first request.
func TestNotifyWhenReadyRecognisesTheQuestion(t *testing.T) {
	set, err := asynctool.NewSet(notifyWhenReady("", ""))
	if err != nil {
		t.Fatal(err)
	}
	question := func(subject string) string {
		arguments, err := json.Marshal(map[string]string{"subject": subject})
		if err != nil {
			t.Fatal(err)
		}
		key, err := set.Entries()[0].Question(arguments)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	if question("A discount  for order 7") != question("a discount for\norder 7 ") {
		t.Error("the same question has two keys")
	}
	if question("a discount for order 7") == question("a discount for order 8") {
		t.Error("two questions have the same key")
	}
}

// A busy office is asked again. The job then waits for its answer.
func TestNotifyWhenReadyWaits(t *testing.T) {
	var requests atomic.Int64
	office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer office.Close()
	webhook := asynctooltest.ReadWebhook(t, "../../events/vapi/notify-when-ready.json")
	got := asynctooltest.Run(t, notifyWhenReady(office.URL, ""), webhook)
	if got.Later == nil || !got.Later.Outside || got.Attempts != 2 || len(got.Messages) != 0 {
		t.Fatal(got)
	}
	if left := time.Until(got.Later.At); left < 47*time.Hour || left > 49*time.Hour {
		t.Errorf("it waits for %s", left)
	}
}
