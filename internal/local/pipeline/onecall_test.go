package pipeline_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// controlMessages is a control client that accepts every message.
type controlMessages chan vapi.ControlMessage

func (c controlMessages) Post(_ context.Context, _ string, m vapi.ControlMessage) vapiclient.Receipt {
	c <- m
	return vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: http.StatusOK}
}

// TestOneToolCall follows one ordinary tool call from its webhook to its control
// message. ARCHITECTURE.md counts the packages and files that it passes through: those
// with covered statements in
//
//	go test -run TestOneToolCall -coverprofile cover.out -coverpkg ./... ./internal/local/pipeline
func TestOneToolCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tools, err := asynctool.NewSet(echo)
		if err != nil {
			t.Fatal(err)
		}
		control := make(controlMessages, 1)
		p, err := pipeline.New(pipeline.Config{
			Tools: tools,
			Log:   slog.New(slog.DiscardHandler),
			Decorators: pipeline.Decorators{
				Control: func(pipeline.ControlClient) pipeline.ControlClient { return control },
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go p.Run(ctx)

		body := webhook("call", "", toolCall{"id", "echo", `{"text":"hello"}`})
		answer := httptest.NewRecorder()
		p.Front.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body)))
		if answer.Code != http.StatusOK {
			t.Fatalf("answered with %d %s", answer.Code, answer.Body)
		}
		m, ok := (<-control).(vapi.AddMessage)
		if !ok || !strings.Contains(m.Content, "echo hello") {
			t.Errorf("got %+v", m)
		}
		if err := p.Drained(ctx); err != nil {
			t.Error(err)
		}
	})
}
