package completion

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ringback/ringback/internal/secret"
)

const (
	// audience keeps other tokens apart that somebody may sign with the
	// same key.
	audience = "ringback/results"

	// minKey is how long a key is at least, in characters: a key of HS256 has
	// 256 bits or more (RFC 7518, section 3.2).
	minKey = 32

	// maxToken is the longest token, in bytes. The longest job id makes one of
	// 6 KB, if all of it has to be escaped; of API Gateway, a request's line and
	// headers get 10,240 bytes together (Amazon API Gateway quotas).
	maxToken = 8 << 10
)

var (
	// ErrToken says that a token was not made with one of the keys, or is
	// none at all.
	ErrToken = errors.New("the token is wrong")
	// ErrExpired says that a token was made with one of the keys, and that
	// its time is over.
	ErrExpired = errors.New("the token has expired")
	// ErrKeys says that there are no keys: they cannot be read, or not used.
	ErrKeys = errors.New("the completion keys cannot be read")
)

// Keys make and verify the tokens by which somebody outside completes a job.
// They read nothing before they are used, and are safe for use by several
// goroutines.
type Keys struct{ parsed *secret.Parsed[keySet] }

// NewKeys makes the keys of a source: JSON as {"current":"…","previous":"…"}.
// Tokens are signed with the current key. Those of the previous one are good,
// too; it may be missing. log may be nil and then is [slog.Default].
func NewKeys(source secret.Source, log *slog.Logger) *Keys {
	// If the keys are changed to unusable ones, the keys before are good for
	// what was signed with them.
	return &Keys{secret.NewParsed(source, "completion keys", parseKeys, log)}
}

type keySet struct{ keys []key } // the current one first

type key struct {
	id     string // names the key in tokens, and tells nothing of it
	secret []byte
}

// Sign makes a token that is good for one job, and good until expires, whose
// fraction of a second does not count: it is the job's record that knows to
// the moment. Its error wraps [ErrKeys] where there is no key.
func (k *Keys) Sign(ctx context.Context, jobID string, expires time.Time) (string, error) {
	if jobID == "" || !utf8.ValidString(jobID) || expires.Unix() <= 0 {
		return "", errors.New("a completion token needs a job's id and the time of its end")
	}
	set, err := k.get(ctx)
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: jobID, Audience: jwt.ClaimStrings{audience},
		// A token is not good any more when exp has come (RFC 7519, section
		// 4.1.4). So it is the first whole second after the end.
		ExpiresAt: jwt.NewNumericDate(expires.Truncate(time.Second).Add(time.Second)),
	})
	token.Header["kid"] = set.keys[0].id
	signed, err := token.SignedString(set.keys[0].secret)
	if err != nil {
		return "", fmt.Errorf("sign a completion token: %w", err)
	}
	if len(signed) > maxToken {
		return "", fmt.Errorf("the completion token of a job whose id has %d bytes is too long for a URL", len(jobID))
	}
	return signed, nil
}

// Verify gives the id of the job that a token is for. Its error wraps
// [ErrToken], [ErrExpired] or [ErrKeys], and holds nothing of the token.
//
// The time that it takes tells nothing of the keys: signatures are compared in
// constant time, with all keys where none fits, and what a token holds is
// believed only after that. What does show in the time is known to whoever
// made the token: whether it has the form of one, which of the keys it was
// made with, and whether its kid is that of a key, as another one has the keys
// read anew, once in a while. Which jobs there are does not show, as nobody
// looks for a job before its token was verified.
func (k *Keys) Verify(ctx context.Context, token string, now time.Time) (string, error) {
	set, err := k.get(ctx)
	if err != nil {
		return "", err
	}
	jobID, kid, err := set.verify(token, now)
	if !errors.Is(err, ErrToken) || kid == "" || set.has(kid) {
		return jobID, err
	}
	// The keys may have been rotated since they were read.
	if newer := k.parsed.Newer(ctx, set); newer != set {
		jobID, _, err = newer.verify(token, now)
	}
	return jobID, err
}

func (s *keySet) has(kid string) bool {
	return slices.ContainsFunc(s.keys, func(k key) bool { return k.id == kid })
}

// verify gives the token's job, and the kid that it claims to be made with.
func (s *keySet) verify(token string, now time.Time) (jobID, kid string, err error) {
	// encoding/base64 skips line breaks, and one token is to be one text.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return "", "", ErrToken
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(),
		jwt.WithAudience(audience),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	var claims jwt.RegisteredClaims
	_, err = parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		var all jwt.VerificationKeySet
		for _, k := range s.keys {
			all.Keys = append(all.Keys, k.secret)
		}
		return all, nil
	})
	expired := errors.Is(err, jwt.ErrTokenExpired) &&
		!errors.Is(err, jwt.ErrTokenInvalidAudience) && !errors.Is(err, jwt.ErrTokenRequiredClaimMissing)
	switch {
	case err != nil && !expired || claims.Subject == "":
		return "", kid, ErrToken
	case expired:
		return "", kid, ErrExpired
	}
	return claims.Subject, kid, nil
}

func (k *Keys) get(ctx context.Context) (*keySet, error) {
	set, err := k.parsed.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return set, nil
}

// parseKeys reads the keys. Its error holds nothing of them.
func parseKeys(text string) (*keySet, error) {
	var stored struct {
		Current  *string `json:"current"`
		Previous *string `json:"previous"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&stored); err != nil || d.More() || stored.Current == nil {
		return nil, errors.New(`they are not JSON as {"current":"…"} or {"current":"…","previous":"…"}`)
	}
	set := new(keySet)
	for _, k := range []struct {
		name  string
		value *string
	}{{"current", stored.Current}, {"previous", stored.Previous}} {
		switch {
		case k.value == nil:
		case utf8.RuneCountInString(*k.value) < minKey:
			return nil, fmt.Errorf("the %s key is shorter than %d characters; make one with: openssl rand -hex 32", k.name, minKey)
		default:
			mac := hmac.New(sha256.New, []byte(*k.value))
			mac.Write([]byte("kid of " + audience))
			set.keys = append(set.keys, key{id: base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:6]), secret: []byte(*k.value)})
		}
	}
	return set, nil
}

// URLs are where jobs are completed.
type URLs struct {
	keys *Keys
	base string
}

// NewURLs makes URLs of a base, such as https://api.example.com/results/, which
// the token follows.
func NewURLs(keys *Keys, base string) (*URLs, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the base of completion URLs (COMPLETION_URL) is not like https://api.example.com/results/")
	}
	return &URLs{keys: keys, base: strings.TrimSuffix(base, "/") + "/"}, nil
}

// URL is where the job's result can be posted until expires. Who has it can
// complete the job: it is never logged. Its error wraps [ErrKeys] where there
// is no key.
func (u *URLs) URL(ctx context.Context, jobID string, expires time.Time) (string, error) {
	token, err := u.keys.Sign(ctx, jobID, expires)
	if err != nil {
		return "", err
	}
	return u.base + token, nil
}
