package vapiclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const customerNumber = "+15550001111"

var calledBack = vapiclient.NewCall{AssistantID: "a-1", PhoneNumberID: "p-1", CustomerNumber: customerNumber}

// outboundTo makes an Outbound for a server. Changes to its configuration are optional.
func outboundTo(t testing.TB, address string, change func(*vapiclient.OutboundConfig)) *vapiclient.Outbound {
	t.Helper()
	cfg := vapiclient.OutboundConfig{URL: address, AllowLoopback: true, Key: func(context.Context) (string, error) { return privateKey, nil }}
	if change != nil {
		change(&cfg)
	}
	o, err := vapiclient.NewOutbound(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// account starts Vapi's API.
func account(t testing.TB) (*fakevapi.Account, string) {
	t.Helper()
	a := &fakevapi.Account{Key: privateKey}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return a, server.URL
}

// checkQuiet: an error is there unless all went well, and shows nothing that is secret.
func checkQuiet(t *testing.T, err error, well bool) {
	t.Helper()
	if (err == nil) != well {
		t.Errorf("error %v, all well: %v", err, well)
	}
	for _, secret := range []string{privateKey, customerNumber[1:], "ses-1", "Your quote"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("error shows %q: %v", secret, err)
		}
	}
}

// checkCall compares all but Err's text.
func checkCall(t *testing.T, got, want vapiclient.CallReceipt) {
	t.Helper()
	checkQuiet(t, got.Err, want.Verdict == vapiclient.Called)
	got.Err = nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCallRequest(t *testing.T) {
	for name, row := range map[string]struct {
		call vapiclient.NewCall
		body string
	}{
		"least": {calledBack, `{"assistantId":"a-1","phoneNumberId":"p-1","customer":{"number":"+15550001111"}}`},
		"all": {vapiclient.NewCall{AssistantID: "a-1", PhoneNumberID: "p-1", CustomerNumber: customerNumber, Name: "Quote", Variables: map[string]string{"result": "$ 5"},
			EarliestAt: time.Date(2026, 5, 6, 14, 0, 0, 5e8, time.FixedZone("", 7200))},
			`{"assistantId":"a-1","phoneNumberId":"p-1","customer":{"number":"+15550001111"},"assistantOverrides":{"variableValues":{"result":"$ 5"}},"name":"Quote","schedulePlan":{"earliestAt":"2026-05-06T12:00:00.500Z"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			got := outboundTo(t, address+"/", nil).Call(t.Context(), row.call)
			made := vapiAPI.Calls()
			if len(made) != 1 {
				t.Fatalf("%d calls: %+v", len(made), got)
			}
			var call struct{ ID string }
			if err := json.Unmarshal(made[0], &call); err != nil {
				t.Fatal(err)
			}
			checkCall(t, got, vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: call.ID, Status: 201})
			if diff := cmp.Diff([]fakevapi.Request{{Method: "POST", Path: "/call", Body: row.body}}, vapiAPI.Requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCallRefusedByVapi(t *testing.T) {
	long := calledBack
	long.Name = strings.Repeat("n", 41)
	other := calledBack
	other.CustomerNumber = "5550001111"
	for name, call := range map[string]vapiclient.NewCall{"long name": long, "number without its country": other} {
		vapiAPI, address := account(t)
		checkCall(t, outboundTo(t, address, nil).Call(t.Context(), call), vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 400})
		if len(vapiAPI.Calls()) != 0 {
			t.Errorf("%s: called", name)
		}
	}
}

func TestCallIncomplete(t *testing.T) {
	vapiAPI, address := account(t)
	o := outboundTo(t, address, nil)
	for _, forget := range []func(*vapiclient.NewCall){
		func(c *vapiclient.NewCall) { c.AssistantID = "" }, func(c *vapiclient.NewCall) { c.PhoneNumberID = "" }, func(c *vapiclient.NewCall) { c.CustomerNumber = "" },
	} {
		call := calledBack
		forget(&call)
		checkCall(t, o.Call(t.Context(), call), vapiclient.CallReceipt{Verdict: vapiclient.Refused})
	}
	if got := vapiAPI.Requests(); len(got) != 0 {
		t.Errorf("requests %v", got)
	}
}

// Whatever happens, a call is posted once, and what is not certain is said to be so.
func TestCallFailures(t *testing.T) {
	for name, row := range map[string]struct {
		failure fakevapi.Failure
		want    vapiclient.CallReceipt
		calls   int
	}{
		"500, not made":    {fakevapi.RefusedBefore, vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 500}, 0},
		"500, made":        {fakevapi.RefusedAfter, vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 500}, 1},
		"broken, not made": {fakevapi.DroppedBefore, vapiclient.CallReceipt{Verdict: vapiclient.Unknown}, 0},
		"broken, made":     {fakevapi.DroppedAfter, vapiclient.CallReceipt{Verdict: vapiclient.Unknown}, 1},
		"429":              {fakevapi.Limited, vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 429, TryAgain: true, RetryAfter: 7 * time.Second}, 0},
		"403":              {fakevapi.Forbidden, vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 403}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			o := outboundTo(t, address, nil)
			// Before, something that leaves a connection to use again.
			if got := o.Chat(t.Context(), vapiclient.NewChat{SessionID: "ses-1", Content: "Hi"}); got.Verdict != vapiclient.Delivered {
				t.Fatal(got)
			}
			o.Call(t.Context(), calledBack)
			before := len(vapiAPI.Calls())
			vapiAPI.Requests()
			vapiAPI.Fail(1, row.failure, false)
			checkCall(t, o.Call(t.Context(), calledBack), row.want)
			if got := len(vapiAPI.Requests()); got != 1 {
				t.Errorf("%d requests", got)
			}
			if got := len(vapiAPI.Calls()) - before; got != row.calls {
				t.Errorf("%d calls", got)
			}
		})
	}
}

func TestCallAnswers(t *testing.T) {
	refused := func(status int, again bool) vapiclient.CallReceipt {
		return vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: status, TryAgain: again}
	}
	unknown := func(status int) vapiclient.CallReceipt {
		return vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: status}
	}
	var followed atomic.Int32
	elsewhere := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for name, row := range map[string]struct {
		status int
		body   string
		want   vapiclient.CallReceipt
	}{
		"201":           {201, `{"orgId":"o","id":"c-1","status":"queued"}`, vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: 201}},
		"200":           {200, `{"id":"c-1"}`, vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: 200}},
		"large":         {201, `{"assistant":"` + strings.Repeat("x", 1<<20) + `","id":"c-1"}`, vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: 201}},
		"too large":     {201, `{"id":"c-1","assistant":"` + strings.Repeat("x", 4<<20) + `"}`, unknown(201)},
		"no id":         {201, `{"results":[],"errors":[]}`, unknown(201)},
		"empty id":      {201, `{"id":""}`, unknown(201)},
		"long id":       {201, `{"id":"` + strings.Repeat("c", 2049) + `"}`, unknown(201)},
		"id, a number":  {201, `{"id":7}`, unknown(201)},
		"a page":        {200, `<html>` + customerNumber, unknown(200)},
		"half":          {201, `{"id":"c-1"`, unknown(201)},
		"nothing":       {204, ``, unknown(204)},
		"302":           {302, ``, unknown(302)},
		"307":           {307, ``, unknown(307)},
		"400":           {400, `{"message":"customer.number ` + customerNumber + ` is wrong"}`, refused(400, false)},
		"401":           {401, privateKey, refused(401, false)},
		"402":           {402, ``, refused(402, false)},
		"404":           {404, ``, refused(404, false)},
		"408":           {408, ``, refused(408, true)},
		"422":           {422, ``, refused(422, false)},
		"425":           {425, ``, refused(425, true)},
		"429":           {429, ``, refused(429, true)},
		"500":           {500, ``, unknown(500)},
		"502 with a id": {502, `{"id":"c-1"}`, unknown(502)},
		"503":           {503, ``, unknown(503)},
		"600":           {600, ``, unknown(600)},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if row.status/100 == 3 {
					w.Header().Set("Location", elsewhere)
				}
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			}))
			defer server.Close()
			checkCall(t, outboundTo(t, server.URL, nil).Call(t.Context(), calledBack), row.want)
			if got := requests.Load(); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
	if followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestCallWithoutAnswer(t *testing.T) {
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	listener.Close()
	raw := func(fn func(*net.TCPConn)) string {
		return strings.TrimSuffix(rawServer(t, fn), "/"+callID+"/control")
	}
	read := func(conn *net.TCPConn) { _, _ = conn.Read(make([]byte, 4096)) }

	noCall := vapiclient.CallReceipt{Verdict: vapiclient.Refused, TryAgain: true}
	unknown := vapiclient.CallReceipt{Verdict: vapiclient.Unknown}
	for name, row := range map[string]struct {
		address string
		want    vapiclient.CallReceipt
	}{
		"nobody listens":                  {nobody, noCall},
		"no TLS":                          {strings.Replace(raw(func(*net.TCPConn) {}), "http://", "https://", 1), noCall},
		"a TLS handshake that never ends": {strings.Replace(raw(func(*net.TCPConn) { <-silent }), "http://", "https://", 1), noCall},
		"closed":                          {raw(func(*net.TCPConn) {}), unknown},
		"closed after the request":        {raw(read), unknown},
		"reset":                           {raw(func(conn *net.TCPConn) { read(conn); _ = conn.SetLinger(0) }), unknown},
		"never":                           {raw(func(*net.TCPConn) { <-silent }), unknown},
		"garbage":                         {raw(func(conn *net.TCPConn) { read(conn); _, _ = io.WriteString(conn, privateKey+customerNumber+"\r\n\r\n") }), unknown},
		"half an answer": {raw(func(conn *net.TCPConn) {
			read(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"id\":\"c-1\"}")
		}), vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 201}},
		"an answer that never ends": {raw(func(conn *net.TCPConn) {
			read(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"id\":\"c-1\"}")
			<-silent
		}), vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 201}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outboundTo(t, row.address, func(cfg *vapiclient.OutboundConfig) { cfg.Timeout = 200 * time.Millisecond })
			checkCall(t, o.Call(t.Context(), calledBack), row.want)
		})
	}
}

func TestOutboundKey(t *testing.T) {
	vapiAPI, address := account(t)
	key, failure := privateKey, error(nil)
	o := outboundTo(t, address, func(cfg *vapiclient.OutboundConfig) {
		cfg.Key = func(ctx context.Context) (string, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("no deadline for the key")
			}
			return key, failure
		}
	})
	chat := vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"}
	if got := o.Call(t.Context(), calledBack); got.Verdict != vapiclient.Called {
		t.Error(got)
	}
	for _, row := range []struct {
		key     string
		failure error
		call    vapiclient.CallReceipt
		chat    vapiclient.Receipt
	}{
		{"another", nil, vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 401}, vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 401}},
		{"", nil, vapiclient.CallReceipt{Verdict: vapiclient.Refused}, vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		{privateKey + "\n", nil, vapiclient.CallReceipt{Verdict: vapiclient.Refused}, vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		{"", errors.New("throttled"), vapiclient.CallReceipt{Verdict: vapiclient.Refused, TryAgain: true}, vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
	} {
		key, failure = row.key, row.failure
		checkCall(t, o.Call(t.Context(), calledBack), row.call)
		checkChat(t, o.Chat(t.Context(), chat), row.chat)
	}
	key, vapiAPI.Key = "the new one", "the new one"
	failure = nil
	if got := o.Call(t.Context(), calledBack); got.Verdict != vapiclient.Called {
		t.Error(got)
	}
}

func checkChat(t *testing.T, got, want vapiclient.Receipt) {
	t.Helper()
	checkQuiet(t, got.Err, want.Verdict == vapiclient.Delivered)
	got.Err = nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestChatRequest(t *testing.T) {
	const input = `"input":[{"role":"system","content":"Your quote"}],"stream":false}`
	for name, row := range map[string]struct {
		chat vapiclient.NewChat
		body string
	}{
		"session":                      {vapiclient.NewChat{SessionID: "ses-1"}, `{"sessionId":"ses-1",` + input},
		"session before all others":    {vapiclient.NewChat{SessionID: "ses-1", PreviousChatID: "h", AssistantID: "a"}, `{"sessionId":"ses-1",` + input},
		"previous chat":                {vapiclient.NewChat{PreviousChatID: "h"}, `{"previousChatId":"h",` + input},
		"previous chat, and assistant": {vapiclient.NewChat{PreviousChatID: "h", AssistantID: "a"}, `{"previousChatId":"h","assistantId":"a",` + input},
		"assistant":                    {vapiclient.NewChat{AssistantID: "a"}, `{"assistantId":"a",` + input},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			row.chat.Content = "Your quote"
			checkChat(t, outboundTo(t, address, nil).Chat(t.Context(), row.chat), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 201})
			if diff := cmp.Diff([]fakevapi.Request{{Method: "POST", Path: "/chat", Body: row.body}}, vapiAPI.Requests()); diff != "" {
				t.Error(diff)
			}
			if got := len(vapiAPI.Chats()); got != 1 {
				t.Errorf("%d chats", got)
			}
		})
	}
}

func TestChatIncomplete(t *testing.T) {
	vapiAPI, address := account(t)
	for _, chat := range []vapiclient.NewChat{{}, {Content: "Your quote"}, {SessionID: "ses-1"}} {
		checkChat(t, outboundTo(t, address, nil).Chat(t.Context(), chat), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	}
	if got := vapiAPI.Requests(); len(got) != 0 {
		t.Errorf("requests %v", got)
	}
}

func TestChatFailures(t *testing.T) {
	for name, row := range map[string]struct {
		failure fakevapi.Failure
		want    vapiclient.Receipt
	}{
		"500":    {fakevapi.RefusedBefore, vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 500}},
		"broken": {fakevapi.DroppedAfter, vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429":    {fakevapi.Limited, vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 429, RetryAfter: 7 * time.Second}},
		"403":    {fakevapi.Forbidden, vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 403}},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			vapiAPI.Fail(1, row.failure, false)
			checkChat(t, outboundTo(t, address, nil).Chat(t.Context(), vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"}), row.want)
			if got := len(vapiAPI.Requests()); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

func TestChatAnswers(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	for status, verdict := range map[int]vapiclient.Verdict{
		200: vapiclient.Delivered, 201: vapiclient.Delivered, 307: vapiclient.Misconfigured, 400: vapiclient.Gone, 404: vapiclient.Gone, 409: vapiclient.Gone, 410: vapiclient.Gone, 401: vapiclient.Misconfigured,
		403: vapiclient.Misconfigured, 422: vapiclient.Misconfigured, 408: vapiclient.TryAgain, 425: vapiclient.TryAgain, 429: vapiclient.TryAgain, 500: vapiclient.TryAgain, 503: vapiclient.TryAgain,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", now.Add(time.Minute).Format(http.TimeFormat))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.Repeat(privateKey, 1<<16))
		}))
		want := vapiclient.Receipt{Verdict: verdict, Status: status}
		if verdict == vapiclient.TryAgain {
			want.RetryAfter = time.Minute
		}
		o := outboundTo(t, server.URL, func(cfg *vapiclient.OutboundConfig) { cfg.Now = func() time.Time { return now } })
		checkChat(t, o.Chat(t.Context(), vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"}), want)
		server.Close()
	}
}

// The time that a model takes counts, too.
func TestChatTakesTooLong(t *testing.T) {
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(silent) })
	o := outboundTo(t, server.URL, func(cfg *vapiclient.OutboundConfig) { cfg.Timeout = 50 * time.Millisecond })
	got := o.Chat(t.Context(), vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"})
	checkChat(t, got, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
	if !errors.Is(got.Err, context.DeadlineExceeded) {
		t.Error(got.Err)
	}
}

func TestNewOutbound(t *testing.T) {
	key := func(context.Context) (string, error) { return privateKey, nil }
	for name, row := range map[string]struct {
		cfg vapiclient.OutboundConfig
		ok  bool
	}{
		"Vapi":                      {vapiclient.OutboundConfig{Key: key}, true},
		"Europe":                    {vapiclient.OutboundConfig{Key: key, URL: vapiclient.APIURLEU}, true},
		"this machine":              {vapiclient.OutboundConfig{Key: key, URL: "http://127.0.0.1:8080", AllowLoopback: true}, true},
		"this machine, not allowed": {vapiclient.OutboundConfig{Key: key, URL: "http://127.0.0.1:8080"}, false},
		"another's machine":         {vapiclient.OutboundConfig{Key: key, URL: "http://api.vapi.ai", AllowLoopback: true}, false},
		"a password":                {vapiclient.OutboundConfig{Key: key, URL: "https://a:b@api.vapi.ai"}, false},
		"no key":                    {vapiclient.OutboundConfig{}, false},
		"negative timeout":          {vapiclient.OutboundConfig{Key: key, Timeout: -1}, false},
	} {
		if _, err := vapiclient.NewOutbound(row.cfg); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCallVerdictString(t *testing.T) {
	for verdict, want := range map[vapiclient.CallVerdict]string{vapiclient.Called: "called", vapiclient.Refused: "refused", vapiclient.Unknown: "unknown", 0: "verdict 0"} {
		if got := verdict.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// On a connection that was used before, net/http may send a request twice.
func TestEachCallHasItsOwnConnection(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"id":"c-1"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	o := outboundTo(t, server.URL, nil)
	for range 3 {
		checkCall(t, o.Call(t.Context(), calledBack), vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: 200})
	}
	if got := connections.Load(); got != 3 {
		t.Errorf("%d connections for 3 calls", got)
	}
	connections.Store(0)
	for range 3 {
		checkChat(t, o.Chat(t.Context(), vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"}), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for 3 chats", got)
	}
}
