package pipeline_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
)

const webhookSecret = "planted-webhook-secret"

// signing is the tool of a service that posts webhooks in a format of its own.
func signing(o *office, changes ...func(*asynctool.Tool[input])) asynctool.Definition {
	onPost := func(ctx context.Context, call asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
		service := asynctool.HMAC{Secret: webhookSecret, Header: "X-Signature", TimestampHeader: "X-Time"}
		if err := service.Verify(post); err != nil {
			return asynctool.Result{}, err
		}
		var event struct{ Job, Type, Text string }
		if err := json.Unmarshal(post.Body, &event); err != nil {
			return asynctool.Result{}, err
		}
		switch {
		case event.Job != call.IdempotencyKey():
			return asynctool.Result{}, errors.New("the post is about another job")
		case event.Type == "signed":
			return asynctool.Result{Text: event.Text, External: true}, nil
		case event.Type == "viewed":
			call.Note(ctx, event.Text)
		}
		return asynctool.Wait(), nil
	}
	return o.approval(48*time.Hour, append(changes, func(t *asynctool.Tool[input]) { t.OnPost = onPost })...)
}

// webhookOf posts a signed webhook of the service, and returns the status.
func (w *world) webhookOf(at, jobID, kind, text, secret string, age time.Duration) int {
	w.t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		w.t.Fatal(err)
	}
	body := fmt.Sprintf(`{"job":%q,"type":%q,"text":%q}`, jobID, kind, text)
	timestamp := fmt.Sprint(time.Now().Add(-age).Unix())
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "." + body))
	status, _ := w.request(u.Path, body, http.Header{
		"X-Signature": {hex.EncodeToString(mac.Sum(nil))}, "X-Time": {timestamp}, "X-Note": {"planted"},
	})
	return status
}

// TestForeignWebhook completes a job by a webhook in a format of its own. Nothing that is not signed, or not about this
// job, completes it, although all of it is received. Nothing of it is in the log.
func TestForeignWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		w := newWorld(t, outside, signing(&o))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}, toolCall{"b", "approval", `{"text":"y"}`}))
		settle()
		at, a, b := o.url("call/a"), w.id("call/a"), w.id("call/b")
		for name, status := range map[string]int{
			"a result in Ringback's format": w.complete(at, `{"result":"planted forgery"}`),
			"another secret":                w.webhookOf(at, a, "signed", "planted forgery", "x", 0),
			"too old":                       w.webhookOf(at, a, "signed", "planted forgery", webhookSecret, time.Hour),
			"about another job":             w.webhookOf(at, b, "signed", "planted forgery", webhookSecret, 0),
			"progress":                      w.webhookOf(at, a, "viewed", "It was opened.", webhookSecret, 0),
			"something else":                w.webhookOf(at, a, "created", "planted forgery", webhookSecret, 0),
		} {
			if status != http.StatusAccepted {
				t.Errorf("%s: status %d", name, status)
			}
		}
		settle()
		w.drained()
		if state := w.record("call/a").State; state != job.StateWaiting {
			t.Errorf("the job is %s", state)
		}
		one(t, w.messages("call"), "It was opened.")
		for range 5 {
			if status := w.webhookOf(at, a, "signed", "It is signed.", webhookSecret, 0); status != http.StatusAccepted {
				t.Errorf("status %d", status)
			}
		}
		settle()
		if status := w.webhookOf(at, a, "signed", "Late.", webhookSecret, 0); status != http.StatusAccepted {
			t.Errorf("after the result: status %d", status)
		}
		settle()
		w.drained()
		if texts := w.messages("call"); len(texts) != 2 || !strings.Contains(texts[1], "\nIt is signed.\n>>>") {
			t.Errorf("heard %q", texts)
		}
		if state := w.record("call/b").State; state != job.StateWaiting {
			t.Errorf("the other job is %s", state)
		}
	})
}

// TestForeignWebhookBytes posts bodies of several types to the function behind API Gateway, which passes a body on as
// text or in base64. The tool reads the bytes that were posted.
func TestForeignWebhookBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		var got []string
		w := newWorld(t, outside, o.approval(time.Hour, func(t *asynctool.Tool[input]) {
			t.OnPost = func(_ context.Context, _ asynctool.Call, p asynctool.Post) (asynctool.Result, error) {
				got = append(got, p.Header.Get("Content-Type")+" "+string(p.Body))
				return asynctool.Wait(), nil
			}
		}))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}))
		settle()
		at, err := url.Parse(o.url("call/a"))
		if err != nil {
			t.Fatal(err)
		}
		token := strings.TrimPrefix(at.Path, deployment.CompletionPath)
		var want []string
		for _, row := range []struct {
			kind, body string
			encoded    bool
		}{
			{"application/x-www-form-urlencoded", "state=done&text=%C3%A4+b", true},
			{"multipart/form-data; boundary=x", "--x\r\n\r\n\x00\xff\r\n--x--", true},
			{"application/xml", "<state>ä</state>\n", false},
			{"text/plain", "  \t\n", false},
			{"application/octet-stream", "\x00\xff\xfe", true},
		} {
			body := row.body
			if row.encoded {
				body = base64.StdEncoding.EncodeToString([]byte(body))
			}
			event := events.APIGatewayV2HTTPRequest{
				Version: "2.0", RouteKey: deployment.CompletionRoute, RawPath: at.Path,
				PathParameters: map[string]string{"token": token},
				Headers:        map[string]string{"content-type": row.kind},
				Body:           body, IsBase64Encoded: row.encoded,
			}
			event.RequestContext.HTTP.Method = http.MethodPost
			answer, err := functiontest.Serve(t.Context(), w.Front, event)
			if err != nil || answer.StatusCode != http.StatusAccepted {
				t.Errorf("%s: %+v, %v", row.kind, answer, err)
			}
			settle()
			want = append(want, row.kind+" "+row.body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}

		// After the deadline, the token is still one of this pipeline, and a sender learns that it has expired.
		time.Sleep(2 * time.Hour)
		if status, _ := w.request(at.Path, "state=done", nil); status != http.StatusGone {
			t.Errorf("after the deadline: status %d", status)
		}
		if !w.IsCompletion(t.Context(), token) || w.IsCompletion(t.Context(), token+"x") || w.IsCompletion(t.Context(), "") {
			t.Error("the token of an expired URL is not known, or a forged one is")
		}
	})
}

// TestForeignWebhookBesideRun completes a job while its tool runs.
func TestForeignWebhookBesideRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := make(chan string, 1)
		slow := changed("slow", func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			at, err := call.CompletionURL(ctx)
			urls <- at
			select {
			case <-ctx.Done(): // the job has ended
			case <-time.After(time.Minute):
			}
			return asynctool.Wait(), err
		}, func(t *asynctool.Tool[input]) {
			t.Timeout = 2 * time.Minute
			t.OnPost = func(_ context.Context, _ asynctool.Call, p asynctool.Post) (asynctool.Result, error) {
				return asynctool.Text(string(p.Body)), nil
			}
		})
		w := newWorld(t, outside, slow)
		w.post(webhook("call", "", toolCall{"a", "slow", `{"text":"x"}`}))
		if status := w.complete(<-urls, "It is ready."); status != http.StatusAccepted {
			t.Errorf("status %d", status)
		}
		settle()
		one(t, w.messages("call"), "It is ready.")
		w.drained()
		one(t, w.messages("call"), "It is ready.")
	})
}
