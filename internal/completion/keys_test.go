package completion_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ringback/ringback/internal/completion"
)

const (
	keyA = "planted-key-a-planted-key-a-planted-key-a"
	keyB = "planted-key-b-planted-key-b-planted-key-b"
	keyC = "planted-key-c-planted-key-c-planted-key-c"
)

var (
	now      = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	deadline = now.Add(time.Hour)
)

// source is a stored secret. Get can return an older value than Refresh.
type source struct {
	mu        sync.Mutex
	old, new  string
	err       error
	refreshes int
}

func (s *source) Get(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.old, s.err
}

func (s *source) Refresh(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	return s.new, s.err
}

// store stores a value that Get returns at once.
func (s *source) store(text string) { s.old, s.new = text, text }

// keysOf returns keys as they are stored. The current key is the first one.
func keysOf(keys ...string) string {
	stored := map[string]string{"current": keys[0]}
	if len(keys) > 1 {
		stored["previous"] = keys[1]
	}
	text, _ := json.Marshal(stored)
	return string(text)
}

func stored(keys ...string) *source {
	s := new(source)
	s.store(keysOf(keys...))
	return s
}

// base64url is the alphabet of base64url.
const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func sign(t testing.TB, k *completion.Keys, id string, expires time.Time) string {
	t.Helper()
	token, err := k.Sign(t.Context(), id, expires)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// verify verifies a token with which a result is posted.
func verify(t testing.TB, k *completion.Keys, token string, at time.Time) (string, error) {
	t.Helper()
	got, err := k.Verify(t.Context(), token, at)
	if got.Posts {
		t.Error("the token is for a tool that reads what is posted")
	}
	return got.JobID, err
}

// TestPostsToken tests that a token shows a tool that reads what is posted, and that an earlier version refuses
// such a token: it would believe a result without a signature.
func TestPostsToken(t *testing.T) {
	k := completion.NewKeys(stored(keyA), nil)
	token, err := k.SignPosts(t.Context(), "call/tool", deadline)
	if err != nil {
		t.Fatal(err)
	}
	want := completion.Token{JobID: "call/tool", Posts: true}
	if got, err := k.Verify(t.Context(), token, now); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = k.Verify(t.Context(), token, deadline.Add(time.Hour))
	if !errors.Is(err, completion.ErrExpired) {
		t.Errorf("after its expiry: %v", err)
	}
	before := jwt.NewParser(jwt.WithAudience("ringback/results"), jwt.WithTimeFunc(func() time.Time { return now }))
	_, err = before.Parse(token, func(*jwt.Token) (any, error) { return []byte(keyA), nil })
	if !errors.Is(err, jwt.ErrTokenInvalidAudience) {
		t.Errorf("the version before says %v", err)
	}
}

func TestToken(t *testing.T) {
	for name, row := range map[string]struct {
		expires, last time.Time // last is the last moment at which it is valid
	}{
		"a whole second":         {deadline, deadline.Add(time.Second - 1)},
		"a fraction of a second": {deadline.Add(time.Millisecond), deadline.Add(time.Second - 1)},
		"nearly a second":        {deadline.Add(time.Second - 1), deadline.Add(time.Second - 1)},
	} {
		t.Run(name, func(t *testing.T) {
			k := completion.NewKeys(stored(keyA), nil)
			const id = "call-1/tool-\"1\"\n語"
			token := sign(t, k, id, row.expires)
			for _, at := range []time.Time{now.Add(-time.Hour), now, row.expires, row.last} {
				if got, err := verify(t, k, token, at); got != id || err != nil {
					t.Errorf("at %s: %q, %v", at, got, err)
				}
			}
			for _, at := range []time.Time{row.last.Add(1), row.last.Add(1000 * time.Hour)} {
				if got, err := verify(t, k, token, at); got != "" || !errors.Is(err, completion.ErrExpired) {
					t.Errorf("at %s: %q, %v, want ErrExpired", at, got, err)
				}
			}
			// A token needs no escaping in a URL's path.
			if strings.Trim(token, base64url+".") != "" {
				t.Errorf("the token must be escaped in a URL: %s", token)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	k := completion.NewKeys(stored(keyA), nil)
	for name, row := range map[string]struct {
		id      string
		expires time.Time
	}{
		"no job":     {"", deadline},
		"no UTF-8":   {"call/\xff", deadline},
		"no time":    {"call/tool", time.Time{}},
		"a huge job": {strings.Repeat("x", 10_000), deadline},
	} {
		if token, err := k.Sign(t.Context(), row.id, row.expires); err == nil {
			t.Errorf("%s: signed %s", name, token)
		}
	}
	// The longest job id, if all of it must be escaped.
	if _, err := k.Sign(t.Context(), strings.Repeat("\x01", 512+1+256), deadline); err != nil {
		t.Error(err)
	}
}

// forge signs a token.
func forge(t testing.TB, method jwt.SigningMethod, key any, kid any, change func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "call/tool", "aud": []string{"ringback/results"}, "exp": deadline.Unix()}
	if change != nil {
		change(claims)
	}
	token := jwt.NewWithClaims(method, claims)
	if kid != nil {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestForgedTokens(t *testing.T) {
	s := stored(keyA, keyB)
	k := completion.NewKeys(s, slog.New(slog.DiscardHandler))
	genuine := sign(t, k, "call/tool", deadline)
	parts := strings.Split(genuine, ".")
	var header struct{ Kid string }
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || json.Unmarshal(raw, &header) != nil || header.Kid == "" {
		t.Fatalf("the token's header: %s", raw)
	}
	kid := header.Kid
	encode := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	payload := func(json string) string { return parts[0] + "." + encode(json) + "." + parts[2] }
	algorithm := func(header string) string { return encode(header) + "." + parts[1] + "." + parts[2] }
	claiming := func(change func(jwt.MapClaims)) string {
		return forge(t, jwt.SigningMethodHS256, []byte(keyA), kid, change)
	}
	signedBy := func(key string, kid any) string { return forge(t, jwt.SigningMethodHS256, []byte(key), kid, nil) }
	expired := func(change func(jwt.MapClaims)) string {
		return claiming(func(c jwt.MapClaims) {
			change(c)
			c["exp"] = now.Unix()
		})
	}
	set := func(name string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[name] = value } }
	without := func(name string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, name) } }

	// Each row below differs from this token in one thing.
	if id, err := verify(t, k, claiming(nil), now); id != "call/tool" || err != nil {
		t.Fatalf("a token that the test signed: %q, %v", id, err)
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(parts[2])
	rows := map[string]string{
		"nothing":            "",
		"a word":             "token",
		"dots":               "..",
		"two parts":          parts[0] + "." + parts[1],
		"four parts":         genuine + "." + parts[2],
		"no signature":       parts[0] + "." + parts[1] + ".",
		"padded":             genuine + "=",
		"a space after":      genuine + " ",
		"a line break after": genuine + "\n",
		"in upper case":      strings.ToUpper(genuine),
		"twice":              genuine + genuine,
		"cut":                genuine[:len(genuine)-1],
		"in standard base64": parts[0] + "." + parts[1] + "." + standard + "=",
		"very long":          strings.Repeat(genuine, 100),

		"another job":    payload(`{"sub":"call/other","aud":["ringback/results"],"exp":4102444800}`),
		"a later expiry": payload(`{"sub":"call/tool","aud":["ringback/results"],"exp":4102444800}`),
		"another reader": payload(`{"sub":"call/tool","aud":["ringback/posts"],"exp":4102444800}`),
		"no claims":      payload(`null`),
		"a list":         payload(`[]`),
		"a huge expiry":  payload(`{"sub":"call/tool","aud":["ringback/results"],"exp":1e308}`),

		"alg none":                 forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, nil),
		"alg none, with signature": algorithm(`{"alg":"none","typ":"JWT","kid":"` + kid + `"}`),
		"alg None":                 encode(`{"alg":"None","kid":"`+kid+`"}`) + "." + parts[1] + ".",
		"no alg":                   algorithm(`{"kid":"` + kid + `"}`),
		"RS256":                    algorithm(`{"alg":"RS256","kid":"` + kid + `"}`),
		"HS384":                    forge(t, jwt.SigningMethodHS384, []byte(keyA), kid, nil),
		"HS512":                    forge(t, jwt.SigningMethodHS512, []byte(keyA), kid, nil),

		"another key":                 signedBy(keyC, kid),
		"an empty key":                signedBy("", kid),
		"the kid as the key":          signedBy(kid, kid),
		"another key, no kid":         signedBy(keyC, nil),
		"another key, kid is numeric": signedBy(keyC, 1),

		"no expiry":                     claiming(without("exp")),
		"expiry is a text":              claiming(set("exp", "tomorrow")),
		"no job":                        claiming(without("sub")),
		"no job, and expired":           expired(without("sub")),
		"no audience":                   claiming(without("aud")),
		"no audience, and expired":      expired(without("aud")),
		"another audience":              claiming(set("aud", "ringback")),
		"another audience, and expired": expired(set("aud", "ringback")),
	}
	// Each character of the signature counts, and each of its bits.
	for i := range parts[2] {
		for _, c := range "Aw-_9" {
			if rune(parts[2][i]) != c {
				rows["signature with "+string(c)+fmt.Sprint(" at ", i)] =
					parts[0] + "." + parts[1] + "." + parts[2][:i] + string(c) + parts[2][i+1:]
			}
		}
	}
	for _, c := range base64url {
		if byte(c) != genuine[len(genuine)-1] {
			rows["signature that ends in "+string(c)] = genuine[:len(genuine)-1] + string(c)
		}
	}
	for name, token := range rows {
		id, err := verify(t, k, token, now)
		if id != "" || !errors.Is(err, completion.ErrToken) {
			t.Errorf("%s: %q, %v, want ErrToken", name, id, err)
			continue
		}
		if len(token) > 9 && strings.Contains(err.Error(), token[:9]) || strings.Contains(err.Error(), kid) {
			t.Errorf("%s: the error has the token: %v", name, err)
		}
	}
	// A token with a known kid, or without a kid, does not make Verify read the keys again.
	if s.refreshes != 0 {
		t.Errorf("the keys were read again %d times", s.refreshes)
	}
}

func TestRotation(t *testing.T) {
	verify := func(k *completion.Keys, token string) error {
		t.Helper()
		id, err := verify(t, k, token, now)
		if err == nil && id != "call/tool" {
			t.Errorf("job %q", id)
		}
		return err
	}
	byOld, byNew := completion.NewKeys(stored(keyA), nil), completion.NewKeys(stored(keyB, keyA), nil)
	oldToken, newToken := sign(t, byOld, "call/tool", deadline), sign(t, byNew, "call/tool", deadline)

	t.Run("the new keys verify tokens of the old key", func(t *testing.T) {
		if err := verify(byNew, oldToken); err != nil {
			t.Error(err)
		}
	})
	t.Run("a token of a new key makes Verify read again", func(t *testing.T) {
		s := &source{old: keysOf(keyA), new: keysOf(keyB, keyA)}
		k := completion.NewKeys(s, nil)
		if err := verify(k, newToken); err != nil || s.refreshes != 1 {
			t.Errorf("%v, after %d refreshes", err, s.refreshes)
		}
		if err := verify(k, oldToken); err != nil || s.refreshes != 1 {
			t.Errorf("the old one: %v, after %d refreshes", err, s.refreshes)
		}
	})
	t.Run("tokens of a removed key are invalid", func(t *testing.T) {
		s := stored(keyB)
		if err := verify(completion.NewKeys(s, nil), oldToken); !errors.Is(err, completion.ErrToken) || s.refreshes != 1 {
			t.Errorf("%v, after %d refreshes", err, s.refreshes)
		}
	})
	t.Run("a rotation can be undone", func(t *testing.T) {
		s := stored(keyB, keyA)
		k := completion.NewKeys(s, nil)
		if err := verify(k, newToken); err != nil {
			t.Error(err)
		}
		s.store(keysOf(keyA))
		if err := verify(k, oldToken); err != nil {
			t.Error(err)
		}
		if err := verify(k, newToken); !errors.Is(err, completion.ErrToken) {
			t.Error(err)
		}
	})
	t.Run("an expired token does not make Verify read again", func(t *testing.T) {
		s := stored(keyA)
		_, err := completion.NewKeys(s, nil).Verify(t.Context(), oldToken, deadline.Add(time.Hour))
		if !errors.Is(err, completion.ErrExpired) || s.refreshes != 0 {
			t.Errorf("%v, after %d refreshes", err, s.refreshes)
		}
	})
	t.Run("broken keys do not replace good ones", func(t *testing.T) {
		var log bytes.Buffer
		s := stored(keyA)
		k := completion.NewKeys(s, slog.New(slog.NewTextHandler(&log, nil)))
		if err := verify(k, oldToken); err != nil {
			t.Fatal(err)
		}
		s.store(`{"current":"planted"}`)
		if err := verify(k, oldToken); err != nil {
			t.Error(err)
		}
		if err := verify(k, newToken); !errors.Is(err, completion.ErrToken) {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || strings.Contains(log.String(), "planted") {
			t.Errorf("%d errors in the log, want 1 without the key:\n%s", n, log.String())
		}
	})
	t.Run("keys that cannot be read again stay in use", func(t *testing.T) {
		s := &failing{source: stored(keyA)}
		if err := verify(completion.NewKeys(s, nil), newToken); !errors.Is(err, completion.ErrToken) || s.refreshes != 1 {
			t.Errorf("%v, after %d refreshes", err, s.refreshes)
		}
	})
}

// failing is a source that cannot be refreshed.
type failing struct{ *source }

func (f *failing) Refresh(ctx context.Context) (string, error) {
	_, _ = f.source.Refresh(ctx)
	return "", errors.New("throttled")
}

func TestKeys(t *testing.T) {
	long := strings.Repeat("k", 32)
	for name, row := range map[string]struct{ text, says string }{ // says is empty if they are usable
		"long enough":        {keysOf(long), ""},
		"many bytes":         {keysOf(strings.Repeat("語", 32)), ""},
		"two":                {keysOf(long, keyA), ""},
		"previous null":      {`{"current":"` + long + `","previous":null}`, ""},
		"too short":          {keysOf(long[1:]), "current key is shorter than 32 characters"},
		"too few characters": {keysOf(strings.Repeat("語", 31)), "current key is shorter than 32 characters"},
		"previous too short": {keysOf(long, "planted"), "previous key is shorter than 32 characters"},
		"empty":              {keysOf(""), "current key is shorter than 32 characters"},
		"previous empty":     {keysOf(long, ""), "previous key is shorter than 32 characters"},
		"no current":         {`{"previous":"` + keyA + `"}`, "not JSON"},
		"a typo":             {`{"current":"` + long + `","planted":"` + keyA + `"}`, "not JSON"},
		"a bare key":         {keyA, "not JSON"},
		"a JSON string":      {`"` + keyA + `"`, "not JSON"},
		"a number":           {`{"current":12345678901234567890123456789012}`, "not JSON"},
		"two objects":        {keysOf(keyA) + keysOf(keyB), "not JSON"},
		"nothing":            {"", "not JSON"},
		"null":               {"null", "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(source)
			s.store(row.text)
			k := completion.NewKeys(s, nil)
			token, err := k.Sign(t.Context(), "call/tool", deadline)
			if row.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := verify(t, k, token, now); err != nil {
					t.Error(err)
				}
				return
			}
			_, verifyErr := verify(t, k, "a.b.c", now)
			for _, err := range []error{err, verifyErr} {
				if !errors.Is(err, completion.ErrKeys) || !strings.Contains(err.Error(), row.says) ||
					strings.Contains(err.Error(), "planted") {
					t.Errorf("error %v, want one that says %q and no key", err, row.says)
				}
			}
		})
	}
	down := errors.New("the service is down")
	k := completion.NewKeys(&source{err: down}, nil)
	_, signErr := k.Sign(t.Context(), "call/tool", deadline)
	_, verifyErr := verify(t, k, "a.b.c", now)
	for _, err := range []error{signErr, verifyErr} {
		if !errors.Is(err, completion.ErrKeys) || !errors.Is(err, down) {
			t.Errorf("unreadable keys: %v", err)
		}
	}
}

func TestURLs(t *testing.T) {
	k := completion.NewKeys(stored(keyA), nil)
	for _, base := range []string{
		"https://api.example.com/results/", "https://api.example.com/results", "http://127.0.0.1:8787/results/",
	} {
		urls, err := completion.NewURLs(k, base)
		if err != nil {
			t.Fatal(err)
		}
		url, err := urls.URL(t.Context(), "call/tool", deadline)
		token, ok := strings.CutPrefix(url, strings.TrimSuffix(base, "/")+"/")
		if err != nil || !ok {
			t.Errorf("%s: %s, %v", base, url, err)
		}
		if id, err := verify(t, k, token, now); id != "call/tool" || err != nil {
			t.Errorf("%s: %q, %v", base, id, err)
		}
	}
	for _, base := range []string{
		"", "results", "/results/", "api.example.com/results/", "ftp://example.com/", "https:///results/",
		"https://example.com/results/?token=", "https://example.com/#x", "https://planted@example.com/",
		"https://exa mple.com/",
	} {
		if _, err := completion.NewURLs(k, base); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%q: error %v", base, err)
		}
	}
	unreadable := completion.NewKeys(&source{err: errors.New("down")}, nil)
	urls, err := completion.NewURLs(unreadable, "https://api.example.com/results/")
	if err != nil {
		t.Fatal(err)
	}
	if url, err := urls.URL(t.Context(), "call/tool", deadline); url != "" || !errors.Is(err, completion.ErrKeys) {
		t.Errorf("without keys: %s, %v", url, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := stored(keyA)
	k := completion.NewKeys(s, nil)
	other := sign(t, completion.NewKeys(stored(keyB), nil), "call/tool", deadline)
	var using sync.WaitGroup
	for range 8 {
		using.Go(func() {
			token, err := k.Sign(t.Context(), "call/tool", deadline)
			if err != nil {
				t.Error(err)
			}
			if id, err := verify(t, k, token, now); id != "call/tool" || err != nil {
				t.Errorf("%q, %v", id, err)
			}
			if _, err := verify(t, k, other, now); !errors.Is(err, completion.ErrToken) {
				t.Error(err)
			}
		})
	}
	using.Wait()
}

// FuzzVerify looks for an unsigned token that is accepted, and for a signed one that is refused.
func FuzzVerify(f *testing.F) {
	k := completion.NewKeys(stored(keyA, keyB), slog.New(slog.DiscardHandler))
	genuine := sign(f, k, "call/tool", deadline)
	parts := strings.Split(genuine, ".")
	encode := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	f.Add(genuine, "call/tool", int64(0))
	f.Add(parts[0]+"..", "\x00", int64(1))
	f.Add(encode(`{"alg":"none"}`)+"."+parts[1]+".", "ä/ö", int64(-1))
	f.Add(parts[0]+"."+encode(`{"exp":1e999,"aud":{},"sub":1}`)+"."+parts[2], "x", int64(1<<62))
	f.Fuzz(func(t *testing.T, token, id string, nanos int64) {
		got, err := verify(t, k, token, now)
		if token != genuine && (got != "" || !errors.Is(err, completion.ErrToken)) {
			t.Fatalf("%q was accepted as %q, %v", token, got, err)
		}
		expires := now.Add(time.Duration(nanos))
		signed, err := k.Sign(t.Context(), id, expires)
		if valid := id != "" && utf8.ValidString(id) && expires.Unix() > 0; (err == nil) != valid && len(id) < 1000 {
			t.Fatalf("signing %q until %s: %v", id, expires, err)
		}
		if err != nil {
			return
		}
		got, err = verify(t, k, signed, now)
		switch {
		case err == nil && got == id && !expires.Before(now.Truncate(time.Second)):
		case errors.Is(err, completion.ErrExpired) && got == "" && expires.Before(now):
		default:
			t.Fatalf("%q, signed until %s: %q, %v", id, expires, got, err)
		}
	})
}

// TestCustomers tests the keys that name customers: one for each stored key, which reveals nothing of it.
func TestCustomers(t *testing.T) {
	ctx := t.Context()
	customers := func(all ...string) [][]byte {
		t.Helper()
		keys, err := completion.NewKeys(stored(all...), nil).Customers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	a, b, both := customers(keyA), customers(keyB), customers(keyB, keyA)
	if len(a) != 1 || len(b) != 1 || bytes.Equal(a[0], b[0]) || len(both) != 2 ||
		!bytes.Equal(both[0], b[0]) || !bytes.Equal(both[1], a[0]) {
		t.Errorf("%x, %x, and of both %x", a, b, both)
	}
	// Names that are made with the key are in the table, so it must stay the same.
	if got := fmt.Sprintf("%x", a[0]); got != "3cf76bd943e24bb33f54ef211960a799bc66e46bee1b9314a3f497e31fe34bab" {
		t.Errorf("the key is %s", got)
	}
	for name, s := range map[string]*source{
		"unreadable": {err: errors.New("access denied")}, "short": {old: keysOf("planted")},
	} {
		keys, err := completion.NewKeys(s, slog.New(slog.DiscardHandler)).Customers(ctx)
		if !errors.Is(err, completion.ErrKeys) {
			t.Errorf("%s: %x, %v", name, keys, err)
		}
	}
}
