package ack_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/jsonscan"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// line is a header line as it goes over the wire.
type line struct{ name, value string }

// wire is a request as it goes over the wire.
type wire struct {
	target string // path and query
	lines  []line
	body   string
}

// send writes a request byte for byte, and returns the status of the answer.
func (w wire) send(t *testing.T, address string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n",
		w.target, address, len(w.body))
	for _, l := range w.lines {
		fmt.Fprintf(&b, "%s: %s\r\n", l.name, l.value)
	}
	// The server may refuse the head before it has read the body.
	_, _ = io.WriteString(conn, b.String()+"\r\n"+w.body)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// credentialPlans has a plan of each kind that can be chosen at Vapi.
var credentialPlans = map[string]vapiauth.Plan{
	"secret":       {Type: "secret", Secret: password},
	"bearer":       {Type: "bearer", Token: password},
	"bearer, bare": {Type: "bearer", Token: password, HeaderName: "X-Api-Key", BearerPrefixEnabled: new(false)},
	"hmac":         {Type: "hmac", SecretKey: password, Algorithm: "sha256"},
	"hmac, base64": {Type: "hmac", SecretKey: password, Algorithm: "sha512", SignatureEncoding: "base64"},
	"github": {
		Type: "hmac", SecretKey: password, Algorithm: "sha256", IncludeTimestamp: new(false),
		SignatureHeader: "X-Hub-Signature-256", SignaturePrefix: "sha256=",
	},
	"svix": {
		Type: "hmac", SecretKey: "whsec_" + base64.StdEncoding.EncodeToString([]byte(password)), SecretIsBase64: true,
		Algorithm: "sha256", SignatureHeader: "svix-signature", SignaturePrefix: "v1,", SignatureEncoding: "base64",
		TimestampHeader: "svix-timestamp", MessageIDHeader: "svix-id", PayloadFormat: "{svix-id}.{timestamp}.{body}",
	},
}

// genuine returns a webhook as Vapi would send it at a time.
func genuine(t *testing.T, plan vapiauth.Plan, body string, at time.Time) wire {
	t.Helper()
	r := vapiauth.Request{Method: http.MethodPost, Body: []byte(body)}
	if err := plan.Sign(&r, at); err != nil {
		t.Fatal(err)
	}
	w := wire{target: "/vapi", body: body, lines: []line{{"Content-Type", "application/json"}}}
	for name := range r.Header {
		w.lines = append(w.lines, line{name, r.Header.Get(name)})
	}
	slices.SortFunc(w.lines, func(a, b line) int { return strings.Compare(a.name, b.name) })
	return w
}

// TestForgedWebhooks sends webhooks with a tampered credential, byte for byte, through a stand-in for API Gateway to
// the handler.
func TestForgedWebhooks(t *testing.T) {
	for kind, plan := range credentialPlans {
		t.Run(kind, func(t *testing.T) {
			stored, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			h, q := newHandler(t, credential(secret.Fixed(stored)))
			server := httptest.NewServer(functiontest.Gateway(deployment.WebhookRoute, h))
			defer server.Close()
			address := server.Listener.Addr().String()
			original := genuine(t, plan, oneCall, now)

			accepts := func(what string, w wire) {
				t.Helper()
				if status, jobs := w.send(t, address), len(q.Take()); status != http.StatusOK || jobs != 1 {
					t.Errorf("%s: status %d, %d jobs; it is genuine", what, status, jobs)
				}
			}
			refuses := func(what string, w wire) {
				t.Helper()
				status, jobs := w.send(t, address), len(q.Take())
				// 400 is the server's own answer to what is not HTTP.
				if status != http.StatusUnauthorized && status != http.StatusBadRequest || jobs != 0 {
					t.Errorf("%s: status %d, %d jobs; it is forged", what, status, jobs)
				}
			}

			accepts("genuine", original)
			// None of these changes what was sent (RFC 9110, section 5).
			for what, change := range map[string]func(l line) line{
				"lower case":  func(l line) line { return line{strings.ToLower(l.name), l.value} },
				"upper case":  func(l line) line { return line{strings.ToUpper(l.name), l.value} },
				"white space": func(l line) line { return line{l.name, " \t " + l.value + " \t"} },
			} {
				w := original
				w.lines = nil
				for _, l := range original.lines {
					w.lines = append(w.lines, change(l))
				}
				accepts(what, w)
			}
			encoded := original
			// API Gateway encodes it in base64.
			encoded.lines = replaced(original.lines, 0, line{"Content-Type", "application/octet-stream"})
			accepts("another content type", encoded)

			for i, l := range original.lines {
				if l.name == "Content-Type" {
					continue
				}
				for what, values := range forgeries(l.value) {
					w := original
					w.lines = slices.Delete(slices.Clone(original.lines), i, i+1)
					for _, value := range values {
						w.lines = append(w.lines, line{l.name, value})
					}
					refuses(l.name+": "+what, w)
				}
				renamed := map[string][]line{
					"in two cases, the second forged": {l, {strings.ToLower(l.name), "forged"}},
					"in two cases, the first forged":  {{strings.ToLower(l.name), "forged"}, l},
					"under another name":              {{"X-Forwarded-" + l.name, l.value}},
					"with an underscore":              {{strings.ReplaceAll(l.name, "-", "_") + "_", l.value}},
					"with a space before the colon":   {{l.name + " ", l.value}},
					"in a cookie":                     {{"Cookie", l.name + "=" + l.value}},
				}
				for what, lines := range renamed {
					w := original
					w.lines = append(slices.Delete(slices.Clone(original.lines), i, i+1), lines...)
					refuses(l.name+" "+what, w)
				}
				w := original
				w.lines = slices.Delete(slices.Clone(original.lines), i, i+1)
				w.target = "/vapi?" + url.Values{l.name: {l.value}, strings.ToLower(l.name): {l.value}}.Encode()
				refuses(l.name+" in the query", w)
			}
			nothing := original
			nothing.lines = nil
			refuses("no headers", nothing)

			if plan.Type != "hmac" {
				return
			}
			for what, body := range map[string]string{
				"a changed body":       strings.Replace(oneCall, "tool-1", "tool-2", 1),
				"a longer body":        oneCall + " ",
				"a shorter body":       oneCall[:len(oneCall)-1],
				"an empty body":        "",
				"the body in base64":   base64.StdEncoding.EncodeToString([]byte(oneCall)),
				"the same JSON":        strings.Replace(oneCall, `"message"`, `"\u006dessage"`, 1),
				"a byte order mark":    "\ufeff" + oneCall,
				"other line breaks":    strings.ReplaceAll(oneCall, "\n", "\r\n"),
				"without line breaks":  strings.ReplaceAll(oneCall, "\n", ""),
				"the timestamp before": fmt.Sprint(now.Unix(), ".", oneCall),
			} {
				w := original
				w.body = body
				refuses(what, w)
				w.lines = replaced(w.lines, 0, line{"Content-Type", "application/octet-stream"})
				refuses(what+", as bytes", w)
			}
			other := plan
			other.SecretKey = base64.StdEncoding.EncodeToString([]byte("planted-old-secret"))
			refuses("another key", genuine(t, other, oneCall, now))
			weaker := plan
			weaker.Algorithm = "sha1"
			refuses("a weaker algorithm", genuine(t, weaker, oneCall, now))
			if plan.IncludeTimestamp == nil {
				refuses("a replay", genuine(t, plan, oneCall, now.Add(-6*time.Minute)))
				refuses("one for later", genuine(t, plan, oneCall, now.Add(6*time.Minute)))
			}
		})
	}
}

func replaced(lines []line, i int, by line) []line {
	lines = slices.Clone(lines)
	for k := range lines {
		if lines[k].name == by.name {
			i = k
		}
	}
	lines[i] = by
	return lines
}

// forgeries returns values that a header's value can be turned into: none, one, or several.
func forgeries(value string) map[string][]string {
	wide := strings.Map(func(r rune) rune { // full-width forms of ASCII
		if r > ' ' && r <= '~' {
			return r - '!' + '！'
		}
		return r
	}, value)
	units := utf16.Encode([]rune(value))
	var utf16Bytes strings.Builder
	for _, u := range units {
		utf16Bytes.WriteByte(byte(u))
		utf16Bytes.WriteByte(byte(u >> 8))
	}
	otherCase := strings.ToUpper(value)
	if otherCase == value {
		otherCase = strings.ToLower(value)
	}
	unpadded := strings.TrimRight(value, "=") // base64 may come without padding
	forged := map[string][]string{
		"missing":             nil,
		"empty":               {""},
		"a word":              {"null"},
		"the first is cut":    {value[1:]},
		"the last is cut":     {unpadded[:len(unpadded)-1]},
		"half":                {value[:len(value)/2]},
		"one more":            {value + "a"},
		"one before":          {"a" + value},
		"reversed":            {reversed(value)},
		"another character":   {flipped(value)},
		"twice":               {value, value},
		"a forged one after":  {value, "forged"},
		"a forged one before": {"forged", value},
		"joined":              {value + "," + value},
		"joined with a space": {value + ", forged"},
		"quoted":              {`"` + value + `"`},
		"percent-encoded":     {percent(value)},
		"base64":              {base64.StdEncoding.EncodeToString([]byte(value))},
		"hex":                 {hex.EncodeToString([]byte(value))},
		"an encoded word":     {mime.BEncoding.Encode("utf-8", value+"é")},
		"full width":          {wide},
		"UTF-16":              {utf16Bytes.String()},
		"a byte order mark":   {"\ufeff" + value},
		"a zero byte after":   {value + "\x00"},
		"a zero width space":  {value[:1] + "\u200b" + value[1:]},
		"not UTF-8":           {value + "\xff"},
		"a folded line":       {value[:1] + "\r\n " + value[1:]},
		"a wildcard":          {"*"},
		"JSON":                {`{"$ne":""}`},
		"very long":           {strings.Repeat(value, 500)},
	}
	// Hex and the scheme's name can be in either case, and digits have none.
	if _, err := hex.DecodeString(strings.TrimPrefix(value, "sha256=")); err != nil && otherCase != value {
		forged["other case"] = []string{otherCase}
	}
	return forged
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// flipped changes a character in the middle.
func flipped(s string) string {
	b := []byte(s)
	i := len(b) / 2
	for b[i] == '=' || b[i] == ' ' {
		i--
	}
	if b[i]++; b[i] > 'y' {
		b[i] = 'a'
	}
	return string(b)
}

func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// unread is the body of a webhook that must not be read.
type unread struct{ reads int }

func (u *unread) Document() (jsonscan.Document, error) {
	u.reads++
	return jsonscan.Document{Text: []byte(oneCall)}, nil
}

func (u *unread) Read([]byte) (int, error) { u.reads++; return 0, io.EOF }
func (u *unread) Close() error             { return nil }

// TestFloodCostsNoBody sends webhooks of the largest size without the credential, or with one that has another form.
// They are refused although nothing of their bodies was decoded, copied or hashed.
func TestFloodCostsNoBody(t *testing.T) {
	for kind, plan := range credentialPlans {
		t.Run(kind, func(t *testing.T) {
			stored, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			h, q := newHandler(t, credential(secret.Fixed(stored)))
			send := func(at time.Time, change func(http.Header)) (status, reads int) {
				r := vapiauth.Request{Method: http.MethodPost, Body: []byte(oneCall)}
				if err := plan.Sign(&r, at); err != nil {
					t.Fatal(err)
				}
				change(r.Header)
				body := new(unread)
				request := httptest.NewRequest(http.MethodPost, "/vapi", body)
				request.Header, request.ContentLength = r.Header, ack.MaxBody
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, request)
				return answer.Code, body.reads
			}
			each := func(change func(string) string) func(http.Header) {
				return func(header http.Header) {
					for name := range header {
						header.Set(name, change(header.Get(name)))
					}
				}
			}
			for what, change := range map[string]func(http.Header){
				"no header":      func(header http.Header) { clear(header) },
				"empty":          each(func(string) string { return "" }),
				"cut":            each(func(value string) string { return value[:len(value)-2] }),
				"other alphabet": each(func(value string) string { return value[:len(value)-2] + "!!" }),
				"twice": func(header http.Header) {
					for name := range header {
						header.Add(name, header.Get(name))
					}
				},
			} {
				if status, reads := send(now, change); status != http.StatusUnauthorized || reads != 0 {
					t.Errorf("%s: status %d, the body was read %d times", what, status, reads)
				}
			}
			if status, reads := send(now, func(http.Header) {}); status != http.StatusOK || reads != 1 {
				t.Errorf("genuine: status %d, the body was read %d times", status, reads)
			}
			if jobs := len(q.Take()); jobs != 1 {
				t.Errorf("%d jobs, want that of the genuine webhook", jobs)
			}
		})
	}
}

// TestFloodLogsSamples checks that a flood does not fill the log, and hides no refusal of another status.
func TestFloodLogsSamples(t *testing.T) {
	var logged bytes.Buffer
	clock := now.Truncate(time.Minute)
	h, err := ack.New(ack.Config{
		Queue: new(recorder), Credential: secret.Fixed(secretPlan), Now: func() time.Time { return clock },
		Log: slog.New(slog.NewJSONHandler(&logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	forged := func(n int) {
		for range n {
			r := post(oneCall)
			r.Header.Set("X-Vapi-Secret", "guessed")
			serve(t, h, r)
		}
	}
	forged(2500)
	serve(t, h, post("not JSON")) // has another status
	clock = clock.Add(time.Minute)
	forged(1)
	var got []string
	for line := range strings.Lines(logged.String()) {
		var l struct {
			Msg           string
			Status, Count int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s: %d, %d", l.Msg, l.Status, l.Count))
	}
	want := []string{
		"webhook refused: 401, 1", "webhook refused: 401, 10", "webhook refused: 401, 100", "webhook refused: 401, 1000",
		"webhook refused: 400, 1", "webhook refused: 401, 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
