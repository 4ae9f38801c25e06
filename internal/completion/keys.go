package completion

import (
	"context"
	"crypto/hkdf"
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
	// audience distinguishes completion tokens from other tokens that are signed with the same key.
	audience = "ringback/results"

	// postsAudience is that of a tool which reads its posts itself. An earlier version, which would read
	// results without a signature, refuses it.
	postsAudience = "ringback/posts"

	// customerInfo distinguishes the keys that name customers from others that are derived from the
	// same one.
	customerInfo = "ringback/customers"

	// minKey is the minimum length of a key, in characters. A key of HS256 has 256 bits or more
	// (RFC 7518, section 3.2).
	minKey = 32

	// maxToken is the maximum length of a token, in bytes. The longest job id, if all of it has to
	// be escaped, makes a token of 6 KB. API Gateway accepts 10,240 bytes for the request line and
	// the headers together (Amazon API Gateway quotas).
	maxToken = 8 << 10
)

var (
	// ErrToken means that a token was not signed with one of the keys, or is not a token.
	ErrToken = errors.New("the token is wrong")
	// ErrExpired means that a token was signed with one of the keys and has expired.
	ErrExpired = errors.New("the token has expired")
	// ErrKeys means that the keys cannot be read, or cannot be used.
	ErrKeys = errors.New("cannot use the completion keys")
)

// Keys signs and verifies the tokens by which external systems complete jobs. It reads nothing
// before it is used, and is safe for use by several goroutines.
type Keys struct{ parsed *secret.Parsed[keySet] }

// NewKeys returns the keys of a source, which holds JSON as {"current":"…","previous":"…"}. Tokens
// are signed with the current key. Tokens of the previous key are valid, too; it can be missing. A
// nil log means [slog.Default].
//
// If unusable keys are stored, the keys before them stay in use: they verify what they signed.
func NewKeys(source secret.Source, log *slog.Logger) *Keys {
	return &Keys{secret.NewParsed(source, "completion keys", parseKeys, log)}
}

// keySet holds the current key first.
type keySet struct{ keys []key }

type key struct {
	id       string // names the key in tokens, and reveals nothing of it
	secret   []byte
	customer []byte // see Customers
}

// Customers returns the keys that name customers in the jobs table, one for each stored key: the current one
// first. They are derived from the stored keys, so that they are of no use for tokens. The error wraps
// [ErrKeys]. Customers is a [jobtable.CustomerKeys].
func (k *Keys) Customers(ctx context.Context) ([][]byte, error) {
	set, err := k.get(ctx)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, one := range set.keys {
		keys = append(keys, one.customer)
	}
	return keys, nil
}

// Token is what a completion token says.
type Token struct {
	JobID string
	Posts bool // the tool reads what is posted
}

// Sign returns a token for one job. It is valid until the end of the second that contains expires;
// the job's record knows the exact deadline. The error wraps [ErrKeys] if there is no key.
func (k *Keys) Sign(ctx context.Context, jobID string, expires time.Time) (string, error) {
	return k.sign(ctx, audience, jobID, expires)
}

// SignPosts is like [Keys.Sign], for a tool that reads what is posted.
func (k *Keys) SignPosts(ctx context.Context, jobID string, expires time.Time) (string, error) {
	return k.sign(ctx, postsAudience, jobID, expires)
}

func (k *Keys) sign(ctx context.Context, audience, jobID string, expires time.Time) (string, error) {
	if jobID == "" || !utf8.ValidString(jobID) || expires.Unix() <= 0 {
		return "", errors.New("a completion token needs a job id and a time of expiry")
	}
	set, err := k.get(ctx)
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: jobID, Audience: jwt.ClaimStrings{audience},
		// A token is no longer valid at exp itself (RFC 7519, section 4.1.4). So exp is the first
		// whole second after the deadline.
		ExpiresAt: jwt.NewNumericDate(expires.Truncate(time.Second).Add(time.Second)),
	})
	token.Header["kid"] = set.keys[0].id
	signed, err := token.SignedString(set.keys[0].secret)
	if err != nil {
		return "", fmt.Errorf("sign a completion token: %w", err)
	}
	if len(signed) > maxToken {
		return "", fmt.Errorf("a job id of %d bytes makes a completion token that is too long for a URL", len(jobID))
	}
	return signed, nil
}

// Verify returns what a token says. The error wraps [ErrToken], [ErrExpired] or
// [ErrKeys], and contains nothing of the token.
//
// The time that Verify takes reveals nothing of the keys. Signatures are compared in constant time,
// with all keys if none fits, and the content of a token is trusted only after that. What the time
// does reveal is known to the maker of the token: whether it has the form of a token, which key
// signed it, and whether its kid names a key. (An unknown kid makes Verify read the keys again, at
// a bounded rate.) The time does not reveal which jobs exist, since no job is looked up before its
// token is verified.
func (k *Keys) Verify(ctx context.Context, token string, now time.Time) (Token, error) {
	set, err := k.get(ctx)
	if err != nil {
		return Token{}, err
	}
	verified, kid, err := set.verify(token, now)
	if !errors.Is(err, ErrToken) || kid == "" || set.has(kid) {
		return verified, err
	}
	// The keys may have been rotated since they were read.
	if newer := k.parsed.Newer(ctx, set); newer != set {
		verified, _, err = newer.verify(token, now)
	}
	return verified, err
}

func (s *keySet) has(kid string) bool {
	return slices.ContainsFunc(s.keys, func(k key) bool { return k.id == kid })
}

// verify returns what the token says, and the kid that the token claims.
func (s *keySet) verify(token string, now time.Time) (verified Token, kid string, err error) {
	// encoding/base64 skips line breaks, but a token has only one valid form.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return Token{}, "", ErrToken
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(),
		jwt.WithAudience(audience, postsAudience),
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
		return Token{}, kid, ErrToken
	case expired:
		return Token{}, kid, ErrExpired
	}
	return Token{JobID: claims.Subject, Posts: slices.Contains(claims.Audience, postsAudience)}, kid, nil
}

func (k *Keys) get(ctx context.Context) (*keySet, error) {
	set, err := k.parsed.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return set, nil
}

// parseKeys reads the keys. Its error contains nothing of them.
func parseKeys(text string) (*keySet, error) {
	var stored struct {
		Current  *string `json:"current"`
		Previous *string `json:"previous"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&stored); err != nil || d.More() || stored.Current == nil {
		return nil, errors.New(`the keys are not JSON like {"current":"…"} or {"current":"…","previous":"…"}`)
	}
	set := new(keySet)
	for _, k := range []struct {
		name  string
		value *string
	}{{"current", stored.Current}, {"previous", stored.Previous}} {
		switch {
		case k.value == nil:
		case utf8.RuneCountInString(*k.value) < minKey:
			return nil, fmt.Errorf("the %s key is shorter than %d characters; make one with: openssl rand -hex 32",
				k.name, minKey)
		default:
			mac := hmac.New(sha256.New, []byte(*k.value))
			mac.Write([]byte("kid of " + audience))
			id := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:6])
			customer, err := hkdf.Key(sha256.New, []byte(*k.value), nil, customerInfo, sha256.Size)
			if err != nil {
				return nil, fmt.Errorf("cannot derive a key from the %s key: %w", k.name, err)
			}
			set.keys = append(set.keys, key{id, []byte(*k.value), customer})
		}
	}
	return set, nil
}

// URLs makes completion URLs.
type URLs struct {
	keys *Keys
	base string
}

// NewURLs returns URLs that consist of a base, such as https://api.example.com/results/, and a token.
func NewURLs(keys *Keys, base string) (*URLs, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" ||
		u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the completion URL (COMPLETION_URL) is not like https://api.example.com/results/")
	}
	return &URLs{keys: keys, base: strings.TrimSuffix(base, "/") + "/"}, nil
}

// URL returns the URL to which the job's result can be posted until expires. It is a secret, since
// it is enough to complete the job, and must not be logged. The error wraps [ErrKeys] if there is no
// key.
func (u *URLs) URL(ctx context.Context, jobID string, expires time.Time) (string, error) {
	return u.url(u.keys.Sign(ctx, jobID, expires))
}

// PostURL is like [URLs.URL], for a tool that reads what is posted. The URL alone does not complete the job.
func (u *URLs) PostURL(ctx context.Context, jobID string, expires time.Time) (string, error) {
	return u.url(u.keys.SignPosts(ctx, jobID, expires))
}

func (u *URLs) url(token string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return u.base + token, nil
}
