package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
)

const (
	key     = "the-secret-of-the-webhooks"
	signed  = "\nThe contract is signed.\n"
	sending = "You should have an email with the contract now. I'll tell you when I see your signature."
)

// service is the service that has documents signed. It must be made outside of a bubble.
type service struct {
	*httptest.Server
	statuses  []int // of its answers, before it accepts documents
	documents []request
}

func serve(t *testing.T, statuses ...int) *service {
	s := &service{statuses: statuses}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(s.statuses) > 0 {
			w.WriteHeader(s.statuses[0])
			s.statuses = s.statuses[1:]
			return
		}
		var document request
		if err := json.NewDecoder(r.Body).Decode(&document); err != nil || r.URL.Path != "/documents" {
			t.Errorf("%s: %v", r.URL, err)
		}
		s.documents = append(s.documents, document)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) tool() asynctool.Definition {
	settings := map[string]string{"SIGNING_API_URL": s.URL, "SIGNING_WEBHOOK_SECRET": key}
	return Tool(func(name string) string { return settings[name] })
}

// webhook is a webhook of the service, signed a time ago.
func webhook(event, reference string, ago time.Duration) (http.Header, string) {
	body := url.Values{"event": {event}, "reference": {reference}}.Encode()
	timestamp := fmt.Sprint(time.Now().Add(-ago).Unix())
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s", timestamp, body)
	return http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"X-Timestamp":  {timestamp}, "X-Signature": {hex.EncodeToString(mac.Sum(nil))},
	}, body
}

// post posts a webhook about the last document.
func (s *service) post(call *asynctooltest.Call, event string) int {
	last := s.documents[len(s.documents)-1]
	header, body := webhook(event, last.Reference, 0)
	return call.PostTo(last.WebhookURL, header, body)
}

// heard checks how many messages a call has got, and that the last one contains a text.
func heard(t *testing.T, call *asynctooltest.Call, n int, last string) {
	t.Helper()
	if got := call.Heard(); len(got) != n || n > 0 && !strings.Contains(got[n-1], last) {
		t.Errorf("heard %d messages, want %d, the last with %q\n%s", len(got), n, last, call)
	}
}

func TestSigned(t *testing.T) {
	service := serve(t, http.StatusServiceUnavailable)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		call.Ask("sign_contract", `{"contract":" c-17 "}`) // joins the first one
		call.Wait(time.Minute)
		if len(service.documents) != 1 || service.documents[0].Contract != "C-17" {
			t.Fatalf("%+v\n%s", service.documents, call)
		}
		before := len(call.Heard())
		heard(t, call, before, sending)
		if status := service.post(call, "opened"); status != http.StatusAccepted {
			t.Errorf("status %d", status)
		}
		heard(t, call, before+1, "The customer has opened the contract.")
		service.post(call, "archived") // an event that the tool does not know
		call.Wait(5 * time.Minute)
		heard(t, call, before+1, "")
		service.post(call, "signed")
		heard(t, call, before+2, signed)
		service.post(call, "declined") // the first result counts
		heard(t, call, before+2, signed)
	})
}

func TestDeclined(t *testing.T) {
	service := serve(t)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		service.post(call, "declined")
		heard(t, call, 1, "The contract was declined.")
	})
}

// TestForged posts webhooks that must not complete the job.
func TestForged(t *testing.T) {
	service := serve(t)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		reference := service.documents[0].Reference
		for name, forge := range map[string]func() (http.Header, string){
			"not signed": func() (http.Header, string) {
				return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, "event=signed&reference=" + reference
			},
			"another body": func() (http.Header, string) {
				header, _ := webhook("opened", reference, 0)
				return header, "event=signed&reference=" + reference
			},
			"another document": func() (http.Header, string) { return webhook("signed", "j_another", 0) },
			"an old webhook":   func() (http.Header, string) { return webhook("signed", reference, time.Hour) },
			"Ringback's own":   func() (http.Header, string) { return nil, `{"result":"The contract is signed."}` },
		} {
			header, body := forge()
			if status := call.Post(header, body); status != http.StatusAccepted || len(call.Heard()) != 0 {
				t.Errorf("%s: status %d\n%s", name, status, call)
			}
		}
		service.post(call, "signed")
		heard(t, call, 1, signed)
	})
}

// TestSignedAfterTheCall signs hours after the call. The customer hears of it in the next one.
func TestSignedAfterTheCall(t *testing.T) {
	service := serve(t)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		call.Wait(time.Minute)
		heard(t, call, 1, sending)
		call.HangUp()
		call.Wait(7 * time.Hour)
		service.post(call, "signed")
		call.Wait(24 * time.Hour)
		again := call.CallAgain()
		again.Wait(time.Minute)
		heard(t, again, 1, signed)
		if got := call.Undelivered(); len(got) != 0 {
			t.Error(call)
		}
	})
}

// TestNotSigned lets the deadline pass. A signature that comes later is refused, and the service learns of it.
func TestNotSigned(t *testing.T) {
	service := serve(t)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		call.HangUp()
		call.Wait(8*time.Hour + time.Minute)
		if status := service.post(call, "signed"); status != http.StatusGone {
			t.Errorf("status %d", status)
		}
		again := call.CallAgain()
		again.Wait(time.Minute)
		heard(t, again, 1, "The contract wasn't signed in time.")
	})
}

func TestCancelled(t *testing.T) {
	service := serve(t)
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, service.tool())
		call.Ask("sign_contract", `{"contract":"C-17"}`)
		call.Wait(time.Minute)
		if answer := call.Ask(asynctool.CancelTaskName, `{}`); !strings.Contains(answer, "is cancelled") {
			t.Error(answer)
		}
		service.post(call, "signed")
		call.Wait(9 * time.Hour)
		heard(t, call, 1, sending)
	})
}

func TestNotSent(t *testing.T) {
	for name, row := range map[string]struct {
		statuses  []int
		arguments string
		text      string
	}{
		"down":         {[]int{503, 503, 503}, `{"contract":"C-17"}`, notSent},
		"refused":      {[]int{403}, `{"contract":"C-17"}`, notSent},
		"another path": {nil, `{"contract":"../C-17"}`, "That doesn't look like the number of a contract. Please check it."},
	} {
		t.Run(name, func(t *testing.T) {
			service := serve(t, row.statuses...)
			got := asynctooltest.Run(t, service.tool(), asynctooltest.Webhook(t, "sign_contract", row.arguments))
			if got.Text != row.text || len(service.documents) != 0 || len(service.statuses) != 0 {
				t.Error(got)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	tool := Tool(func(string) string { return "" })
	got := asynctooltest.Run(t, tool, asynctooltest.Webhook(t, "sign_contract", `{"contract":"C-17"}`))
	if !strings.Contains(got.Log, "not set in the environment: SIGNING_API_URL, SIGNING_WEBHOOK_SECRET") {
		t.Error(got)
	}
}
