// Package vapiauth verifies that a webhook comes from Vapi, and signs webhooks as Vapi does.
//
// A [Plan] is one credential. [ParsePlans] reads the plans of a deployment, [NewVerifier] makes a
// [Verifier] of them, and [Plan.Sign] signs a request for tests and simulated calls.
package vapiauth

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ErrUnauthorized is wrapped by every error of [Verifier.Verify]. Answer it with HTTP status 401.
var ErrUnauthorized = errors.New("webhook is not authenticated")

const (
	// replayWindow is the largest allowed difference between a signed timestamp and the receiver's
	// clock, either way. Svix's libraries use the same.
	replayWindow = 5 * time.Minute

	// MinSecretLength is the shortest token, secret or key, in bytes, that [Plan.CheckLength] accepts. 24
	// random letters and digits have 143 bits. A shorter value is one that a person has thought up.
	MinSecretLength = 24

	// maxPlansBytes is the size limit of a value in AWS Secrets Manager.
	maxPlansBytes = 64 << 10

	// maxSignatures limits the signatures that are read from one header.
	maxSignatures = 16
)

// Plan is one webhook credential. Its JSON has the form of Vapi's authenticationPlan (Vapi's
// OpenAPI: BearerAuthenticationPlan, HMACAuthenticationPlan), with two more types: "secret" for the
// legacy server.secret, and "none". A member that does not belong to the plan's type is an error.
type Plan struct {
	// Type is "bearer", "hmac", "secret" or "none". Empty is an error.
	Type string `json:"type"`

	// Secret is the value that Vapi sends in the header X-Vapi-Secret. For type "secret" only, and
	// required there.
	Secret string `json:"secret,omitempty"`

	// Token is the bearer token. For type "bearer" only, and required there. It must not begin with
	// "Bearer ", unless BearerPrefixEnabled is false.
	Token string `json:"token,omitempty"`
	// HeaderName is the header that holds the token. Empty means Authorization.
	HeaderName string `json:"headerName,omitempty"`
	// BearerPrefixEnabled reports whether "Bearer " precedes the token. Nil means true.
	BearerPrefixEnabled *bool `json:"bearerPrefixEnabled,omitempty"`

	// SecretKey is the key of the HMAC. For type "hmac" only, and required there.
	SecretKey string `json:"secretKey,omitempty"`
	// Algorithm is "sha256", "sha512" or "sha1". Required for type "hmac".
	Algorithm string `json:"algorithm,omitempty"`
	// SignatureHeader is the header that holds the signature. Empty means x-signature.
	SignatureHeader string `json:"signatureHeader,omitempty"`
	// TimestampHeader is the header that holds the timestamp. Empty means x-timestamp. It is an error if
	// PayloadFormat signs no timestamp, unless IncludeTimestamp is false.
	TimestampHeader string `json:"timestampHeader,omitempty"`
	// SignaturePrefix precedes the signature, for example "sha256=" in GitHub's style or "v1," in
	// Svix's style. Empty means none.
	SignaturePrefix string `json:"signaturePrefix,omitempty"`
	// IncludeTimestamp reports whether the default payload format signs a timestamp. Nil means
	// true. False is an error if PayloadFormat has {timestamp}, and true is one if it has none. Without
	// a signed timestamp nothing prevents a replay.
	IncludeTimestamp *bool `json:"includeTimestamp,omitempty"`
	// PayloadFormat is the text that is signed, with the placeholders {body}, {timestamp},
	// {method}, {url} and {svix-id}, each at most once. {body} is required. Empty means
	// "{timestamp}.{body}", or "{body}" if IncludeTimestamp is false.
	PayloadFormat string `json:"payloadFormat,omitempty"`
	// MessageIDHeader is the header that holds the value of {svix-id}. Required if PayloadFormat
	// has {svix-id}, because Vapi documents no default.
	MessageIDHeader string `json:"messageIdHeader,omitempty"`
	// SignatureEncoding is "hex", in either case, or "base64", with the standard alphabet and with
	// or without padding. Empty means hex.
	SignatureEncoding string `json:"signatureEncoding,omitempty"`
	// SecretIsBase64 means that SecretKey is base64 with the standard alphabet and must be decoded.
	// Svix's prefix "whsec_" is removed first (Svix's documentation, "Verifying webhooks
	// manually").
	SecretIsBase64 bool `json:"secretIsBase64,omitempty"`
}

// String returns the plan's type only, so that a printed plan shows no secret.
func (p Plan) String() string { return "webhook credential of type " + strconv.Quote(p.Type) }

// GoString implements [fmt.GoStringer]. It returns String.
func (p Plan) GoString() string { return p.String() }

// LogValue implements [slog.LogValuer]. It returns String.
func (p Plan) LogValue() slog.Value { return slog.StringValue(p.String()) }

// CheckLength returns an error if the plan's token, secret or key is shorter than [MinSecretLength]. Svix's
// prefix "whsec_" does not count. [ParsePlans] and [NewVerifier] accept such a plan.
func (p Plan) CheckLength() error {
	member, value := "", ""
	switch p.Type {
	case "secret":
		member, value = "secret", p.Secret
	case "bearer":
		member, value = "token", p.Token
	case "hmac":
		member, value = "secretKey", p.SecretKey
		if p.SecretIsBase64 {
			value = strings.TrimPrefix(value, "whsec_")
		}
	default:
		return nil
	}
	if len(value) < MinSecretLength {
		return fmt.Errorf("webhook credential: %s has fewer than %d characters, so it can be guessed: "+
			"use a random one", member, MinSecretLength)
	}
	return nil
}

// ParsePlans parses the JSON of one plan, or of an array with one or two plans. Two are for the
// time of a rotation: a webhook that satisfies either is accepted. [NewVerifier] accepts the plans
// that ParsePlans returns. Errors hold no secret.
func ParsePlans(data []byte) ([]Plan, error) {
	plans, err := parsePlans(data)
	if err != nil {
		return nil, fmt.Errorf("webhook credential: %w", err)
	}
	if _, err := NewVerifier(plans...); err != nil {
		return nil, err
	}
	return plans, nil
}

func parsePlans(data []byte) ([]Plan, error) {
	if len(data) > maxPlansBytes {
		return nil, fmt.Errorf("%d bytes are more than the %d allowed", len(data), maxPlansBytes)
	}
	items := []json.RawMessage{data}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		if err := json.Unmarshal(data, &items); err != nil {
			return nil, explainJSON(err)
		}
	}
	plans := make([]Plan, len(items))
	for i, item := range items {
		// Check the type first: an oauth2 plan needs its own error, not one about unknown members.
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(item, &kind); err != nil {
			return nil, explainJSON(err)
		}
		if kind.Type == "oauth2" {
			return nil, errOAuth2
		}
		decoder := json.NewDecoder(bytes.NewReader(item))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&plans[i]); err != nil {
			return nil, explainJSON(err)
		}
	}
	return plans, nil
}

var errOAuth2 = errors.New(`type "oauth2" is not verified here: ` +
	`use an API Gateway JWT authorizer for these tokens, and {"type":"none"} behind it`)

// explainJSON explains an error of encoding/json without quoting the input. A syntax error of
// encoding/json quotes one byte, which can belong to a secret that was stored without JSON.
func explainJSON(err error) error {
	const example = `{"type":"bearer","token":"..."}`
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON (at byte %d): write it like %s", syntax.Offset, example)
	}
	kind, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: check its spelling against Vapi's authenticationPlan", err)
	case kind.Field == "":
		return fmt.Errorf("it is a JSON %s: write an object like %s, or an array of one or two", kind.Value, example)
	}
	return fmt.Errorf("member %s: got a JSON %s, want a %s", kind.Field, kind.Value, kind.Type)
}

// Request is a webhook as it was received.
type Request struct {
	Method string
	// URL is the server URL as configured at Vapi. Only a payload format with {url} needs it.
	URL string
	// Header holds the headers. Names can be in any case.
	Header http.Header
	// Body is the raw body, after decoding API Gateway's base64.
	Body []byte
}

// Verifier verifies that the sender of a webhook knows the credential. It is safe for concurrent
// use. The zero Verifier rejects every webhook; use [NewVerifier].
type Verifier struct {
	credentials []credential
	off         bool
}

// credential is a validated Plan.
type credential interface {
	// check is verify without the body. It returns nil if only the body can show whether the sender
	// knows the credential.
	check(r *Request, now time.Time) error
	verify(r *Request, now time.Time) error
	sign(r *Request, now time.Time)
}

// NewVerifier returns a Verifier for one plan or two. Errors name the wrong member and hold no
// secret.
func NewVerifier(plans ...Plan) (*Verifier, error) {
	if len(plans) < 1 || len(plans) > 2 {
		return nil, fmt.Errorf("webhook credential: %d plans: use one, or two during a rotation", len(plans))
	}
	v := new(Verifier)
	for _, p := range plans {
		c, err := p.compile()
		if err != nil {
			return nil, err
		}
		if c == nil {
			v.off = true
			continue
		}
		v.credentials = append(v.credentials, c)
	}
	if v.off && len(plans) > 1 {
		return nil, errors.New(`webhook credential: {"type":"none"} beside another plan accepts every webhook: ` +
			"remove one of the two")
	}
	return v, nil
}

// Off reports whether verification is switched off by a plan of type "none".
func (v *Verifier) Off() bool { return v.off }

// Verify returns nil for an authentic webhook. Otherwise it returns an error that wraps
// [ErrUnauthorized] and contains the reason of each plan, for the operator's log. The error
// contains no secret and no header value.
//
// Verify tries every plan, whatever the earlier ones returned.
func (v *Verifier) Verify(r Request, now time.Time) error {
	return v.any(func(c credential) error { return c.verify(&r, now) })
}

// CheckHeader returns the error of [Verifier.Verify] for a webhook whose header is enough to refuse it:
// the credential is missing or malformed, or it is a wrong token, or its timestamp is too old. It needs
// no body. So a webhook without the credential costs little, however long its body is. If it returns
// nil, the webhook must still be verified.
func (v *Verifier) CheckHeader(r Request, now time.Time) error {
	return v.any(func(c credential) error { return c.check(&r, now) })
}

// any returns nil if the function returns nil for one of the credentials. It calls it for all of them.
func (v *Verifier) any(verify func(credential) error) error {
	if v.off {
		return nil
	}
	accepted := false
	reasons := make([]string, 0, len(v.credentials))
	for _, c := range v.credentials {
		if err := verify(c); err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		accepted = true
	}
	if accepted {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnauthorized, strings.Join(reasons, "; "))
}

// Sign sets the headers that Vapi sends with r under this plan. It is for senders that stand in for
// Vapi. A message ID that is already in r is kept. The timestamp is written in seconds. Sign
// returns an error if [NewVerifier] would.
func (p Plan) Sign(r *Request, now time.Time) error {
	c, err := p.compile()
	if err != nil || c == nil {
		return err
	}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	c.sign(r, now)
	return nil
}

// compile validates the plan. It returns nil for type "none".
func (p Plan) compile() (credential, error) {
	c, err := p.newCredential()
	if err != nil {
		return nil, fmt.Errorf("webhook credential: %w", err)
	}
	return c, nil
}

func (p Plan) newCredential() (credential, error) {
	switch p.Type {
	case "none":
		if p != (Plan{Type: p.Type}) {
			return nil, errors.New(`type "none" has no further members: remove them, or correct the type`)
		}
		return nil, nil
	case "secret":
		if p != (Plan{Type: p.Type, Secret: p.Secret}) {
			return nil, errors.New(`type "secret" has the member secret and no other`)
		}
		return newTokenCredential("secret", p.Secret, "X-Vapi-Secret", "")
	case "bearer":
		if p != (Plan{Type: p.Type, Token: p.Token, HeaderName: p.HeaderName, BearerPrefixEnabled: p.BearerPrefixEnabled}) {
			return nil, errors.New(`type "bearer" has the members token, headerName and bearerPrefixEnabled and no other`)
		}
		scheme := "Bearer"
		if p.BearerPrefixEnabled != nil && !*p.BearerPrefixEnabled {
			scheme = ""
		}
		return newTokenCredential("token", p.Token, cmp.Or(p.HeaderName, "Authorization"), scheme)
	case "hmac":
		if p.Secret != "" || p.Token != "" || p.HeaderName != "" || p.BearerPrefixEnabled != nil {
			return nil, errors.New(`type "hmac" has none of the members secret, token, headerName and ` +
				"bearerPrefixEnabled: remove them")
		}
		return newHMACCredential(p)
	case "oauth2":
		return nil, errOAuth2
	case "":
		return nil, errors.New(`the member type is missing: add "bearer", "hmac", "secret" or "none"`)
	}
	return nil, errors.New(`type must be "bearer", "hmac", "secret" or "none"`)
}

// tokenCredential is a value that is sent unchanged: the legacy secret or the bearer token.
type tokenCredential struct {
	header string
	scheme string // "" if the value stands alone
	token  string
	// digest is the token's SHA-256. Digests are compared instead of tokens, so that the duration
	// does not reveal the token's length.
	digest [sha256.Size]byte
}

func newTokenCredential(member, token, header, scheme string) (*tokenCredential, error) {
	switch {
	case token == "":
		return nil, fmt.Errorf("%s is empty: set it to the value at Vapi", member)
	case !fitsHeader(token):
		return nil, fmt.Errorf("%s has a line break, a control character or a space at an end, "+
			"which no header can carry: remove it", member)
	case scheme != "" && len(token) > len(scheme) && strings.EqualFold(token[:len(scheme)+1], scheme+" "):
		// Vapi would send the scheme twice, or the stored token is the whole header of a request.
		return nil, fmt.Errorf("%s begins with %q: store what follows it, here and at Vapi, because Vapi adds it",
			member, scheme+" ")
	case !headerNameValid(header):
		return nil, errors.New("headerName is not a valid header name")
	}
	return &tokenCredential{header, scheme, token, sha256.Sum256([]byte(token))}, nil
}

func (c *tokenCredential) check(r *Request, now time.Time) error { return c.verify(r, now) }

func (c *tokenCredential) verify(r *Request, _ time.Time) error {
	value, err := soleHeader(r.Header, c.header)
	if err != nil {
		return err
	}
	if c.scheme != "" {
		scheme, rest, found := strings.Cut(value, " ")
		if !found || !strings.EqualFold(scheme, c.scheme) {
			return fmt.Errorf("header %s does not begin with %q", c.header, c.scheme+" ")
		}
		value = strings.TrimLeft(rest, " ")
	}
	digest := sha256.Sum256([]byte(value))
	if subtle.ConstantTimeCompare(digest[:], c.digest[:]) != 1 {
		return fmt.Errorf("header %s does not hold the expected value", c.header)
	}
	return nil
}

func (c *tokenCredential) sign(r *Request, _ time.Time) {
	value := c.token
	if c.scheme != "" {
		value = c.scheme + " " + value
	}
	r.Header.Set(c.header, value)
}

// hmacCredential signs a formatted payload.
type hmacCredential struct {
	newHash         func() hash.Hash
	key             []byte
	base64          bool // else hex
	prefix          string
	signatureHeader string
	timestampHeader string
	messageIDHeader string
	payload         []payloadPart
	timestamped     bool // whether the payload has {timestamp}
	identified      bool // whether the payload has {svix-id}
}

// payloadPart is a literal, or a placeholder including its braces.
type payloadPart struct {
	literal     []byte
	placeholder string
}

func newHMACCredential(p Plan) (*hmacCredential, error) {
	c := &hmacCredential{
		key:             []byte(p.SecretKey),
		prefix:          p.SignaturePrefix,
		signatureHeader: cmp.Or(p.SignatureHeader, "x-signature"),
		timestampHeader: cmp.Or(p.TimestampHeader, "x-timestamp"),
		messageIDHeader: p.MessageIDHeader,
	}
	if p.SecretIsBase64 {
		// '_' is not in the standard alphabet, so the prefix cannot be a part of the key.
		secret := strings.TrimRight(strings.TrimPrefix(p.SecretKey, "whsec_"), "=")
		key, err := base64.RawStdEncoding.Strict().DecodeString(secret)
		if err != nil || strings.ContainsAny(secret, "\r\n") {
			return nil, errors.New("secretKey is not base64 in the standard alphabet: " +
				"correct it, or set secretIsBase64 to false")
		}
		c.key = key
	}
	if len(c.key) == 0 {
		return nil, errors.New("secretKey is empty: set it to the value at Vapi")
	}
	switch p.Algorithm {
	case "sha256":
		c.newHash = sha256.New
	case "sha512":
		c.newHash = sha512.New
	case "sha1":
		c.newHash = sha1.New
	default:
		return nil, errors.New(`webhook credential: algorithm must be "sha256", "sha512" or "sha1"`)
	}
	switch p.SignatureEncoding {
	case "", "hex":
	case "base64":
		c.base64 = true
	default:
		return nil, errors.New(`webhook credential: signatureEncoding must be "hex" or "base64"`)
	}
	if !fitsHeader(p.SignaturePrefix + "x") {
		return nil, errors.New("signaturePrefix has a line break, a control character or a space at its beginning, " +
			"which no header can carry: remove it")
	}

	withTimestamp := p.IncludeTimestamp == nil || *p.IncludeTimestamp
	format := p.PayloadFormat
	switch {
	case format == "" && withTimestamp:
		format = "{timestamp}.{body}"
	case format == "":
		format = "{body}"
	}
	var err error
	if c.payload, err = parsePayloadFormat(format); err != nil {
		return nil, err
	}
	for _, part := range c.payload {
		c.timestamped = c.timestamped || part.placeholder == "{timestamp}"
		c.identified = c.identified || part.placeholder == "{svix-id}"
	}
	if c.timestamped && !withTimestamp {
		return nil, errors.New("includeTimestamp is false and payloadFormat has {timestamp}: " +
			"change one of the two to the value at Vapi")
	}
	claimed := p.IncludeTimestamp != nil && *p.IncludeTimestamp || p.IncludeTimestamp == nil && p.TimestampHeader != ""
	if claimed && !c.timestamped {
		return nil, errors.New("includeTimestamp or timestampHeader claims a timestamp that payloadFormat does not sign, " +
			"so nothing prevents a replay: add {timestamp} to payloadFormat, here and at Vapi, " +
			"or set includeTimestamp to false")
	}
	if c.identified && c.messageIDHeader == "" {
		return nil, errors.New("payloadFormat has {svix-id}: " +
			"set messageIdHeader to the header that holds it (svix-id in Svix's style)")
	}

	headers := []string{c.signatureHeader}
	if c.timestamped {
		headers = append(headers, c.timestampHeader)
	}
	if c.identified {
		headers = append(headers, c.messageIDHeader)
	}
	for i, name := range headers {
		if !headerNameValid(name) {
			return nil, errors.New("signatureHeader, timestampHeader or messageIdHeader is not a valid header name")
		}
		for _, other := range headers[:i] {
			if strings.EqualFold(name, other) {
				return nil, errors.New("signatureHeader, timestampHeader and messageIdHeader must be different headers")
			}
		}
	}
	return c, nil
}

// parsePayloadFormat splits a payload format. A repeated placeholder is an error, because Vapi does
// not document whether it fills in the second one.
func parsePayloadFormat(format string) ([]payloadPart, error) {
	var parts []payloadPart
	seen := make(map[string]bool)
	for rest := format; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			parts = append(parts, payloadPart{literal: []byte(rest)})
			break
		}
		if open > 0 {
			parts = append(parts, payloadPart{literal: []byte(rest[:open])})
		}
		length := strings.IndexByte(rest[open:], '}') + 1
		if length == 0 {
			return nil, errors.New("payloadFormat has a { without its }")
		}
		placeholder := rest[open : open+length]
		switch placeholder {
		case "{body}", "{timestamp}", "{method}", "{url}", "{svix-id}":
		default:
			return nil, fmt.Errorf("payloadFormat has the unknown placeholder %q: "+
				"use {body}, {timestamp}, {method}, {url} and {svix-id}", placeholder)
		}
		if seen[placeholder] {
			return nil, fmt.Errorf("payloadFormat has %s twice", placeholder)
		}
		seen[placeholder] = true
		parts = append(parts, payloadPart{placeholder: placeholder})
		rest = rest[open+length:]
	}
	if !seen["{body}"] {
		return nil, errors.New("payloadFormat has no {body}, so nothing protects the body: add it")
	}
	return parts, nil
}

// signedHeader is what the header of a signed webhook claims.
type signedHeader struct {
	candidates           []string // for the signature
	timestamp, messageID string
}

// header reads the header. It checks everything that needs no body, which is expensive to hash.
func (c *hmacCredential) header(r *Request, now time.Time) (h signedHeader, err error) {
	value, err := soleHeader(r.Header, c.signatureHeader)
	if err != nil {
		return h, err
	}
	if h.candidates = c.candidates(value); len(h.candidates) == 0 {
		return h, fmt.Errorf("header %s holds no signature with the credential's prefix, encoding and algorithm",
			c.signatureHeader)
	}
	if c.timestamped {
		if h.timestamp, err = soleHeader(r.Header, c.timestampHeader); err != nil {
			return h, err
		}
		at, ok := parseSignedTimestamp(h.timestamp)
		if !ok {
			return h, fmt.Errorf("header %s holds no timestamp (seconds, milliseconds or ISO 8601)", c.timestampHeader)
		}
		if age := now.Sub(at); age.Abs() > replayWindow {
			return h, fmt.Errorf("header %s differs from the clock by more than %v: a replay, or a wrong clock",
				c.timestampHeader, replayWindow)
		}
	}
	if c.identified {
		if h.messageID, err = soleHeader(r.Header, c.messageIDHeader); err != nil {
			return h, err
		}
		if h.messageID == "" {
			return h, fmt.Errorf("header %s is empty", c.messageIDHeader)
		}
	}
	return h, nil
}

func (c *hmacCredential) check(r *Request, now time.Time) error {
	_, err := c.header(r, now)
	return err
}

func (c *hmacCredential) verify(r *Request, now time.Time) error {
	h, err := c.header(r, now)
	if err != nil {
		return err
	}
	want := []byte(c.signature(r, h.timestamp, h.messageID))
	matches := 0
	for _, candidate := range h.candidates {
		matches |= subtle.ConstantTimeCompare([]byte(candidate), want)
	}
	if matches != 1 {
		return fmt.Errorf("the signature in header %s does not match the request: "+
			"another secret, another payload format, or a changed body", c.signatureHeader)
	}
	return nil
}

func (c *hmacCredential) sign(r *Request, now time.Time) {
	var timestamp, messageID string
	if c.timestamped {
		timestamp = strconv.FormatInt(now.Unix(), 10)
		r.Header.Set(c.timestampHeader, timestamp)
	}
	if c.identified {
		if messageID = r.Header.Get(c.messageIDHeader); messageID == "" {
			messageID = "msg_" + rand.Text()
			r.Header.Set(c.messageIDHeader, messageID)
		}
	}
	r.Header.Set(c.signatureHeader, c.prefix+c.signature(r, timestamp, messageID))
}

// signature returns the encoded HMAC: hex in lower case, or padded base64. It writes the parts one
// by one, so that a large body is not copied.
func (c *hmacCredential) signature(r *Request, timestamp, messageID string) string {
	mac := hmac.New(c.newHash, c.key)
	for _, part := range c.payload {
		switch part.placeholder {
		case "{body}":
			mac.Write(r.Body)
		case "{timestamp}":
			io.WriteString(mac, timestamp)
		case "{svix-id}":
			io.WriteString(mac, messageID)
		case "{method}":
			io.WriteString(mac, r.Method)
		case "{url}":
			io.WriteString(mac, r.URL)
		default:
			mac.Write(part.literal)
		}
	}
	if c.base64 {
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// candidates returns the signatures in a header value, without the prefix and in the form that
// signature returns. Svix's style has several signatures, separated by spaces. The whole value is a
// candidate too, for a prefix with a space.
func (c *hmacCredential) candidates(value string) []string {
	if strings.Count(value, " ") >= maxSignatures {
		return nil
	}
	fields := strings.Split(value, " ")
	if len(fields) > 1 {
		fields = append(fields, value)
	}
	size := c.newHash().Size()
	var found []string
	for _, field := range fields {
		signature, ok := strings.CutPrefix(field, c.prefix)
		if !ok {
			continue
		}
		if c.base64 {
			if len(signature) == base64.RawStdEncoding.EncodedLen(size) {
				signature += strings.Repeat("=", base64.StdEncoding.EncodedLen(size)-len(signature))
			}
			if decoded, err := base64.StdEncoding.DecodeString(signature); err == nil && len(decoded) == size {
				found = append(found, signature)
			}
		} else if decoded, err := hex.DecodeString(signature); err == nil && len(decoded) == size {
			found = append(found, strings.ToLower(signature))
		}
	}
	return found
}

// parseSignedTimestamp parses seconds, milliseconds or ISO 8601. Vapi does not document which one
// it sends.
func parseSignedTimestamp(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch {
		case n < 0:
			return time.Time{}, false
		case n < 1e11: // in milliseconds this is the year 1973, in seconds the year 5138
			return time.Unix(n, 0), true
		}
		return time.UnixMilli(n), true
	}
	at, err := time.Parse(time.RFC3339, s)
	return at, err == nil
}

// soleHeader returns the value of a header that was sent exactly once. Names match in any case,
// because not every sender and gateway makes them canonical.
func soleHeader(header http.Header, name string) (string, error) {
	var sent []string
	for key, values := range header {
		if strings.EqualFold(key, name) {
			sent = append(sent, values...)
		}
	}
	switch len(sent) {
	case 0:
		return "", fmt.Errorf("header %s is missing", name)
	case 1:
		return sent[0], nil
	}
	return "", fmt.Errorf("header %s was sent more than once", name)
}

// fitsHeader reports whether a header can carry the value unchanged.
func fitsHeader(value string) bool {
	return value == strings.TrimSpace(value) && !strings.ContainsFunc(value, unicode.IsControl)
}

// headerNameValid reports whether name is a token (RFC 9110, section 5.1).
func headerNameValid(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
