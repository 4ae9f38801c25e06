package httptool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
)

// expiryMargin is how long before its expiry a token is replaced, because a request takes time.
const expiryMargin = 10 * time.Second

// login describes how a tool gets an access token: with client credentials (RFC 6749, section 4.4).
// docs/tools.md explains the fields.
type login struct {
	TokenURL      string            `json:"token_url"`
	ClientID      string            `json:"client_id"`
	ClientSecret  string            `json:"client_secret"`
	Scopes        []string          `json:"scopes"`
	Params        map[string]string `json:"params"`
	CredentialsIn string            `json:"credentials_in"` // header, the default, or body
}

// session gets access tokens.
type session struct {
	url        *url.URL // nil if a setting is missing or invalid
	id, secret string
	inBody     bool // of the request for a token; false: in its header
	form       url.Values
	// cached has one element: the last token. A tool that takes it out may ask for another one.
	cached chan accessToken
}

type accessToken struct {
	text    string
	expires time.Time // zero: unknown
}

func (t accessToken) valid() bool {
	return t.text != "" && (t.expires.IsZero() || time.Now().Before(t.expires.Add(-expiryMargin)))
}

// fill checks the declaration and fills in the environment.
func (l *login) fill(e *environment) (*session, error) {
	for _, f := range []struct{ name, value string }{
		{"token_url", l.TokenURL}, {"client_id", l.ClientID}, {"client_secret", l.ClientSecret},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("oauth2: the %s is missing", f.name)
		}
		if err := checkVariables("oauth2."+f.name, f.value); err != nil {
			return nil, at(err, f.name)
		}
	}
	s := &session{form: url.Values{"grant_type": {"client_credentials"}}, cached: make(chan accessToken, 1)}
	s.cached <- accessToken{}
	var err error
	if _, s.url, err = e.address("oauth2.token_url", l.TokenURL); err != nil {
		return nil, at(err, "token_url")
	}
	s.id, s.secret = e.fill(l.ClientID).text, e.fill(l.ClientSecret).text
	for _, scope := range l.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\r\n") {
			return nil, at(fmt.Errorf("oauth2: the scope %q is not one word; write each as an item of the list", scope),
				"scopes")
		}
		if strings.Contains(scope, "${") {
			return nil, at(fmt.Errorf("oauth2: the scope %q has a setting; write the scope itself", scope), "scopes")
		}
	}
	if len(l.Scopes) > 0 {
		s.form.Set("scope", strings.Join(l.Scopes, " "))
	}
	switch l.CredentialsIn {
	case "", "header":
	case "body":
		s.inBody = true
		s.form.Set("client_id", s.id)
		s.form.Set("client_secret", s.secret)
	default:
		return nil, at(fmt.Errorf("oauth2: credentials_in is %q; it must be header or body", l.CredentialsIn),
			"credentials_in")
	}
	for _, name := range slices.Sorted(maps.Keys(l.Params)) {
		if slices.Contains([]string{"grant_type", "scope", "client_id", "client_secret"}, name) {
			return nil, at(fmt.Errorf("oauth2: the parameter %s cannot be set", name), "params", name)
		}
		if err := checkVariables("oauth2.params."+name, l.Params[name]); err != nil {
			return nil, at(err, "params", name)
		}
		s.form.Set(name, e.fill(l.Params[name]).text)
	}
	return s, nil
}

// token returns an access token, but not the rejected one. It asks for one if there is none that is
// valid. Its error says that the tool's own request was not sent.
func (s *session) token(ctx context.Context, rejected string) (string, error) {
	var t accessToken
	select {
	case t = <-s.cached:
	case <-ctx.Done():
		return "", &asynctool.Error{Retry: true, Cause: notSent{fmt.Errorf("no access token in time: %w", ctx.Err())}}
	}
	defer func() { s.cached <- t }()
	if t.valid() && t.text != rejected {
		return t.text, nil
	}
	next, err := s.ask(ctx)
	if err != nil {
		t = accessToken{}
		said, _ := errors.AsType[*asynctool.Error](err)
		// The status is not that of the tool's own request, so it is in the text only.
		cause := errors.New("no access token: " + err.Error())
		return "", &asynctool.Error{Retry: said.Retry, After: said.After, Cause: notSent{cause}}
	}
	t = next
	return t.text, nil
}

// ask requests a token. Its error is an [*asynctool.Error].
func (s *session) ask(ctx context.Context) (accessToken, error) {
	r, err := NewRequest(ctx, http.MethodPost, s.url, strings.NewReader(s.form.Encode()))
	if err != nil {
		return accessToken{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if !s.inBody {
		// Both are encoded first (RFC 6749, section 2.3.1).
		r.SetBasicAuth(url.QueryEscape(s.id), url.QueryEscape(s.secret))
	}
	asked := time.Now()
	answer, err := JSON[struct {
		Token   string          `json:"access_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"`
	}](r)
	if err != nil {
		return accessToken{}, err
	}
	isVisible := func(r rune) bool { return r > ' ' && r < 0x7f }
	switch {
	case answer.Token == "" || strings.ContainsFunc(answer.Token, func(r rune) bool { return !isVisible(r) }):
		return accessToken{}, asynctool.Fail("", errors.New(malformed+": it has no access token"))
	case answer.Type != "" && !strings.EqualFold(answer.Type, "bearer"):
		return accessToken{}, asynctool.Fail("", errors.New("the access token is not a bearer token"))
	}
	t := accessToken{text: answer.Token}
	// Some services write the seconds as a text.
	seconds, err := time.ParseDuration(strings.Trim(string(answer.Expires), `"`) + "s")
	if err == nil && seconds > 0 {
		t.expires = asked.Add(seconds)
	}
	return t, nil
}
