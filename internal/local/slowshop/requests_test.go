package slowshop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/local/slowshop"
)

const (
	looking  = `{"progress":"Somebody is looking at it."}`
	approved = `{"result":"Approved by the shop's manager."}`
)

// results serves a completion URL.
type results struct {
	*httptest.Server
	posted chan string

	mu      sync.Mutex
	answers []int // the first statuses; all others are 200. 0 breaks the connection
}

func newResults(t *testing.T, answers ...int) *results {
	r := &results{posted: make(chan string, 100), answers: answers}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		status := http.StatusOK
		if len(r.answers) > 0 {
			status, r.answers = r.answers[0], r.answers[1:]
		}
		r.mu.Unlock()
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		r.posted <- string(body)
	}))
	t.Cleanup(r.Close)
	return r
}

// patience bounds what takes a moment on a quiet machine. Only something that
// hangs reaches it.
const patience = 5 * time.Minute

// next returns the next post.
func (r *results) next(t *testing.T) string {
	t.Helper()
	select {
	case body := <-r.posted:
		return body
	case <-time.After(patience):
		t.Fatal("nothing more was posted")
		return ""
	}
}

func open(t *testing.T, delay time.Duration) (*slowshop.Shop, string) {
	t.Helper()
	shop := slowshop.Handler(delay)
	server := httptest.NewServer(shop)
	t.Cleanup(func() {
		server.Close()
		shop.Close()
	})
	return shop, server.URL
}

func request(t *testing.T, shop, key, completionURL string) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{
		"subject": "a discount", "idempotency_key": key, "completion_url": completionURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	return post(t, shop, string(body))
}

func post(t *testing.T, shop, body string) int {
	t.Helper()
	response, err := http.Post(shop+"/requests", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestRequest(t *testing.T) {
	for name, row := range map[string]struct {
		answers []int
		want    []string
	}{
		"at once":                     {nil, []string{looking, approved}},
		"the result is refused":       {[]int{202, 409}, []string{looking, approved}},
		"the progress comes too soon": {[]int{429}, []string{looking, approved}},
		"the result has to wait":      {[]int{202, 503, 429}, []string{looking, approved, approved, approved}},
		"connections break":           {[]int{0, 202, 0}, []string{looking, approved}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results := newResults(t, row.answers...)
			_, shop := open(t, time.Millisecond)
			if status := request(t, shop, "key", results.URL+"/results/token"); status != http.StatusAccepted {
				t.Fatalf("answered with %d", status)
			}
			var got []string
			for range row.want {
				got = append(got, results.next(t))
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A repeated request is not a second one, and the number of open requests is
// bounded.
func TestRequestsAreBounded(t *testing.T) {
	results := newResults(t)
	shop, url := open(t, time.Hour)
	for i := range 32 {
		for range 2 {
			if status := request(t, url, fmt.Sprint("key", i), results.URL); status != http.StatusAccepted {
				t.Fatalf("request %d was answered with %d", i, status)
			}
		}
	}
	if status := request(t, url, "one more", results.URL); status != http.StatusServiceUnavailable {
		t.Errorf("one too many was answered with %d", status)
	}
	started := time.Now()
	shop.Close()
	if took := time.Since(started); took > patience || len(results.posted) > 0 {
		t.Errorf("Close took %s, and %d posts were made", took, len(results.posted))
	}
	if status := request(t, url, "another", results.URL); status != http.StatusServiceUnavailable {
		t.Errorf("a closed shop answered with %d", status)
	}
}

func TestRequestRefused(t *testing.T) {
	_, shop := open(t, 0)
	for name, body := range map[string]string{
		"no JSON":          `subject`,
		"no subject":       `{"idempotency_key":"k","completion_url":"http://127.0.0.1:1/"}`,
		"no key":           `{"subject":"s","completion_url":"http://127.0.0.1:1/"}`,
		"no URL":           `{"subject":"s","idempotency_key":"k"}`,
		"another machine":  `{"subject":"s","idempotency_key":"k","completion_url":"http://192.0.2.1/"}`,
		"a name":           `{"subject":"s","idempotency_key":"k","completion_url":"http://127.0.0.1.example.com/"}`,
		"a look-alike":     `{"subject":"s","idempotency_key":"k","completion_url":"http://localhost@192.0.2.1/"}`,
		"user information": `{"subject":"s","idempotency_key":"k","completion_url":"http://192.0.2.1@localhost/"}`,
		"a file":           `{"subject":"s","idempotency_key":"k","completion_url":"file:///etc/passwd"}`,
		"too large":        `{"subject":"` + strings.Repeat("x", 64<<10) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if status := post(t, shop, body); status != http.StatusBadRequest {
				t.Errorf("answered with %d", status)
			}
		})
	}
}

// TestPost makes the shop post to one address only.
func TestPost(t *testing.T) {
	results, other := newResults(t), newResults(t)
	shop, url := open(t, time.Millisecond)
	shop.Post("https://tunnel.example/results/", results.URL+"/")
	for i, completionURL := range []string{
		other.URL, results.URL + "/token", "https://tunnel.example/", "https://tunnel.example@" + other.URL[len("http://"):],
	} {
		if status := request(t, url, fmt.Sprint("refused", i), completionURL); status != http.StatusBadRequest {
			t.Errorf("%s was answered with %d", completionURL, status)
		}
	}
	if status := request(t, url, "key", "https://tunnel.example/results/token"); status != http.StatusAccepted {
		t.Errorf("answered with %d", status)
	}
	if got := []string{results.next(t), results.next(t)}; got[1] != approved || len(other.posted) != 0 {
		t.Errorf("posted %q, and %d elsewhere", got, len(other.posted))
	}
}
