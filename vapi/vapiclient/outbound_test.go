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

var (
	quoteCall = vapiclient.NewCall{AssistantID: "a-1", PhoneNumberID: "p-1", CustomerNumber: customerNumber}
	quoteChat = vapiclient.NewChat{SessionID: "ses-1", Content: "Your quote"}
)

// outboundTo returns an Outbound for a server. change can be nil.
func outboundTo(t testing.TB, address string, change func(*vapiclient.OutboundConfig)) *vapiclient.Outbound {
	t.Helper()
	cfg := vapiclient.OutboundConfig{URL: address, AllowLoopback: true, Key: readKey}
	if change != nil {
		change(&cfg)
	}
	o, err := vapiclient.NewOutbound(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func readKey(context.Context) (string, error) { return privateKey, nil }

// account starts a fake of Vapi's API and returns its address.
func account(t testing.TB) (*fakevapi.Account, string) {
	t.Helper()
	a := &fakevapi.Account{Key: privateKey}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return a, server.URL
}

// checkCall compares everything except the error's text.
func checkCall(t *testing.T, got, want vapiclient.CallReceipt) {
	t.Helper()
	checkQuiet(t, got.Err, want.Verdict != vapiclient.Called)
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
		"least": {quoteCall, `{"assistantId":"a-1","phoneNumberId":"p-1","customer":{"number":"+15550001111"}}`},
		"all members": {
			vapiclient.NewCall{
				AssistantID: "a-1", PhoneNumberID: "p-1", CustomerNumber: customerNumber, Name: "Quote",
				Variables:  map[string]string{"result": "$ 5"},
				EarliestAt: time.Date(2026, 5, 6, 14, 0, 0, 5e8, time.FixedZone("", 7200)),
			},
			`{"assistantId":"a-1","phoneNumberId":"p-1","customer":{"number":"+15550001111"},` +
				`"assistantOverrides":{"variableValues":{"result":"$ 5"}},"name":"Quote",` +
				`"schedulePlan":{"earliestAt":"2026-05-06T12:00:00.500Z"}}`,
		},
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
			want := []fakevapi.Request{{Method: "POST", Path: "/call", Body: row.body}}
			if diff := cmp.Diff(want, vapiAPI.Requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCallRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*vapiclient.NewCall)
		status int // 0 means that nothing is sent
	}{
		"long name":              {func(c *vapiclient.NewCall) { c.Name = strings.Repeat("n", 41) }, 400},
		"number without country": {func(c *vapiclient.NewCall) { c.CustomerNumber = "5550001111" }, 400},
		"no assistant":           {func(c *vapiclient.NewCall) { c.AssistantID = "" }, 0},
		"no phone number":        {func(c *vapiclient.NewCall) { c.PhoneNumberID = "" }, 0},
		"no customer":            {func(c *vapiclient.NewCall) { c.CustomerNumber = "" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			call := quoteCall
			row.change(&call)
			got := outboundTo(t, address, nil).Call(t.Context(), call)
			checkCall(t, got, vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: row.status})
			if sent := len(vapiAPI.Requests()) > 0; sent != (row.status != 0) || len(vapiAPI.Calls()) != 0 {
				t.Errorf("sent: %v, calls: %d", sent, len(vapiAPI.Calls()))
			}
		})
	}
}

// After every failure, a call was posted once, and its verdict is Unknown unless the outcome is
// certain.
func TestCallFailures(t *testing.T) {
	refused := func(status int) vapiclient.CallReceipt {
		return vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: status}
	}
	unknown := func(status int) vapiclient.CallReceipt {
		return vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: status}
	}
	limited := refused(429)
	limited.TryAgain, limited.RetryAfter = true, 7*time.Second
	for name, row := range map[string]struct {
		failure fakevapi.Failure
		want    vapiclient.CallReceipt
		calls   int
	}{
		"500, not made":    {fakevapi.FailureRefusedBefore, unknown(500), 0},
		"500, made":        {fakevapi.FailureRefusedAfter, unknown(500), 1},
		"broken, not made": {fakevapi.FailureDroppedBefore, unknown(0), 0},
		"broken, made":     {fakevapi.FailureDroppedAfter, unknown(0), 1},
		"429":              {fakevapi.FailureLimited, limited, 0},
		"403":              {fakevapi.FailureForbidden, refused(403), 0},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			o := outboundTo(t, address, nil)
			// These leave a connection that could be used again.
			if got := o.Chat(t.Context(), quoteChat); got.Verdict != vapiclient.Delivered {
				t.Fatal(got)
			}
			o.Call(t.Context(), quoteCall)
			before := len(vapiAPI.Calls())
			vapiAPI.Requests()
			vapiAPI.Fail(1, row.failure, false)
			checkCall(t, o.Call(t.Context(), quoteCall), row.want)
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
	called := func(status int) vapiclient.CallReceipt {
		return vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: status}
	}
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
		"201":            {201, `{"orgId":"o","id":"c-1","status":"queued"}`, called(201)},
		"200":            {200, `{"id":"c-1"}`, called(200)},
		"large":          {201, `{"assistant":"` + strings.Repeat("x", 1<<20) + `","id":"c-1"}`, called(201)},
		"too large":      {201, `{"id":"c-1","assistant":"` + strings.Repeat("x", 4<<20) + `"}`, unknown(201)},
		"no id":          {201, `{"results":[],"errors":[]}`, unknown(201)},
		"empty id":       {201, `{"id":""}`, unknown(201)},
		"long id":        {201, `{"id":"` + strings.Repeat("c", 2049) + `"}`, unknown(201)},
		"id is a number": {201, `{"id":7}`, unknown(201)},
		"HTML":           {200, `<html>` + customerNumber, unknown(200)},
		"half":           {201, `{"id":"c-1"`, unknown(201)},
		"nothing":        {204, ``, unknown(204)},
		"302":            {302, ``, unknown(302)},
		"307":            {307, ``, unknown(307)},
		"400":            {400, `{"message":"customer.number ` + customerNumber + ` is wrong"}`, refused(400, false)},
		"401":            {401, privateKey, refused(401, false)},
		"402":            {402, ``, refused(402, false)},
		"404":            {404, ``, refused(404, false)},
		"408":            {408, ``, refused(408, true)},
		"422":            {422, ``, refused(422, false)},
		"425":            {425, ``, refused(425, true)},
		"429":            {429, ``, refused(429, true)},
		"500":            {500, ``, unknown(500)},
		"502 with an id": {502, `{"id":"c-1"}`, unknown(502)},
		"503":            {503, ``, unknown(503)},
		"600":            {600, ``, unknown(600)},
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
			checkCall(t, outboundTo(t, server.URL, nil).Call(t.Context(), quoteCall), row.want)
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
	noCall := vapiclient.CallReceipt{Verdict: vapiclient.Refused, TryAgain: true}
	half := func(end <-chan struct{}) string {
		return answeringServer(t, func(conn *net.TCPConn, _ []byte) {
			_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"id\":\"c-1\"}")
			<-end
		})
	}
	now, never := make(chan struct{}), make(chan struct{})
	close(now)
	t.Cleanup(func() { close(never) })
	type row struct {
		address string
		want    vapiclient.CallReceipt
	}
	secure := func(address string) string { return strings.Replace(address, "http://", "https://", 1) }
	rows := map[string]row{
		"no TLS":                          {secure(rawServer(t, func(*net.TCPConn) {})), noCall},
		"a TLS handshake that never ends": {secure(silentServer(t)), noCall},
		"half an answer":                  {half(now), vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 201}},
		"an answer that never ends":       {half(never), vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Status: 201}},
	}
	for name, address := range brokenServers(t) {
		rows[name] = row{address, vapiclient.CallReceipt{Verdict: vapiclient.Unknown}}
	}
	rows["no listener"] = row{rows["no listener"].address, noCall}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outboundTo(t, row.address, func(cfg *vapiclient.OutboundConfig) { cfg.Timeout = 200 * time.Millisecond })
			checkCall(t, o.Call(t.Context(), quoteCall), row.want)
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
	if got := o.Call(t.Context(), quoteCall); got.Verdict != vapiclient.Called {
		t.Error(got)
	}
	refused := vapiclient.CallReceipt{Verdict: vapiclient.Refused}
	unauthorized, unread := refused, refused
	unauthorized.Status, unread.TryAgain = 401, true
	for _, row := range []struct {
		key     string
		failure error
		call    vapiclient.CallReceipt
		chat    vapiclient.Receipt
	}{
		{"another", nil, unauthorized, vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 401}},
		{"", nil, refused, vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		{privateKey + "\n", nil, refused, vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		{"", errors.New("throttled"), unread, vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
	} {
		key, failure = row.key, row.failure
		checkCall(t, o.Call(t.Context(), quoteCall), row.call)
		checkReceipt(t, o.Chat(t.Context(), quoteChat), row.chat)
	}
	key, vapiAPI.Key, failure = "the new one", "the new one", nil
	if got := o.Call(t.Context(), quoteCall); got.Verdict != vapiclient.Called {
		t.Error(got)
	}
}

// TestCallStatus asks for calls at a stand-in for Vapi's API.
func TestCallStatus(t *testing.T) {
	known := vapiclient.KnownCall{ID: callID, Type: "inboundPhoneCall", CustomerNumber: "+4915100000001"}
	for name, row := range map[string]struct {
		status  string // of the call; empty means that Vapi does not know it
		failure fakevapi.Failure
		want    vapiclient.CallStatus
	}{
		"ended":       {status: "ended", want: vapiclient.CallStatus{Ended: true, Status: 200, Call: known}},
		"in progress": {status: "in-progress", want: vapiclient.CallStatus{Status: 200, Call: known}},
		"queued":      {status: "queued", want: vapiclient.CallStatus{Status: 200, Call: known}},
		"not found":   {status: "not-found", want: vapiclient.CallStatus{Status: 200, Call: known}},
		"unknown":     {want: vapiclient.CallStatus{Status: 404}},
		"500":         {status: "ended", failure: fakevapi.FailureRefusedBefore, want: vapiclient.CallStatus{Status: 500}},
		"broken":      {status: "ended", failure: fakevapi.FailureDroppedAfter},
		"403":         {status: "ended", failure: fakevapi.FailureForbidden, want: vapiclient.CallStatus{Status: 403}},
		"429": {status: "ended", failure: fakevapi.FailureLimited,
			want: vapiclient.CallStatus{Status: 429, RetryAfter: 7 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			if row.status != "" {
				vapiAPI.SetCall(callID, row.status, "+4915100000001")
			}
			if row.failure != fakevapi.FailureNone {
				vapiAPI.Fail(1, row.failure, false)
			}
			checkStatus(t, outboundTo(t, address, nil).CallStatus(t.Context(), callID), row.want)
			want := []fakevapi.Request{{Method: "GET", Path: "/call/" + callID}}
			if diff := cmp.Diff(want, vapiAPI.Requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func checkStatus(t *testing.T, got, want vapiclient.CallStatus) {
	t.Helper()
	checkQuiet(t, got.Err, !want.Ended)
	got.Err = nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestCallStatusAnswers has answers that do not prove that the call has ended.
func TestCallStatusAnswers(t *testing.T) {
	var followed atomic.Int32
	elsewhere := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for name, row := range map[string]struct {
		id, body string // without an id, it is that of a call
		status   int
	}{
		"no JSON":      {body: `ended`, status: 200},
		"a list":       {body: `[{"status":"ended"}]`, status: 200},
		"no status":    {body: `{"endedReason":"customer-ended-call"}`, status: 200},
		"half":         {body: `{"status":"ended"`, status: 200},
		"no id":        {body: `{"status":"ended"}`, status: 200},
		"another call": {body: `{"id":"another","status":"ended"}`, status: 200},
		"too large":    {body: `{"status":"ended","transcript":"` + strings.Repeat("x", 16<<20) + `"}`, status: 200},
		"nothing":      {status: 204},
		"a redirect":   {body: `{"status":"ended"}`, status: 307},
		"an error":     {body: `{"status":"ended"}`, status: 400},
		"a hostile status": {
			body: `{"id":"` + callID + `","status":"` + strings.Repeat(`\n`, 100) + callID + `"}`, status: 200,
		},
		"another path": {id: "../" + callID + "?x=" + callID, body: `{}`, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+privateKey || strings.Count(r.URL.EscapedPath(), "/") != 2 {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Location", elsewhere)
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			}))
			defer server.Close()
			id := row.id
			if id == "" {
				id = callID
			}
			got := outboundTo(t, server.URL, nil).CallStatus(t.Context(), id)
			if name == "a hostile status" {
				if len(got.Err.Error()) > 100 {
					t.Errorf("a long error: %s", got.Err)
				}
				got.Err = errors.New("checked")
			}
			got.Call = vapiclient.KnownCall{} // "a hostile status" has one
			checkStatus(t, got, vapiclient.CallStatus{Status: row.status})
		})
	}
	if followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
	checkStatus(t, outboundTo(t, "http://127.0.0.1:1", nil).CallStatus(t.Context(), ""), vapiclient.CallStatus{})
	for name, address := range brokenServers(t) {
		o := outboundTo(t, address, func(cfg *vapiclient.OutboundConfig) { cfg.Timeout = 200 * time.Millisecond })
		t.Run(name, func(t *testing.T) { checkStatus(t, o.CallStatus(t.Context(), callID), vapiclient.CallStatus{}) })
	}
}

func TestChatRequest(t *testing.T) {
	const input = `"input":[{"role":"system","content":"Your quote"}],"stream":false}`
	for name, row := range map[string]struct {
		chat vapiclient.NewChat
		body string
	}{
		"session": {vapiclient.NewChat{SessionID: "ses-1"}, `{"sessionId":"ses-1",`},
		"session before all others": {
			vapiclient.NewChat{SessionID: "ses-1", PreviousChatID: "h", AssistantID: "a"}, `{"sessionId":"ses-1",`},
		"previous chat": {vapiclient.NewChat{PreviousChatID: "h"}, `{"previousChatId":"h",`},
		"previous chat and assistant": {
			vapiclient.NewChat{PreviousChatID: "h", AssistantID: "a"}, `{"previousChatId":"h","assistantId":"a",`},
		"assistant": {vapiclient.NewChat{AssistantID: "a"}, `{"assistantId":"a",`},
		"text messages in a session": {
			vapiclient.NewChat{SessionID: "ses-1", SMS: true, PhoneNumberID: "pn", CustomerNumber: "+15550100123"},
			`{"sessionId":"ses-1","transport":{"type":"twilio.sms"},`},
		"text messages after a chat": {
			vapiclient.NewChat{PreviousChatID: "h", SMS: true, PhoneNumberID: "pn", CustomerNumber: "+15550100123"},
			`{"previousChatId":"h",` +
				`"transport":{"type":"twilio.sms","phoneNumberId":"pn","customer":{"number":"+15550100123"}},`},
		"no text messages": {
			vapiclient.NewChat{PreviousChatID: "h", PhoneNumberID: "pn", CustomerNumber: "+15550100123"},
			`{"previousChatId":"h",`},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			row.chat.Content = "Your quote"
			got := outboundTo(t, address, nil).Chat(t.Context(), row.chat)
			checkReceipt(t, got, vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 201})
			want := []fakevapi.Request{{Method: "POST", Path: "/chat", Body: row.body + input}}
			if diff := cmp.Diff(want, vapiAPI.Requests()); diff != "" {
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
	for _, chat := range []vapiclient.NewChat{
		{}, {Content: "Your quote"}, {SessionID: "ses-1"}, {SessionID: "ses-1", SMS: true},
		{PreviousChatID: "h", Content: "Your quote", SMS: true, PhoneNumberID: "pn"},
		{PreviousChatID: "h", Content: "Your quote", SMS: true, CustomerNumber: "+15550100123"},
	} {
		got := outboundTo(t, address, nil).Chat(t.Context(), chat)
		checkReceipt(t, got, vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
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
		"500":    {fakevapi.FailureRefusedBefore, vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 500}},
		"broken": {fakevapi.FailureDroppedAfter, vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429": {fakevapi.FailureLimited,
			vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 429, RetryAfter: 7 * time.Second}},
		"403": {fakevapi.FailureForbidden, vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 403}},
	} {
		t.Run(name, func(t *testing.T) {
			vapiAPI, address := account(t)
			vapiAPI.Fail(1, row.failure, false)
			checkReceipt(t, outboundTo(t, address, nil).Chat(t.Context(), quoteChat), row.want)
			if got := len(vapiAPI.Requests()); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

func TestChatVerdicts(t *testing.T) {
	checkVerdicts(t, verdicts, strings.Repeat(privateKey, 1<<16), func(url string) vapiclient.Receipt {
		return outboundTo(t, url, nil).Chat(t.Context(), quoteChat)
	})
}

// The timeout includes the time that the model takes.
func TestChatTimeout(t *testing.T) {
	o := outboundTo(t, silentServer(t), func(cfg *vapiclient.OutboundConfig) { cfg.Timeout = 50 * time.Millisecond })
	got := o.Chat(t.Context(), quoteChat)
	checkReceipt(t, got, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
	if !errors.Is(got.Err, context.DeadlineExceeded) {
		t.Error(got.Err)
	}
}

func TestNewOutbound(t *testing.T) {
	const loopback = "http://127.0.0.1:8080"
	for name, row := range map[string]struct {
		cfg vapiclient.OutboundConfig
		ok  bool
	}{
		"Vapi":                  {vapiclient.OutboundConfig{Key: readKey}, true},
		"Europe":                {vapiclient.OutboundConfig{Key: readKey, URL: vapiclient.APIURLEU}, true},
		"loopback":              {vapiclient.OutboundConfig{Key: readKey, URL: loopback, AllowLoopback: true}, true},
		"loopback, not allowed": {vapiclient.OutboundConfig{Key: readKey, URL: loopback}, false},
		"http": {
			vapiclient.OutboundConfig{Key: readKey, URL: "http://api.vapi.ai", AllowLoopback: true}, false},
		"password":         {vapiclient.OutboundConfig{Key: readKey, URL: "https://a:b@api.vapi.ai"}, false},
		"no key":           {vapiclient.OutboundConfig{}, false},
		"negative timeout": {vapiclient.OutboundConfig{Key: readKey, Timeout: -1}, false},
	} {
		if _, err := vapiclient.NewOutbound(row.cfg); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// net/http may repeat a request on a connection that was used before.
func TestEachCallHasItsOwnConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"id":"c-1"}`)
	}))
	connections := countConnections(server)
	server.Start()
	defer server.Close()
	o := outboundTo(t, server.URL, nil)
	for range 3 {
		want := vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "c-1", Status: 200}
		checkCall(t, o.Call(t.Context(), quoteCall), want)
	}
	if got := connections.Swap(0); got != 3 {
		t.Errorf("%d connections for 3 calls", got)
	}
	for range 3 {
		checkReceipt(t, o.Chat(t.Context(), quoteChat), delivered)
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for 3 chats", got)
	}
}
