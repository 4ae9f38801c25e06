package slowshop_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/local/slowshop"
)

func TestShop(t *testing.T) {
	const delay = 20 * time.Millisecond
	server := httptest.NewServer(slowshop.Handler(delay))
	defer server.Close()
	for _, c := range []struct {
		method, path string
		status       int
		part         string
	}{
		{http.MethodGet, "/orders/a-1042", http.StatusOK, "out_for_delivery"},
		{http.MethodGet, "/orders/B-1", http.StatusNotFound, ""},
		{http.MethodPost, "/restock", http.StatusOK, "next Tuesday"},
	} {
		request, err := http.NewRequest(c.method, server.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.status || !strings.Contains(string(body), c.part) {
			t.Errorf("%s was answered with %d %s, %v", c.path, response.StatusCode, body, err)
		}
		if took := time.Since(started); took < delay {
			t.Errorf("%s took %s, want at least %s", c.path, took, delay)
		}
	}
}
