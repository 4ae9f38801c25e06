package vapiauth_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/vapi/vapiauth"
)

func mustVerifier(t interface {
	Helper()
	Fatalf(string, ...any)
}, plans ...vapiauth.Plan) *vapiauth.Verifier {
	t.Helper()
	v, err := vapiauth.NewVerifier(plans...)
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return v
}

func headerOf(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

func TestParsePlans(t *testing.T) {
	hmacPlan := vapiauth.Plan{Type: "hmac", SecretKey: "k", Algorithm: "sha256"}
	tests := map[string]struct {
		json string
		want []vapiauth.Plan
	}{
		"secret":        {`{"type":"secret","secret":"s"}`, []vapiauth.Plan{{Type: "secret", Secret: "s"}}},
		"bearer":        {`{"type":"bearer","token":"t"}`, []vapiauth.Plan{{Type: "bearer", Token: "t"}}},
		"bearer, whole": {`{"type":"bearer","token":"t","headerName":"X-Key","bearerPrefixEnabled":false}`, []vapiauth.Plan{{Type: "bearer", Token: "t", HeaderName: "X-Key", BearerPrefixEnabled: new(false)}}},
		"hmac":          {`{"type":"hmac","secretKey":"k","algorithm":"sha256"}`, []vapiauth.Plan{hmacPlan}},
		"hmac, whole": {`{"type":"hmac","secretKey":"whsec_a2V5","algorithm":"sha512","signatureHeader":"svix-signature","timestampHeader":"svix-timestamp",
			"signaturePrefix":"v1,","includeTimestamp":true,"payloadFormat":"{svix-id}.{timestamp}.{body}","messageIdHeader":"svix-id","signatureEncoding":"base64","secretIsBase64":true}`,
			[]vapiauth.Plan{{Type: "hmac", SecretKey: "whsec_a2V5", Algorithm: "sha512", SignatureHeader: "svix-signature", TimestampHeader: "svix-timestamp", SignaturePrefix: "v1,",
				IncludeTimestamp: new(true), PayloadFormat: "{svix-id}.{timestamp}.{body}", MessageIDHeader: "svix-id", SignatureEncoding: "base64", SecretIsBase64: true}}},
		"null is left out": {`{"type":"hmac","secretKey":"k","algorithm":"sha256","payloadFormat":null,"includeTimestamp":null}`, []vapiauth.Plan{hmacPlan}},
		"array of one":     {` [{"type":"none"}] `, []vapiauth.Plan{{Type: "none"}}},
		"rotation":         {`[{"type":"bearer","token":"new"},{"type":"secret","secret":"old"}]`, []vapiauth.Plan{{Type: "bearer", Token: "new"}, {Type: "secret", Secret: "old"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := vapiauth.ParsePlans([]byte(tt.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParsePlansRefuses(t *testing.T) {
	const hush = "hush"
	tests := map[string]struct{ json, want string }{
		"nothing":                      {``, "not JSON"},
		"bare secret":                  {hush, "not JSON"},
		"bare JSON string":             {`"hush"`, "is a JSON string"},
		"trailing garbage":             {`{"type":"secret","secret":"hush"} hush`, "not JSON"},
		"null":                         {`null`, "type is missing"},
		"empty array":                  {`[]`, "0 plans"},
		"three plans":                  {`[{"type":"secret","secret":"a"},{"type":"secret","secret":"b"},{"type":"secret","secret":"c"}]`, "3 plans"},
		"nested array":                 {`[[{"type":"none"}]]`, "is a JSON array"},
		"too long":                     {strings.Repeat(" ", 64<<10) + `{"type":"none"}`, "more than"},
		"no type":                      {`{"secret":"hush"}`, "type is missing"},
		"unknown type":                 {`{"type":"hush"}`, "type must be"},
		"type of another kind":         {`{"type":["hush"]}`, "member type is a array"},
		"misspelt member":              {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","includeTimestmap":true}`, `unknown field "includeTimestmap"`},
		"member of another kind":       {`{"type":"bearer","token":"hush","bearerPrefixEnabled":"false"}`, "bearerPrefixEnabled is a string and must be a bool"},
		"oauth2":                       {`{"type":"oauth2","url":"https://x","clientId":"hush","clientSecret":"hush"}`, "JWT authorizer"},
		"none beside another":          {`[{"type":"none"},{"type":"secret","secret":"hush"}]`, "let everybody in"},
		"none with members":            {`{"type":"none","secret":"hush"}`, "no further members"},
		"secret with members":          {`{"type":"secret","secret":"hush","headerName":"X-A"}`, "and no other"},
		"bearer with members":          {`{"type":"bearer","token":"hush","secret":"hush"}`, "and no other"},
		"hmac with members":            {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","token":"hush"}`, "none of the members"},
		"empty secret":                 {`{"type":"secret","secret":""}`, "secret is empty"},
		"empty token":                  {`{"type":"bearer"}`, "token is empty"},
		"token with a line break":      {`{"type":"bearer","token":"hush\n"}`, "line break"},
		"token with a space after":     {`{"type":"bearer","token":"hush "}`, "space at an end"},
		"bad header name":              {`{"type":"bearer","token":"hush","headerName":"X Key"}`, "not a header name"},
		"empty key":                    {`{"type":"hmac","algorithm":"sha256"}`, "secretKey is empty"},
		"key empty once decoded":       {`{"type":"hmac","secretKey":"whsec_","algorithm":"sha256","secretIsBase64":true}`, "secretKey is empty"},
		"key not base64":               {`{"type":"hmac","secretKey":"hush!","algorithm":"sha256","secretIsBase64":true}`, "not base64"},
		"key in URL-safe base64":       {`{"type":"hmac","secretKey":"_-_-","algorithm":"sha256","secretIsBase64":true}`, "not base64"},
		"key with a line break":        {`{"type":"hmac","secretKey":"aHVz\naA==","algorithm":"sha256","secretIsBase64":true}`, "not base64"},
		"no algorithm":                 {`{"type":"hmac","secretKey":"hush"}`, "algorithm must be"},
		"unknown algorithm":            {`{"type":"hmac","secretKey":"hush","algorithm":"md5"}`, "algorithm must be"},
		"unknown encoding":             {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","signatureEncoding":"base32"}`, "signatureEncoding must be"},
		"bad prefix":                   {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","signaturePrefix":"v1\n"}`, "signaturePrefix has"},
		"bad signature header":         {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","signatureHeader":"x:y"}`, "not a header name"},
		"one header for two":           {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","timestampHeader":"X-Signature"}`, "different headers"},
		"unknown placeholder":          {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{time}.{body}"}`, `unknown placeholder "{time}"`},
		"placeholder in another case":  {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{Body}"}`, `unknown placeholder "{Body}"`},
		"open brace":                   {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{body}.{"}`, "without its }"},
		"placeholder twice":            {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{body}{body}"}`, "{body} twice"},
		"format without body":          {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{timestamp}"}`, "no {body}"},
		"timestamp not to be included": {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{timestamp}{body}","includeTimestamp":false}`, "includeTimestamp is false"},
		"message id without header":    {`{"type":"hmac","secretKey":"hush","algorithm":"sha256","payloadFormat":"{svix-id}{body}"}`, "set messageIdHeader"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			plans, err := vapiauth.ParsePlans([]byte(tt.json))
			if err == nil {
				t.Fatalf("accepted as %v", plans)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if strings.Contains(err.Error(), hush) {
				t.Errorf("error shows a secret: %q", err)
			}
		})
	}
}

func TestPlanPrintsNoSecret(t *testing.T) {
	p := vapiauth.Plan{Type: "bearer", Token: "hush"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "plan", p)
	for _, text := range []string{log.String(), fmt.Sprint(p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", []vapiauth.Plan{p})} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "bearer") {
			t.Errorf("printed as %s", text)
		}
	}
}

// The signatures were made with openssl dgst -hmac and Python's hmac; the GitHub and Svix vectors are those of their
// documentation ("Validating webhook deliveries", "Verifying webhooks manually").
const (
	vectorTime   = 1715000000
	vectorBody   = `{"a":1}`
	vectorSHA256 = "d7d7411e9db0aa4f08b46fd296e7c0bda98ff6a5bad857d984dd139250599229"
	vectorSHA512 = "79551a62e3422ab48c33be2c97a9e8dccb3a402ff6a22e1d33ac9a4cdb9e66701337f331d634346f87c8bc5e84a18308a4dccfce447a94dcb118b6b36f1193df"
	vectorSHA1   = "6dc1fc2a4a799011d5f4ad6dfdbf8bf24a4227c4"
	githubSHA256 = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	svixSHA256   = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	methodSHA512 = "CnMYG3PbT1Wu1QP5/AZznU2AU2ylwIkmzZNB7ZmaLen/MRkG4d6YOssve+5oJApd+OkQgOQNUVUMHYMjSNNOSg=="
)

var (
	bearerPlan = vapiauth.Plan{Type: "bearer", Token: "hush hush"}
	plainPlan  = vapiauth.Plan{Type: "hmac", SecretKey: "topsecret", Algorithm: "sha256"}
	githubPlan = vapiauth.Plan{Type: "hmac", SecretKey: "It's a Secret to Everybody", Algorithm: "sha256", SignatureHeader: "x-hub-signature-256",
		SignaturePrefix: "sha256=", IncludeTimestamp: new(false)}
	svixPlan = vapiauth.Plan{Type: "hmac", SecretKey: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Algorithm: "sha256", SignatureHeader: "svix-signature",
		TimestampHeader: "svix-timestamp", MessageIDHeader: "svix-id", SignaturePrefix: "v1,", PayloadFormat: "{svix-id}.{timestamp}.{body}",
		SignatureEncoding: "base64", SecretIsBase64: true}
)

func svixHeader(signature string) http.Header {
	return headerOf("Svix-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "Svix-Timestamp", "1614265330", "Svix-Signature", signature)
}

func TestVerify(t *testing.T) {
	now := time.Unix(vectorTime, 0)
	svixTime := time.Unix(1614265330, 0)
	const svixBody = `{"test": 2432232314}`
	with := func(p vapiauth.Plan, change func(*vapiauth.Plan)) vapiauth.Plan { change(&p); return p }
	bare := with(bearerPlan, func(p *vapiauth.Plan) { p.BearerPrefixEnabled = new(false); p.HeaderName = "X-Api-Key" })
	legacy := vapiauth.Plan{Type: "secret", Secret: "hush"}
	methodPlan := vapiauth.Plan{Type: "hmac", SecretKey: "topsecret", Algorithm: "sha512", PayloadFormat: "{method} {url}\n{body}", SignatureEncoding: "base64"}
	spacedPlan := with(plainPlan, func(p *vapiauth.Plan) { p.SignaturePrefix = "HMAC " })
	signed := func(signature, timestamp string) http.Header {
		return headerOf("X-Signature", signature, "X-Timestamp", timestamp)
	}
	tests := map[string]struct {
		plans  []vapiauth.Plan
		header http.Header
		body   string
		now    time.Time
		want   string // "" for accepted
	}{
		"legacy secret":               {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hush"), "x", now, ""},
		"legacy secret, lower case":   {[]vapiauth.Plan{legacy}, headerOf("x-vapi-secret", "hush"), "x", now, ""},
		"legacy secret missing":       {[]vapiauth.Plan{legacy}, nil, "x", now, "X-Vapi-Secret is missing"},
		"legacy secret empty":         {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", ""), "x", now, "expected value"},
		"legacy secret's beginning":   {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hus"), "x", now, "expected value"},
		"legacy secret and more":      {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hush!"), "x", now, "expected value"},
		"legacy secret in other case": {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "Hush"), "x", now, "expected value"},
		"legacy secret twice":         {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hush", "X-Vapi-Secret", "hush"), "x", now, "more than once"},
		"legacy secret in two cases":  {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hush", "x-vapi-secret", "other"), "x", now, "more than once"},
		"legacy secret joined":        {[]vapiauth.Plan{legacy}, headerOf("X-Vapi-Secret", "hush,hush"), "x", now, "expected value"},

		"bearer":                 {[]vapiauth.Plan{bearerPlan}, headerOf("Authorization", "Bearer hush hush"), "x", now, ""},
		"bearer, other case":     {[]vapiauth.Plan{bearerPlan}, headerOf("AUTHORIZATION", "bEARER hush hush"), "x", now, ""},
		"bearer, no scheme":      {[]vapiauth.Plan{bearerPlan}, headerOf("Authorization", "hush hush"), "x", now, "does not begin"},
		"bearer, another scheme": {[]vapiauth.Plan{bearerPlan}, headerOf("Authorization", "Basic hush hush"), "x", now, "does not begin"},
		"bearer, no token":       {[]vapiauth.Plan{bearerPlan}, headerOf("Authorization", "Bearer "), "x", now, "expected value"},
		"bearer, joined":         {[]vapiauth.Plan{bearerPlan}, headerOf("Authorization", "Bearer hush hush, Bearer hush hush"), "x", now, "expected value"},
		"bare token":             {[]vapiauth.Plan{bare}, headerOf("X-Api-Key", "hush hush"), "x", now, ""},
		"bare token with scheme": {[]vapiauth.Plan{bare}, headerOf("X-Api-Key", "Bearer hush hush"), "x", now, "expected value"},

		"sha256":               {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now, ""},
		"sha256 in upper case": {[]vapiauth.Plan{plainPlan}, signed(strings.ToUpper(vectorSHA256), "1715000000"), vectorBody, now, ""},
		"sha512":               {[]vapiauth.Plan{with(plainPlan, func(p *vapiauth.Plan) { p.Algorithm = "sha512" })}, signed(vectorSHA512, "1715000000"), vectorBody, now, ""},
		"sha1":                 {[]vapiauth.Plan{with(plainPlan, func(p *vapiauth.Plan) { p.Algorithm = "sha1" })}, signed(vectorSHA1, "1715000000"), vectorBody, now, ""},
		"another algorithm":    {[]vapiauth.Plan{plainPlan}, signed(vectorSHA1, "1715000000"), vectorBody, now, "no signature"},
		"another body":         {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody + " ", now, "does not fit"},
		"another timestamp":    {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000001"), vectorBody, now, "does not fit"},
		"another key":          {[]vapiauth.Plan{with(plainPlan, func(p *vapiauth.Plan) { p.SecretKey = "Topsecret" })}, signed(vectorSHA256, "1715000000"), vectorBody, now, "does not fit"},
		"no signature":         {[]vapiauth.Plan{plainPlan}, headerOf("X-Timestamp", "1715000000"), vectorBody, now, "x-signature is missing"},
		"empty signature":      {[]vapiauth.Plan{plainPlan}, signed("", "1715000000"), vectorBody, now, "no signature"},
		"cut signature":        {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256[:62], "1715000000"), vectorBody, now, "no signature"},
		"signature twice":      {[]vapiauth.Plan{plainPlan}, headerOf("X-Signature", vectorSHA256, "x-signature", vectorSHA256, "X-Timestamp", "1715000000"), vectorBody, now, "more than once"},
		"signature joined":     {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256+","+vectorSHA256, "1715000000"), vectorBody, now, "no signature"},
		"no timestamp":         {[]vapiauth.Plan{plainPlan}, headerOf("X-Signature", vectorSHA256), vectorBody, now, "x-timestamp is missing"},
		"unreadable timestamp": {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "hush"), vectorBody, now, "no timestamp"},
		"negative timestamp":   {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "-1715000000"), vectorBody, now, "no timestamp"},
		"huge timestamp":       {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "9223372036854775807"), vectorBody, now, "off the clock"},
		"timestamp joined":     {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000,1715000000"), vectorBody, now, "no timestamp"},
		"five minutes old":     {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now.Add(5 * time.Minute), ""},
		"older":                {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now.Add(5*time.Minute + 1), "off the clock"},
		"five minutes ahead":   {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now.Add(-5 * time.Minute), ""},
		"further ahead":        {[]vapiauth.Plan{plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now.Add(-5*time.Minute - 1), "off the clock"},
		"prefix with a space":  {[]vapiauth.Plan{spacedPlan}, signed("HMAC "+vectorSHA256, "1715000000"), vectorBody, now, ""},
		"prefix missing":       {[]vapiauth.Plan{spacedPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now, "no signature"},

		"github":                {[]vapiauth.Plan{githubPlan}, headerOf("X-Hub-Signature-256", "sha256="+githubSHA256), "Hello, World!", now, ""},
		"github without prefix": {[]vapiauth.Plan{githubPlan}, headerOf("X-Hub-Signature-256", githubSHA256), "Hello, World!", now, "no signature"},
		"github, explicit format": {[]vapiauth.Plan{with(githubPlan, func(p *vapiauth.Plan) { p.IncludeTimestamp = nil; p.PayloadFormat = "{body}" })},
			headerOf("X-Hub-Signature-256", "sha256="+githubSHA256), "Hello, World!", now, ""},

		"svix":                       {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + svixSHA256), svixBody, svixTime, ""},
		"svix without whsec_":        {[]vapiauth.Plan{with(svixPlan, func(p *vapiauth.Plan) { p.SecretKey = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })}, svixHeader("v1," + svixSHA256), svixBody, svixTime, ""},
		"svix unpadded":              {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + strings.TrimSuffix(svixSHA256, "=")), svixBody, svixTime, ""},
		"svix, several":              {[]vapiauth.Plan{svixPlan}, svixHeader("v1,bm9ldHUjaGFja2VkIQ== v2,x v1," + svixSHA256), svixBody, svixTime, ""},
		"svix, the first of several": {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + svixSHA256 + " v1," + strings.ToLower(svixSHA256)), svixBody, svixTime, ""},
		"svix, several, none":        {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + strings.ToLower(svixSHA256) + " v2," + svixSHA256), svixBody, svixTime, "does not fit"},
		"svix, too many":             {[]vapiauth.Plan{svixPlan}, svixHeader(strings.Repeat("v1,x ", 16) + "v1," + svixSHA256), svixBody, svixTime, "no signature"},
		"svix, URL-safe base64":      {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + strings.NewReplacer("+", "-", "/", "_").Replace(svixSHA256)), svixBody, svixTime, "does not fit"},
		"svix, overpadded":           {[]vapiauth.Plan{svixPlan}, svixHeader("v1," + svixSHA256 + "="), svixBody, svixTime, "no signature"},
		"svix, no id":                {[]vapiauth.Plan{svixPlan}, headerOf("Svix-Timestamp", "1614265330", "Svix-Signature", "v1,"+svixSHA256), svixBody, svixTime, "svix-id is missing"},
		"svix, empty id":             {[]vapiauth.Plan{svixPlan}, headerOf("Svix-Id", "", "Svix-Timestamp", "1614265330", "Svix-Signature", "v1,"+svixSHA256), svixBody, svixTime, "svix-id is empty"},
		"svix, another id":           {[]vapiauth.Plan{svixPlan}, headerOf("Svix-Id", "msg_x", "Svix-Timestamp", "1614265330", "Svix-Signature", "v1,"+svixSHA256), svixBody, svixTime, "does not fit"},

		"method and URL": {[]vapiauth.Plan{methodPlan}, headerOf("X-Signature", methodSHA512), vectorBody, now, ""},

		"rotation, first":   {[]vapiauth.Plan{legacy, plainPlan}, headerOf("X-Vapi-Secret", "hush"), vectorBody, now, ""},
		"rotation, second":  {[]vapiauth.Plan{legacy, plainPlan}, signed(vectorSHA256, "1715000000"), vectorBody, now, ""},
		"rotation, neither": {[]vapiauth.Plan{legacy, plainPlan}, signed(vectorSHA512, "1715000000"), vectorBody, now, "X-Vapi-Secret is missing; header x-signature holds no signature"},
		"none":              {[]vapiauth.Plan{{Type: "none"}}, nil, "x", now, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := mustVerifier(t, tt.plans...)
			if off := tt.plans[0].Type == "none"; v.Off() != off {
				t.Errorf("Off() = %v", !off)
			}
			err := v.Verify(vapiauth.Request{Method: "POST", URL: "https://example.com/vapi", Header: tt.header, Body: []byte(tt.body)}, tt.now)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, vapiauth.ErrUnauthorized) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one that says %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("error shows a secret or a header value: %v", err)
			}
		})
	}
}

func TestZeroVerifierRefuses(t *testing.T) {
	if err := new(vapiauth.Verifier).Verify(vapiauth.Request{}, time.Now()); !errors.Is(err, vapiauth.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if _, err := vapiauth.NewVerifier(); err == nil {
		t.Error("no plan was accepted")
	}
	if _, err := vapiauth.NewVerifier(vapiauth.Plan{Type: "oauth2"}); err == nil {
		t.Error("oauth2 was accepted")
	}
}

// Every unit that a timestamp may have, signed as it stands: the signing plan has it as a literal.
func TestTimestampUnits(t *testing.T) {
	at := time.Date(2024, 5, 6, 12, 53, 20, 0, time.UTC)
	for _, timestamp := range []string{"1715000000", "1715000000000", "1715000000123", "2024-05-06T12:53:20Z", "2024-05-06T12:53:20.123Z", "2024-05-06T14:53:20+02:00"} {
		p := vapiauth.Plan{Type: "hmac", SecretKey: "k", Algorithm: "sha256", PayloadFormat: timestamp + ".{body}"}
		r := vapiauth.Request{Body: []byte("b")}
		if err := p.Sign(&r, at); err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Timestamp", timestamp)
		v := mustVerifier(t, vapiauth.Plan{Type: "hmac", SecretKey: "k", Algorithm: "sha256"})
		if err := v.Verify(r, at); err != nil {
			t.Errorf("%s: %v", timestamp, err)
		}
		if err := v.Verify(r, at.Add(6*time.Minute)); !errors.Is(err, vapiauth.ErrUnauthorized) {
			t.Errorf("%s: accepted six minutes later", timestamp)
		}
	}
}

func TestSign(t *testing.T) {
	r := vapiauth.Request{Header: headerOf("Svix-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), Body: []byte(`{"test": 2432232314}`)}
	if err := svixPlan.Sign(&r, time.Unix(1614265330, 0)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(svixHeader("v1,"+svixSHA256), r.Header); diff != "" {
		t.Error(diff)
	}
	var first, second vapiauth.Request
	for _, r := range []*vapiauth.Request{&first, &second} {
		if err := svixPlan.Sign(r, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if first.Header.Get("Svix-Id") == second.Header.Get("Svix-Id") {
		t.Error("two messages have one id")
	}
	if err := (vapiauth.Plan{Type: "bearer"}).Sign(&first, time.Now()); err == nil {
		t.Error("an empty token was signed with")
	}
	var unsigned vapiauth.Request
	if err := (vapiauth.Plan{Type: "none"}).Sign(&unsigned, time.Now()); err != nil || unsigned.Header != nil {
		t.Errorf("none: %v, %v", err, unsigned.Header)
	}
}

func drawPlan(t *rapid.T) vapiauth.Plan {
	token := rapid.StringMatching(`[!-~]([ -~]{0,30}[!-~])?`)
	flag := func(label string) *bool {
		return rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(t, label)
	}
	switch kind := rapid.SampledFrom([]string{"secret", "bearer", "hmac", "hmac", "hmac"}).Draw(t, "type"); kind {
	case "secret":
		return vapiauth.Plan{Type: kind, Secret: token.Draw(t, "secret")}
	case "bearer":
		return vapiauth.Plan{Type: kind, Token: token.Draw(t, "token"), HeaderName: rapid.SampledFrom([]string{"", "x-api-key"}).Draw(t, "header"), BearerPrefixEnabled: flag("prefix")}
	}
	p := vapiauth.Plan{
		Type:              "hmac",
		SecretKey:         rapid.StringN(1, 40, -1).Draw(t, "key"),
		Algorithm:         rapid.SampledFrom([]string{"sha256", "sha512", "sha1"}).Draw(t, "algorithm"),
		SignatureHeader:   rapid.SampledFrom([]string{"", "x-hub-signature-256"}).Draw(t, "signature header"),
		TimestampHeader:   rapid.SampledFrom([]string{"", "svix-timestamp"}).Draw(t, "timestamp header"),
		SignaturePrefix:   rapid.SampledFrom([]string{"", "sha256=", "v1,", "HMAC "}).Draw(t, "prefix"),
		PayloadFormat:     rapid.SampledFrom([]string{"", "{body}", "{timestamp}{body}", "{svix-id}.{timestamp}.{body}", "<{method}|{url}|{body}|{timestamp}>"}).Draw(t, "format"),
		MessageIDHeader:   "svix-id",
		SignatureEncoding: rapid.SampledFrom([]string{"", "hex", "base64"}).Draw(t, "encoding"),
		SecretIsBase64:    rapid.Bool().Draw(t, "secret is base64"),
	}
	if !strings.Contains(p.PayloadFormat, "{timestamp}") {
		p.IncludeTimestamp = flag("include timestamp")
	}
	if p.SecretIsBase64 {
		p.SecretKey = rapid.SampledFrom([]string{"", "whsec_"}).Draw(t, "secret's prefix") + base64.StdEncoding.EncodeToString([]byte(p.SecretKey))
	}
	return p
}

func TestSignedRequestVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		now := time.Unix(rapid.Int64Range(1.5e9, 4e9).Draw(t, "now"), 0)
		r := vapiauth.Request{Method: "POST", URL: "https://example.com/vapi", Body: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "body")}
		if err := p.Sign(&r, now); err != nil {
			t.Fatalf("Sign: %v", err)
		}
		v := mustVerifier(t, p)
		if err := v.Verify(r, now); err != nil {
			t.Fatalf("refused: %v", err)
		}
		if err := mustVerifier(t, vapiauth.Plan{Type: "secret", Secret: "another \x20 one"}, p).Verify(r, now); err != nil {
			t.Fatalf("refused while rotated: %v", err)
		}
		mustRefuse := func(what string, r vapiauth.Request, now time.Time) {
			if err := v.Verify(r, now); !errors.Is(err, vapiauth.ErrUnauthorized) {
				t.Fatalf("%s: got %v", what, err)
			}
		}
		if p.Type == "hmac" {
			changed := r
			changed.Body = flipBit(t, r.Body)
			mustRefuse("changed body", changed, now)
		}
		timestampHeader := "X-Timestamp"
		if p.TimestampHeader != "" {
			timestampHeader = http.CanonicalHeaderKey(p.TimestampHeader)
		}
		for name, values := range r.Header {
			changed := r
			changed.Header = r.Header.Clone()
			value := string(flipBit(t, []byte(values[0])))
			// Hex and the scheme may be written in either case: that is no change.
			if strings.EqualFold(value, values[0]) {
				continue
			}
			changed.Header[name] = []string{value}
			mustRefuse("changed header "+name, changed, now)

			changed.Header[name] = []string{values[0], values[0]}
			mustRefuse("repeated header "+name, changed, now)
			if name == timestampHeader {
				mustRefuse("late", r, now.Add(5*time.Minute+time.Second))
				mustRefuse("early", r, now.Add(-5*time.Minute-time.Second))
			}
		}
	})
}

func flipBit(t *rapid.T, b []byte) []byte {
	flipped := bytes.Clone(b)
	i := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
	flipped[i/8] ^= 1 << (i % 8)
	return flipped
}

func TestVerifierIsSafeForConcurrentUse(t *testing.T) {
	v := mustVerifier(t, plainPlan, bearerPlan)
	now := time.Unix(vectorTime, 0)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				r := vapiauth.Request{Header: headerOf("X-Signature", vectorSHA256, "X-Timestamp", strconv.Itoa(vectorTime)), Body: []byte(vectorBody)}
				if err := v.Verify(r, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// A large body is hashed where it lies.
func TestVerifyDoesNotCopyTheBody(t *testing.T) {
	now := time.Unix(vectorTime, 0)
	r := vapiauth.Request{Body: make([]byte, 6<<20)}
	if err := plainPlan.Sign(&r, now); err != nil {
		t.Fatal(err)
	}
	v := mustVerifier(t, plainPlan)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := v.Verify(r, now)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<10 {
		t.Errorf("%d bytes were allocated for one request", allocated)
	}
}

func FuzzParsePlans(f *testing.F) {
	for _, seed := range []string{
		`{"type":"none"}`, `{"type":"secret","secret":"s"}`, `[{"type":"bearer","token":"t"},{"type":"secret","secret":"s"}]`,
		`{"type":"hmac","secretKey":"whsec_a2V5","algorithm":"sha1","payloadFormat":"{svix-id}{body}","messageIdHeader":"a","secretIsBase64":true}`,
		`{"type":"oauth2"}`, `[`, `[null,null]`, `{"type":"hmac","secretKey":"k","algorithm":"sha256","payloadFormat":"{body}{"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plans, err := vapiauth.ParsePlans(data)
		if err != nil {
			return
		}
		v := mustVerifier(t, plans...)
		for _, p := range plans {
			r := vapiauth.Request{Method: "POST", URL: "u", Body: []byte("{}")}
			now := time.Unix(vectorTime, 0)
			if err := p.Sign(&r, now); err != nil {
				t.Fatalf("accepted and not fit for signing: %v", err)
			}
			if err := v.Verify(r, now); err != nil {
				t.Fatalf("%v", err)
			}
			if !v.Off() {
				if err := v.Verify(vapiauth.Request{Body: r.Body}, now); err == nil {
					t.Fatal("a request without headers was let in")
				}
			}
		}
	})
}

// FuzzVerify knows no secret, so it must never get in.
func FuzzVerify(f *testing.F) {
	f.Add("Authorization", "Bearer ", "X-Timestamp", "1715000000", []byte("{}"))
	f.Add("x-signature", vectorSHA256, "x-timestamp", "1715000000", []byte(vectorBody+"x"))
	f.Add("svix-signature", "v1,"+svixSHA256+" v1,", "svix-timestamp", "2024-05-06T12:53:20Z", []byte(`{}`))
	key := strings.Repeat("never guessed ", 3) + "k"
	var verifiers []*vapiauth.Verifier
	for _, p := range []vapiauth.Plan{
		{Type: "secret", Secret: key}, {Type: "bearer", Token: key}, {Type: "hmac", SecretKey: key, Algorithm: "sha256"},
		{Type: "hmac", SecretKey: key, Algorithm: "sha512", SignatureEncoding: "base64", SignatureHeader: "svix-signature", TimestampHeader: "svix-timestamp",
			SignaturePrefix: "v1,", MessageIDHeader: "svix-id", PayloadFormat: "{svix-id}.{timestamp}.{body}"},
	} {
		verifiers = append(verifiers, mustVerifier(f, p, vapiauth.Plan{Type: "bearer", Token: key, HeaderName: "x-key", BearerPrefixEnabled: new(false)}))
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, body []byte) {
		r := vapiauth.Request{Header: headerOf(name1, value1, name2, value2, "svix-id", "m"), Body: body}
		for _, v := range verifiers {
			if err := v.Verify(r, time.Unix(vectorTime, 0)); !errors.Is(err, vapiauth.ErrUnauthorized) {
				t.Fatalf("got %v", err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	now := time.Unix(vectorTime, 0)
	for _, size := range []int{20 << 10, 6 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			r := vapiauth.Request{Body: make([]byte, size)}
			if err := plainPlan.Sign(&r, now); err != nil {
				b.Fatal(err)
			}
			v := mustVerifier(b, plainPlan)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Verify(r, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
