package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi"
)

// TestSendAnswersTheLastPost posts results as a deployment does. The command ends with the last one, which still gets
// its answer.
func TestSendAnswersTheLastPost(t *testing.T) {
	answers := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m, err := vapi.ParseMessage(body)
		if err != nil {
			t.Error(err)
		}
		w.Write([]byte(`{"results":[{"name":"x","toolCallId":"y","result":"Started."}]}`))
		go func() {
			message := `{"type":"add-message","message":{"role":"system","content":"Done."},"triggerResponseEnabled":true}`
			response, err := http.Post(m.Call.ControlURL, "application/json", strings.NewReader(message))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			answers <- fmt.Sprint(response.StatusCode, string(answer), err)
		}()
	}))
	defer server.Close()
	body, err := os.ReadFile("../../events/vapi/tool-calls.json")
	if err != nil {
		t.Fatal(err)
	}
	c := &sendCommand{targetFlags: targetFlags{URL: server.URL}, Timeout: 5 * time.Minute}
	none := func() ([]asynctool.Definition, error) { return nil, nil }
	for range 2000 { // a mistake shows in one of some hundred
		ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
		err := c.wait(ctx, &streams{Out: io.Discard, Err: io.Discard}, none, body)
		if cancel(); err != nil {
			t.Fatal(err)
		}
		if got := <-answers; got != `200{"status":"ok"}<nil>` {
			t.Fatalf("the post of the last result was answered with %s", got)
		}
	}
}
