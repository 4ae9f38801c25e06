package docs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/httptool"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(tools:\n.*?)```")

// TestDeclaredTools plays the tools that tools.md declares in YAML, each with a service that answers as its
// section says.
func TestDeclaredTools(t *testing.T) {
	type answer struct {
		status int
		body   string
	}
	plays := map[string]struct {
		arguments string
		answers   []answer
		requests  []string // the requests with the headers that matter
		text      string
	}{
		"order_history": {`{"customer":"C-7"}`, []answer{{200, "A kettle, on Friday."}},
			[]string{"GET /customers/C-7/orders?limit=5"}, "A kettle, on Friday."},
		"find_car": {`{"booking":"B-7"}`, []answer{{404, ""}},
			[]string{"GET /bookings/B-7/car"}, "There's no booking with that number."},
		"loyalty_points": {`{"customer":"C-7"}`, []answer{{200, `{"access_token":"abc"}`}, {200, `{"points":120}`}},
			[]string{"POST /oauth2/token Basic aWQ6c2VjcmV0 grant_type=client_credentials&scope=points.read",
				"GET /customers/C-7 Bearer abc"}, "You have 120 points."},
		"prepare_invoice": {`{"customer":"C-7"}`, []answer{
			{202, `{"job":{"id":"j7","state":"queued"}}`}, {200, `{"job":{"state":"working"}}`},
			{200, `{"job":{"state":"finished"},"invoice":{"total":31.5}}`},
		}, []string{`POST /invoices {"customer":"C-7"}`, "GET /jobs/j7", "GET /jobs/j7"},
			"The invoice is ready. Its total is 31.5 euros."},
		"cancel_order": {`{"order":"A-1042"}`, []answer{{503, ""}, {429, ""}, {204, ""}},
			[]string{
				`POST /orders/A-1042/cancellation {"order":"A-1042"}`, `POST /orders/A-1042/cancellation {"order":"A-1042"}`,
				`POST /orders/A-1042/cancellation {"order":"A-1042"}`,
			}, "The order is cancelled."},
	}
	blocks := yamlBlock.FindAllStringSubmatch(read(t, "tools.md"), -1)
	if len(blocks) != len(plays) {
		t.Errorf("found %d declarations for %d plays", len(blocks), len(plays))
	}
	name := regexp.MustCompile(`(?m)^  - name: (\w+)$`)
	for _, block := range blocks {
		tool := name.FindStringSubmatch(block[1])[1]
		t.Run(tool, func(t *testing.T) {
			play, ok := plays[tool]
			if !ok {
				t.Fatal("nothing plays it")
			}
			var got []string
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = append(got, strings.Join(strings.Fields(
					strings.Join([]string{r.Method, r.RequestURI, r.Header.Get("Authorization"), string(body)}, " ")), " "))
				a := play.answers[min(len(got), len(play.answers))-1]
				w.WriteHeader(a.status)
				_, _ = io.WriteString(w, a.body)
			}))
			defer service.Close()
			tools, err := httptool.Parse([]byte(block[1]), func(name string) string {
				switch {
				case strings.HasSuffix(name, "_URL"):
					return service.URL
				case strings.HasSuffix(name, "_ID"):
					return "id"
				}
				return "secret"
			})
			if err != nil {
				t.Fatal(err)
			}
			webhook := asynctooltest.Webhook(t, tool, play.arguments)
			result := asynctooltest.Run(t, tools[0], webhook)
			for n := 1; result.Later != nil; n++ {
				result = asynctooltest.Run(t, tools[0], webhook, asynctooltest.Resumed(result.Later.State, n))
			}
			if result.Text != play.text {
				t.Errorf("got  %q\nwant %q", result.Text, play.text)
			}
			if g, w := strings.Join(got, "\n"), strings.Join(play.requests, "\n"); g != w {
				t.Errorf("requests:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}
