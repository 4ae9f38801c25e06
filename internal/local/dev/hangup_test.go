package dev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
)

// TestHangUp ends a call while its tool is running: with a key, and with each webhook that says so. The result cannot
// be delivered, also if another program serves the control URL.
func TestHangUp(t *testing.T) {
	var posted atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posted.Add(1) }))
	defer elsewhere.Close()
	for name, row := range map[string]struct{ controlURL, ends string }{
		"a key":                  {"https://" + simcall.Host + "/call-1/control", ""},
		"a status":               {"https://" + simcall.Host + "/call-1/control", "status-update-ended"},
		"a report":               {"https://" + simcall.Host + "/call-1/control", "end-of-call-report"},
		"a key, another program": {elsewhere.URL + "/call-1/control", ""},
	} {
		t.Run(name, func(t *testing.T) {
			release, keys, began := make(chan struct{}), make(chan struct{}), make(chan struct{})
			tools := stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
				close(began)
				<-release
				return asynctool.Text("released"), nil
			})
			l := start(t, dev.Config{Tools: tools, HangUp: keys})
			body, err := simcall.Adopt(sample(t, "spending-report"), "call-1", row.controlURL)
			if err != nil {
				t.Fatal(err)
			}
			if status, answer := l.post(t, body, nil); status != http.StatusOK {
				t.Fatal(status, answer)
			}
			<-began
			if row.ends == "" {
				keys <- struct{}{}
			} else {
				end, err := simcall.Adopt(sample(t, row.ends), "call-1", row.controlURL)
				if err != nil {
					t.Fatal(err)
				}
				l.post(t, end, nil)
			}
			l.screen.wait(t, "s  +the call has ended\n")
			close(release)
			l.screen.wait(t, "spending_report +not delivered: the call has ended\\. It becomes an event:\n +│ released\n")
			if strings.Contains(l.screen.String(), "delivered to the call") || posted.Load() > 0 {
				t.Errorf("the result reached a call that has ended:\n%s", l.screen)
			}
			if row.ends == "" {
				keys <- struct{}{}
				l.screen.wait(t, "No simulated call is live.")
			}
		})
	}
}

// TestHangUpOfARealCall leaves calls alone that the run does not simulate.
func TestHangUpOfARealCall(t *testing.T) {
	keys := make(chan struct{})
	l := start(t, dev.Config{Tools: later(48 * time.Hour), HangUp: keys})
	body, err := simcall.Adopt(sample(t, "spending-report"), "call-1", "https://example.vapi.ai/call-1/control")
	if err != nil {
		t.Fatal(err)
	}
	l.post(t, body, nil)
	keys <- struct{}{}
	l.screen.wait(t, "No simulated call is live.")
}

// TestHangUpWhileDraining hangs up in a run that has stopped listening. Another program listens at its address.
func TestHangUpWhileDraining(t *testing.T) {
	release, keys, began := make(chan struct{}), make(chan struct{}), make(chan struct{})
	tools := stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
		close(began)
		<-release
		return asynctool.Text("released"), nil
	})
	l := start(t, dev.Config{Tools: tools, HangUp: keys})
	body, err := simcall.Adopt(sample(t, "spending-report"), "call-1", "https://"+simcall.Host+"/call-1/control")
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := l.post(t, body, nil); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	<-began
	l.stop()
	l.screen.wait(t, "No more webhooks are accepted")
	listener, err := net.Listen("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 1)
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		received <- fmt.Sprint(r.URL, r.Header)
	}))
	other.Listener.Close()
	other.Listener = listener
	other.Start()
	defer other.Close()
	keys <- struct{}{}
	l.screen.wait(t, "cannot hang up")
	if got := <-received; strings.Contains(got, l.token) || !strings.HasPrefix(got, operator.ProofPath) {
		t.Errorf("another program received %s", got)
	}
	close(release)
	if err := l.end(t); err != nil {
		t.Error(err)
	}
}

// TestTry proposes to call a tool that exists, with arguments that it accepts.
func TestTry(t *testing.T) {
	tool := func(name, schema string) asynctool.Definition {
		var s jsonschema.Schema
		if err := json.Unmarshal([]byte(schema), &s); err != nil {
			t.Fatal(err)
		}
		return asynctool.Tool[map[string]any]{
			Name: name, Description: "A tool for tests.", Schema: &s,
			Run: func(context.Context, asynctool.Call, map[string]any) (asynctool.Result, error) {
				return asynctool.Text("done"), nil
			},
		}
	}
	const city = `{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`
	const csv = `{"type":"object","properties":{"csv":{"type":"string","description":"the payments"}},"required":["csv"]}`
	for name, row := range map[string]struct {
		tools []asynctool.Definition
		auth  string
		want  string
	}{
		"no arguments": {[]asynctool.Definition{tool("plain", `{"type":"object"}`)}, "", "it plain --url http://127.0.0.1:"},
		"a city":       {[]asynctool.Definition{tool("weather", city)}, "", "it weather city=Lisbon --url "},
		"every kind": {[]asynctool.Definition{tool("all", `{"type":"object","properties":{
			"a":{"type":"string","description":"the order, for example A-1042."},"b":{"type":"integer","minimum":3},
			"c":{"type":"boolean"},"d":{"type":"string","enum":["an 'open' one","b"]},"e":{"type":"array"},
			"f":{"type":["null","number"]},"g":{"type":"string","default":"x"},"h":{"type":"string"}},
			"required":["a","b","c","d","e","f","g"]}`)}, "",
			`it all a=A-1042 b:=3 c:=true d='an '\''open'\'' one' e:='[]' f:=1 g=x --url`},
		"another credential": {[]asynctool.Definition{tool("plain", `{"type":"object"}`)},
			`{"type":"bearer","token":"a-token-of-enough-length-4711"}`, "/vapi --auth '…'\n"},
		"not verified": {[]asynctool.Definition{tool("plain", `{"type":"object"}`)}, `{"type":"none"}`, "/vapi\n"},
		"the first that can work": {[]asynctool.Definition{
			asynctool.TaskStatus(), tool("unknown", `{"type":"object","properties":{"x":{"type":"string",
			"pattern":"^[0-9]{9}$"}},"required":["x"]}`), tool("weather", city)}, "", "it weather city=Lisbon"},
		"none": {[]asynctool.Definition{asynctool.TaskStatus()}, "", "Ready. Press"},
		"not one whose text is not known": {[]asynctool.Definition{tool("report", csv), tool("weather", city)}, "",
			"it weather city=Lisbon"},
		"only one whose text is not known": {[]asynctool.Definition{tool("report", csv)}, "", "Ready. Press"},
		"the settings of the first are missing": {[]asynctool.Definition{
			asynctool.Tool[struct{}]{Name: "lacks", Description: "A tool for tests.", Settings: []string{"RINGBACK_TEST_UNSET"},
				Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
					return asynctool.Text("done"), nil
				}}, tool("weather", city)}, "", "it weather city=Lisbon"},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, dev.Config{Try: "it", Auth: row.auth, Tools: func() ([]asynctool.Definition, error) {
				return row.tools, nil
			}})
			l.screen.wait(t, "Ready.")
			l.stop()
			if err := l.end(t); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(l.screen.String(), row.want) {
				t.Errorf("the screen does not show %q:\n%s", row.want, l.screen)
			}
		})
	}
}
