package vapiauth_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
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
	for name, row := range map[string]struct {
		json string
		want []vapiauth.Plan
	}{
		"secret": {`{"type":"secret","secret":"s"}`, []vapiauth.Plan{{Type: "secret", Secret: "s"}}},
		"bearer": {`{"type":"bearer","token":"t"}`, []vapiauth.Plan{{Type: "bearer", Token: "t"}}},
		"bearer, all members": {
			`{"type":"bearer","token":"t","headerName":"X-Key","bearerPrefixEnabled":false}`,
			[]vapiauth.Plan{{Type: "bearer", Token: "t", HeaderName: "X-Key", BearerPrefixEnabled: new(false)}},
		},
		// Vapi sends such a token as it is.
		"token with a scheme of its own": {
			`{"type":"bearer","token":"Bearer t","bearerPrefixEnabled":false}`,
			[]vapiauth.Plan{{Type: "bearer", Token: "Bearer t", BearerPrefixEnabled: new(false)}},
		},
		"token like the scheme": {`{"type":"bearer","token":"Bearer"}`, []vapiauth.Plan{{Type: "bearer", Token: "Bearer"}}},
		"hmac":                  {`{"type":"hmac","secretKey":"k","algorithm":"sha256"}`, []vapiauth.Plan{hmacPlan}},
		"hmac, all members": {
			`{"type":"hmac","secretKey":"whsec_a2V5","algorithm":"sha512","signatureHeader":"svix-signature",
			"timestampHeader":"svix-timestamp","signaturePrefix":"v1,","includeTimestamp":true,
			"payloadFormat":"{svix-id}.{timestamp}.{body}","messageIdHeader":"svix-id",
			"signatureEncoding":"base64","secretIsBase64":true}`,
			[]vapiauth.Plan{{
				Type: "hmac", SecretKey: "whsec_a2V5", Algorithm: "sha512", SignatureHeader: "svix-signature",
				TimestampHeader: "svix-timestamp", SignaturePrefix: "v1,", IncludeTimestamp: new(true),
				PayloadFormat: "{svix-id}.{timestamp}.{body}", MessageIDHeader: "svix-id",
				SignatureEncoding: "base64", SecretIsBase64: true,
			}},
		},
		"null counts as absent": {
			`{"type":"hmac","secretKey":"k","algorithm":"sha256","payloadFormat":null,"includeTimestamp":null}`,
			[]vapiauth.Plan{hmacPlan},
		},
		"line ends of Windows": {
			"{\r\n  \"type\": \"bearer\",\r\n  \"token\": \"t\"\r\n}\r\n", []vapiauth.Plan{{Type: "bearer", Token: "t"}},
		},
		"array of one": {` [{"type":"none"}] `, []vapiauth.Plan{{Type: "none"}}},
		"rotation": {
			`[{"type":"bearer","token":"new"},{"type":"secret","secret":"old"}]`,
			[]vapiauth.Plan{{Type: "bearer", Token: "new"}, {Type: "secret", Secret: "old"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := vapiauth.ParsePlans([]byte(row.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParsePlansErrors(t *testing.T) {
	const secret = "hush"
	hmac := func(members string) string { return `{"type":"hmac","algorithm":"sha256",` + members + `}` }
	keyed := func(members string) string { return hmac(`"secretKey":"hush",` + members) }
	for name, row := range map[string]struct{ json, want string }{
		"nothing":               {``, "not JSON"},
		"bare secret":           {secret, "not JSON"},
		"bare JSON string":      {`"hush"`, "is a JSON string"},
		"trailing garbage":      {`{"type":"secret","secret":"hush"} hush`, "not JSON"},
		"null":                  {`null`, "type is missing"},
		"empty array":           {`[]`, "0 plans"},
		"three plans":           {`[{"type":"none"},{"type":"none"},{"type":"none"}]`, "3 plans"},
		"nested array":          {`[[{"type":"none"}]]`, "is a JSON array"},
		"too long":              {strings.Repeat(" ", 64<<10) + `{"type":"none"}`, "more than"},
		"byte order mark":       {"\ufeff" + `{"type":"bearer","token":"hush"}`, "not JSON"},
		"JSON within JSON":      {`{"WEBHOOK_AUTH":"{\"type\":\"bearer\",\"token\":\"hush\"}"}`, "unknown field"},
		"no type":               {`{"secret":"hush"}`, "type is missing"},
		"unknown type":          {`{"type":"hush"}`, "type must be"},
		"type is an array":      {`{"type":["hush"]}`, "member type: got a JSON array, want a string"},
		"misspelt member":       {keyed(`"includeTimestmap":true`), `unknown field "includeTimestmap"`},
		"member is a string":    {`{"type":"bearer","bearerPrefixEnabled":"hush"}`, "got a JSON string, want a bool"},
		"oauth2":                {`{"type":"oauth2","clientId":"hush","clientSecret":"hush"}`, "JWT authorizer"},
		"none beside another":   {`[{"type":"none"},{"type":"secret","secret":"hush"}]`, "accepts every webhook"},
		"none with members":     {`{"type":"none","secret":"hush"}`, "no further members"},
		"secret with members":   {`{"type":"secret","secret":"hush","headerName":"X-A"}`, "and no other"},
		"bearer with members":   {`{"type":"bearer","token":"hush","secret":"hush"}`, "and no other"},
		"hmac with members":     {keyed(`"token":"hush"`), "none of the members"},
		"empty secret":          {`{"type":"secret","secret":""}`, "secret is empty"},
		"empty token":           {`{"type":"bearer"}`, "token is empty"},
		"token, line break":     {`{"type":"bearer","token":"hush\n"}`, "line break"},
		"token, space after":    {`{"type":"bearer","token":"hush "}`, "space at an end"},
		"token with its scheme": {`{"type":"bearer","token":"Bearer hush"}`, `begins with "Bearer ": store what follows it`},
		"scheme in lower case":  {`{"type":"bearer","token":"bearer hush"}`, `begins with "Bearer "`},
		"scheme, other header": {
			`{"type":"bearer","token":"Bearer hush","headerName":"X-Key"}`, `begins with "Bearer "`},
		"scheme, in a rotation": {
			`[{"type":"none"},{"type":"bearer","token":"Bearer hush"}]`, `begins with "Bearer "`},
		"bad header name":       {`{"type":"bearer","token":"hush","headerName":"X Key"}`, "not a valid header name"},
		"empty key":             {`{"type":"hmac","algorithm":"sha256"}`, "secretKey is empty"},
		"empty decoded key":     {hmac(`"secretKey":"whsec_","secretIsBase64":true`), "secretKey is empty"},
		"key not base64":        {hmac(`"secretKey":"hush!","secretIsBase64":true`), "not base64"},
		"key, URL-safe base64":  {hmac(`"secretKey":"_-_-","secretIsBase64":true`), "not base64"},
		"key with a line break": {hmac(`"secretKey":"aHVz\naA==","secretIsBase64":true`), "not base64"},
		"no algorithm":          {`{"type":"hmac","secretKey":"hush"}`, "algorithm must be"},
		"unknown algorithm":     {`{"type":"hmac","secretKey":"hush","algorithm":"md5"}`, "algorithm must be"},
		"unknown encoding":      {keyed(`"signatureEncoding":"base32"`), "signatureEncoding must be"},
		"bad prefix":            {keyed(`"signaturePrefix":"v1\n"`), "signaturePrefix has"},
		"bad signature header":  {keyed(`"signatureHeader":"x:y"`), "not a valid header name"},
		"one header for two":    {keyed(`"timestampHeader":"X-Signature"`), "different headers"},
		"unknown placeholder":   {keyed(`"payloadFormat":"{time}.{body}"`), `unknown placeholder "{time}"`},
		"placeholder's case":    {keyed(`"payloadFormat":"{Body}"`), `unknown placeholder "{Body}"`},
		"open brace":            {keyed(`"payloadFormat":"{body}.{"`), "without its }"},
		"placeholder twice":     {keyed(`"payloadFormat":"{body}{body}"`), "{body} twice"},
		"format without body":   {keyed(`"payloadFormat":"{timestamp}"`), "no {body}"},
		"message id, no header": {keyed(`"payloadFormat":"{svix-id}{body}"`), "set messageIdHeader"},
		"excluded timestamp": {
			keyed(`"payloadFormat":"{timestamp}{body}","includeTimestamp":false`), "includeTimestamp is false"},
		"claimed timestamp": {
			keyed(`"payloadFormat":"{body}","includeTimestamp":true`), "claims a timestamp that payloadFormat does not sign"},
		"claimed timestamp, Svix": {
			keyed(`"payloadFormat":"{svix-id}.{body}","messageIdHeader":"svix-id","includeTimestamp":true`),
			"claims a timestamp"},
		"claimed timestamp's header": {
			keyed(`"payloadFormat":"{body}","timestampHeader":"x-timestamp"`), "claims a timestamp"},
		"claimed timestamp, in a rotation": {
			`[{"type":"secret","secret":"hush"},` + keyed(`"payloadFormat":"{body}","includeTimestamp":true`) + `]`,
			"claims a timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			plans, err := vapiauth.ParsePlans([]byte(row.json))
			if err == nil {
				t.Fatalf("accepted as %v", plans)
			}
			if !strings.HasPrefix(err.Error(), "webhook credential: ") || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q, want %q", err, row.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error shows a secret: %q", err)
			}
		})
	}
}

func TestPlanPrintsNoSecret(t *testing.T) {
	p := vapiauth.Plan{Type: "bearer", Token: "hush"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "plan", p)
	for _, text := range []string{
		log.String(), fmt.Sprint(p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", []vapiauth.Plan{p}),
	} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "bearer") {
			t.Errorf("printed as %s", text)
		}
	}
}

// The signatures were made with openssl dgst -hmac and Python's hmac. GitHub's and Svix's vectors
// are those of their documentation ("Validating webhook deliveries", "Verifying webhooks
// manually").
const (
	vectorTime   = 1715000000
	vectorBody   = `{"a":1}`
	vectorSHA256 = "d7d7411e9db0aa4f08b46fd296e7c0bda98ff6a5bad857d984dd139250599229"
	vectorSHA512 = "79551a62e3422ab48c33be2c97a9e8dccb3a402ff6a22e1d33ac9a4cdb9e6670" +
		"1337f331d634346f87c8bc5e84a18308a4dccfce447a94dcb118b6b36f1193df"
	vectorSHA1   = "6dc1fc2a4a799011d5f4ad6dfdbf8bf24a4227c4"
	githubSHA256 = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	svixTime     = 1614265330
	svixBody     = `{"test": 2432232314}`
	svixSHA256   = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	methodSHA512 = "CnMYG3PbT1Wu1QP5/AZznU2AU2ylwIkmzZNB7ZmaLen/MRkG4d6YOssve+5oJApd+OkQgOQNUVUMHYMjSNNOSg=="
)

var (
	bearerPlan = vapiauth.Plan{Type: "bearer", Token: "hush hush"}
	plainPlan  = vapiauth.Plan{Type: "hmac", SecretKey: "topsecret", Algorithm: "sha256"}
	githubPlan = vapiauth.Plan{
		Type: "hmac", SecretKey: "It's a Secret to Everybody", Algorithm: "sha256",
		SignatureHeader: "x-hub-signature-256", SignaturePrefix: "sha256=", IncludeTimestamp: new(false),
	}
	svixPlan = vapiauth.Plan{
		Type: "hmac", SecretKey: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Algorithm: "sha256",
		SignatureHeader: "svix-signature", TimestampHeader: "svix-timestamp", MessageIDHeader: "svix-id",
		SignaturePrefix: "v1,", PayloadFormat: "{svix-id}.{timestamp}.{body}",
		SignatureEncoding: "base64", SecretIsBase64: true,
	}
)

func svixHeader(signature string) http.Header {
	return headerOf("Svix-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "Svix-Timestamp", "1614265330",
		"Svix-Signature", signature)
}

// checkVerify verifies a webhook with the plans. An empty want means that it must be accepted.
func checkVerify(t *testing.T, header http.Header, body string, now time.Time, want string, plans ...vapiauth.Plan) {
	t.Helper()
	v := mustVerifier(t, plans...)
	if off := plans[0].Type == "none"; v.Off() != off {
		t.Errorf("Off() = %v", !off)
	}
	r := vapiauth.Request{Method: "POST", URL: "https://example.com/vapi", Header: header, Body: []byte(body)}
	err := v.Verify(r, now)
	if want == "" {
		if err != nil {
			t.Fatalf("rejected: %v", err)
		}
		return
	}
	if !errors.Is(err, vapiauth.ErrUnauthorized) || !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want %q", err, want)
	}
	if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("error shows a secret or a header value: %v", err)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(vectorTime, 0)
	with := func(p vapiauth.Plan, change func(*vapiauth.Plan)) vapiauth.Plan { change(&p); return p }
	bare := with(bearerPlan, func(p *vapiauth.Plan) { p.BearerPrefixEnabled = new(false); p.HeaderName = "X-Api-Key" })
	legacy := vapiauth.Plan{Type: "secret", Secret: "hush"}
	for name, row := range map[string]struct {
		plan   vapiauth.Plan
		header []string
		want   string
	}{
		"secret":                {legacy, []string{"X-Vapi-Secret", "hush"}, ""},
		"secret, lower case":    {legacy, []string{"x-vapi-secret", "hush"}, ""},
		"secret missing":        {legacy, nil, "X-Vapi-Secret is missing"},
		"secret empty":          {legacy, []string{"X-Vapi-Secret", ""}, "expected value"},
		"secret cut":            {legacy, []string{"X-Vapi-Secret", "hus"}, "expected value"},
		"secret and more":       {legacy, []string{"X-Vapi-Secret", "hush!"}, "expected value"},
		"secret in other case":  {legacy, []string{"X-Vapi-Secret", "Hush"}, "expected value"},
		"secret twice":          {legacy, []string{"X-Vapi-Secret", "hush", "X-Vapi-Secret", "hush"}, "more than once"},
		"secret in two cases":   {legacy, []string{"X-Vapi-Secret", "hush", "x-vapi-secret", "other"}, "more than once"},
		"secret joined":         {legacy, []string{"X-Vapi-Secret", "hush,hush"}, "expected value"},
		"secret elsewhere":      {legacy, []string{"X-Vapi-Signature", "hush"}, "X-Vapi-Secret is missing"},
		"bearer":                {bearerPlan, []string{"Authorization", "Bearer hush hush"}, ""},
		"bearer, other case":    {bearerPlan, []string{"AUTHORIZATION", "bEARER hush hush"}, ""},
		"bearer, no scheme":     {bearerPlan, []string{"Authorization", "hush hush"}, "does not begin"},
		"bearer, other scheme":  {bearerPlan, []string{"Authorization", "Basic hush hush"}, "does not begin"},
		"bearer, no token":      {bearerPlan, []string{"Authorization", "Bearer "}, "expected value"},
		"bearer, joined":        {bearerPlan, []string{"Authorization", "Bearer hush hush, Bearer hush"}, "expected value"},
		"bare token":            {bare, []string{"X-Api-Key", "hush hush"}, ""},
		"bare token and scheme": {bare, []string{"X-Api-Key", "Bearer hush hush"}, "expected value"},
		"none":                  {vapiauth.Plan{Type: "none"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) { checkVerify(t, headerOf(row.header...), "x", now, row.want, row.plan) })
	}

	sha512 := with(plainPlan, func(p *vapiauth.Plan) { p.Algorithm = "sha512" })
	sha1 := with(plainPlan, func(p *vapiauth.Plan) { p.Algorithm = "sha1" })
	otherKey := with(plainPlan, func(p *vapiauth.Plan) { p.SecretKey = "Topsecret" })
	spaced := with(plainPlan, func(p *vapiauth.Plan) { p.SignaturePrefix = "HMAC " })
	const at, window = "1715000000", 5 * time.Minute
	for name, row := range map[string]struct {
		plan                 vapiauth.Plan
		signature, timestamp string
		now                  time.Time
		want                 string
	}{
		"sha256":               {plainPlan, vectorSHA256, at, now, ""},
		"sha256, upper case":   {plainPlan, strings.ToUpper(vectorSHA256), at, now, ""},
		"sha512":               {sha512, vectorSHA512, at, now, ""},
		"sha1":                 {sha1, vectorSHA1, at, now, ""},
		"another algorithm":    {plainPlan, vectorSHA1, at, now, "no signature"},
		"another timestamp":    {plainPlan, vectorSHA256, "1715000001", now, "does not match"},
		"another key":          {otherKey, vectorSHA256, at, now, "does not match"},
		"empty signature":      {plainPlan, "", at, now, "no signature"},
		"cut signature":        {plainPlan, vectorSHA256[:62], at, now, "no signature"},
		"not hexadecimal":      {plainPlan, "z" + vectorSHA256[1:], at, now, "no signature"},
		"signature joined":     {plainPlan, vectorSHA256 + "," + vectorSHA256, at, now, "no signature"},
		"unreadable timestamp": {plainPlan, vectorSHA256, "hush", now, "no timestamp"},
		"negative timestamp":   {plainPlan, vectorSHA256, "-1715000000", now, "no timestamp"},
		"huge timestamp":       {plainPlan, vectorSHA256, "9223372036854775807", now, "differs from the clock"},
		"timestamp joined":     {plainPlan, vectorSHA256, "1715000000,1715000000", now, "no timestamp"},
		"five minutes old":     {plainPlan, vectorSHA256, at, now.Add(window), ""},
		"older":                {plainPlan, vectorSHA256, at, now.Add(window + 1), "differs from the clock"},
		"five minutes ahead":   {plainPlan, vectorSHA256, at, now.Add(-window), ""},
		"further ahead":        {plainPlan, vectorSHA256, at, now.Add(-window - 1), "differs from the clock"},
		"prefix with a space":  {spaced, "HMAC " + vectorSHA256, at, now, ""},
		"prefix missing":       {spaced, vectorSHA256, at, now, "no signature"},
	} {
		t.Run(name, func(t *testing.T) {
			header := headerOf("X-Signature", row.signature, "X-Timestamp", row.timestamp)
			checkVerify(t, header, vectorBody, row.now, row.want, row.plan)
		})
	}

	explicit := with(githubPlan, func(p *vapiauth.Plan) { p.IncludeTimestamp, p.PayloadFormat = nil, "{body}" })
	method := vapiauth.Plan{Type: "hmac", SecretKey: "topsecret", Algorithm: "sha512",
		PayloadFormat: "{method} {url}\n{body}", SignatureEncoding: "base64"}
	plain, rotation := []vapiauth.Plan{plainPlan}, []vapiauth.Plan{legacy, plainPlan}
	signature, timestamp := []string{"X-Signature", vectorSHA256}, []string{"X-Timestamp", at}
	signed := slices.Concat(signature, timestamp)
	const hub, neither = "X-Hub-Signature-256", "X-Vapi-Secret is missing; header x-signature holds no signature"
	for name, row := range map[string]struct {
		plans  []vapiauth.Plan
		header []string
		body   string
		want   string
	}{
		"another body":       {plain, signed, vectorBody + " ", "does not match"},
		"no signature":       {plain, timestamp, vectorBody, "x-signature is missing"},
		"signature twice":    {plain, slices.Concat(signature, signed), vectorBody, "more than once"},
		"no timestamp":       {plain, signature, vectorBody, "x-timestamp is missing"},
		"github":             {[]vapiauth.Plan{githubPlan}, []string{hub, "sha256=" + githubSHA256}, "Hello, World!", ""},
		"github, no prefix":  {[]vapiauth.Plan{githubPlan}, []string{hub, githubSHA256}, "Hello, World!", "no signature"},
		"github, own format": {[]vapiauth.Plan{explicit}, []string{hub, "sha256=" + githubSHA256}, "Hello, World!", ""},
		"method and URL":     {[]vapiauth.Plan{method}, []string{"X-Signature", methodSHA512}, vectorBody, ""},
		"rotation, first":    {rotation, []string{"X-Vapi-Secret", "hush"}, vectorBody, ""},
		"rotation, second":   {rotation, signed, vectorBody, ""},
		"rotation, neither":  {rotation, []string{"X-Signature", vectorSHA512}, vectorBody, neither},
	} {
		t.Run(name, func(t *testing.T) {
			checkVerify(t, headerOf(row.header...), row.body, now, row.want, row.plans...)
		})
	}

	unprefixed := with(svixPlan, func(p *vapiauth.Plan) { p.SecretKey = strings.TrimPrefix(p.SecretKey, "whsec_") })
	const v1 = "v1," + svixSHA256
	lower, urlSafe := strings.ToLower(v1), strings.NewReplacer("+", "-", "/", "_").Replace(v1)
	idless := headerOf("Svix-Timestamp", "1614265330", "Svix-Signature", v1)
	withID := func(id string) http.Header { h := idless.Clone(); h.Set("Svix-Id", id); return h }
	for name, row := range map[string]struct {
		plan   vapiauth.Plan
		header http.Header
		want   string
	}{
		"svix":                   {svixPlan, svixHeader(v1), ""},
		"svix, no whsec_":        {unprefixed, svixHeader(v1), ""},
		"svix, unpadded":         {svixPlan, svixHeader(strings.TrimSuffix(v1, "=")), ""},
		"svix, last of several":  {svixPlan, svixHeader("v1,bm9ldHUjaGFja2VkIQ== v2,x " + v1), ""},
		"svix, first of several": {svixPlan, svixHeader(v1 + " " + lower), ""},
		"svix, none of several":  {svixPlan, svixHeader(lower + " v2," + svixSHA256), "does not match"},
		"svix, too many":         {svixPlan, svixHeader(strings.Repeat("v1,x ", 16) + v1), "no signature"},
		"svix, URL-safe base64":  {svixPlan, svixHeader(urlSafe), "no signature"},
		"svix, overpadded":       {svixPlan, svixHeader(v1 + "="), "no signature"},
		"svix, no id":            {svixPlan, idless, "svix-id is missing"},
		"svix, empty id":         {svixPlan, withID(""), "svix-id is empty"},
		"svix, another id":       {svixPlan, withID("msg_x"), "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			checkVerify(t, row.header, svixBody, time.Unix(svixTime, 0), row.want, row.plan)
		})
	}
}

func TestCheckLength(t *testing.T) {
	const long = "24-characters-of-a-token"
	for name, row := range map[string]struct {
		plan   string
		member string // that is too short; empty means none
	}{
		"bearer":              {`{"type":"bearer","token":"` + long + `"}`, ""},
		"short bearer":        {`{"type":"bearer","token":"` + long[1:] + `"}`, "token"},
		"secret":              {`{"type":"secret","secret":"` + long + `"}`, ""},
		"short secret":        {`{"type":"secret","secret":"` + long[1:] + `"}`, "secret"},
		"hmac":                {`{"type":"hmac","algorithm":"sha256","secretKey":"` + long + `"}`, ""},
		"short hmac":          {`{"type":"hmac","algorithm":"sha256","secretKey":"` + long[1:] + `"}`, "secretKey"},
		"hmac of a plain key": {`{"type":"hmac","algorithm":"sha256","secretKey":"whsec_` + long[6:] + `"}`, ""},
		"svix": {`{"type":"hmac","algorithm":"sha256","secretIsBase64":true,` +
			`"secretKey":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`, ""},
		"short svix": {`{"type":"hmac","algorithm":"sha256","secretIsBase64":true,` +
			`"secretKey":"whsec_MfKQ9r8GKYqrTwjUPD8I"}`, "secretKey"},
		"none": {`{"type":"none"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plans, err := vapiauth.ParsePlans([]byte(row.plan))
			if err != nil {
				t.Fatal(err)
			}
			err = plans[0].CheckLength()
			if (err != nil) != (row.member != "") || err != nil && !strings.Contains(err.Error(), ": "+row.member+" has") {
				t.Errorf("%v, want an error about %q", err, row.member)
			}
			if err != nil && strings.Contains(err.Error(), long[2:8]) {
				t.Errorf("the error quotes the secret: %v", err)
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

// The signing plan has the timestamp as a literal, so that each unit is signed as it is sent.
func TestTimestampUnits(t *testing.T) {
	at := time.Date(2024, 5, 6, 12, 53, 20, 0, time.UTC)
	for _, timestamp := range []string{
		"1715000000", "1715000000000", "1715000000123",
		"2024-05-06T12:53:20Z", "2024-05-06T12:53:20.123Z", "2024-05-06T14:53:20+02:00",
	} {
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
	r := vapiauth.Request{Header: headerOf("Svix-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), Body: []byte(svixBody)}
	if err := svixPlan.Sign(&r, time.Unix(svixTime, 0)); err != nil {
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
		t.Error("two messages have the same ID")
	}
	if err := (vapiauth.Plan{Type: "bearer"}).Sign(&first, time.Now()); err == nil {
		t.Error("an empty token was accepted")
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
	oneOf := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	switch kind := oneOf("type", "secret", "bearer", "hmac", "hmac", "hmac"); kind {
	case "secret":
		return vapiauth.Plan{Type: kind, Secret: token.Draw(t, "secret")}
	case "bearer":
		return vapiauth.Plan{
			Type: kind, Token: token.Draw(t, "token"),
			HeaderName: oneOf("header", "", "x-api-key"), BearerPrefixEnabled: flag("prefix"),
		}
	}
	p := vapiauth.Plan{
		Type:            "hmac",
		SecretKey:       rapid.StringN(1, 40, -1).Draw(t, "key"),
		Algorithm:       oneOf("algorithm", "sha256", "sha512", "sha1"),
		SignatureHeader: oneOf("signature header", "", "x-hub-signature-256"),
		TimestampHeader: oneOf("timestamp header", "", "svix-timestamp"),
		SignaturePrefix: oneOf("prefix", "", "sha256=", "v1,", "HMAC "),
		PayloadFormat: oneOf("format", "", "{body}", "{timestamp}{body}", "{svix-id}.{timestamp}.{body}",
			"<{method}|{url}|{body}|{timestamp}>"),
		MessageIDHeader:   "svix-id",
		SignatureEncoding: oneOf("encoding", "", "hex", "base64"),
		SecretIsBase64:    rapid.Bool().Draw(t, "secret is base64"),
	}
	switch {
	case p.PayloadFormat == "":
		p.IncludeTimestamp = flag("include timestamp")
	case strings.Contains(p.PayloadFormat, "{timestamp}"):
		p.IncludeTimestamp = rapid.SampledFrom([]*bool{nil, new(true)}).Draw(t, "include timestamp")
	case p.TimestampHeader != "":
		p.IncludeTimestamp = new(false)
	default:
		p.IncludeTimestamp = rapid.SampledFrom([]*bool{nil, new(false)}).Draw(t, "include timestamp")
	}
	if p.SecretIsBase64 {
		p.SecretKey = oneOf("secret's prefix", "", "whsec_") + base64.StdEncoding.EncodeToString([]byte(p.SecretKey))
	}
	return p
}

func TestSignedRequestVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		now := time.Unix(rapid.Int64Range(1.5e9, 4e9).Draw(t, "now"), 0)
		body := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "body")
		r := vapiauth.Request{Method: "POST", URL: "https://example.com/vapi", Body: body}
		if err := p.Sign(&r, now); err != nil {
			t.Fatalf("Sign: %v", err)
		}
		v := mustVerifier(t, p)
		if err := v.Verify(r, now); err != nil {
			t.Fatalf("rejected: %v", err)
		}
		rotating := mustVerifier(t, vapiauth.Plan{Type: "secret", Secret: "another \x20 one"}, p)
		if err := rotating.Verify(r, now); err != nil {
			t.Fatalf("rejected during a rotation: %v", err)
		}
		mustReject := func(what string, r vapiauth.Request, now time.Time) {
			if err := v.Verify(r, now); !errors.Is(err, vapiauth.ErrUnauthorized) {
				t.Fatalf("%s: got %v", what, err)
			}
		}
		if p.Type == "hmac" {
			changed := r
			changed.Body = flipBit(t, r.Body)
			mustReject("changed body", changed, now)
		}
		timestampHeader := "X-Timestamp"
		if p.TimestampHeader != "" {
			timestampHeader = http.CanonicalHeaderKey(p.TimestampHeader)
		}
		for name, values := range r.Header {
			changed := r
			changed.Header = r.Header.Clone()
			value := string(flipBit(t, []byte(values[0])))
			// Hex and the scheme match in either case, so another case is no change.
			if strings.EqualFold(value, values[0]) {
				continue
			}
			changed.Header[name] = []string{value}
			mustReject("changed header "+name, changed, now)

			changed.Header[name] = []string{values[0], values[0]}
			mustReject("repeated header "+name, changed, now)
			if name == timestampHeader {
				mustReject("late", r, now.Add(5*time.Minute+time.Second))
				mustReject("early", r, now.Add(-5*time.Minute-time.Second))
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
				header := headerOf("X-Signature", vectorSHA256, "X-Timestamp", strconv.Itoa(vectorTime))
				if err := v.Verify(vapiauth.Request{Header: header, Body: []byte(vectorBody)}, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// TestCheckHeader checks which webhooks are refused without their body.
func TestCheckHeader(t *testing.T) {
	now := time.Unix(vectorTime, 0)
	base64Plan := plainPlan
	base64Plan.SignatureEncoding = "base64"
	const at = "1715000000"
	wrong, wrongBase64 := strings.Repeat("0", 64), strings.Repeat("A", 43)+"="
	for name, row := range map[string]struct {
		plan   vapiauth.Plan
		header []string
		want   string // empty means that the body is needed
	}{
		"nothing":           {plainPlan, nil, "x-signature is missing"},
		"no timestamp":      {plainPlan, []string{"X-Signature", wrong}, "x-timestamp is missing"},
		"an old timestamp":  {plainPlan, []string{"X-Signature", wrong, "X-Timestamp", "1714000000"}, "differs"},
		"a short signature": {plainPlan, []string{"X-Signature", wrong[1:], "X-Timestamp", at}, "no signature"},
		"not hexadecimal":   {plainPlan, []string{"X-Signature", "g" + wrong[1:], "X-Timestamp", at}, "no signature"},
		"not base64": {
			base64Plan, []string{"X-Signature", "!" + wrongBase64[1:], "X-Timestamp", at}, "no signature",
		},
		"of another length": {
			base64Plan, []string{"X-Signature", wrongBase64 + "AAAA", "X-Timestamp", at}, "no signature",
		},
		"a wrong signature":        {plainPlan, []string{"X-Signature", wrong, "X-Timestamp", at}, ""},
		"a wrong base64 signature": {base64Plan, []string{"X-Signature", wrongBase64, "X-Timestamp", at}, ""},
		"a wrong token":            {bearerPlan, []string{"Authorization", "Bearer hush"}, "expected value"},
		"the token":                {bearerPlan, []string{"Authorization", "Bearer hush hush"}, ""},
		"verification is off":      {vapiauth.Plan{Type: "none"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := vapiauth.Request{Method: http.MethodPost, Header: headerOf(row.header...)}
			err := mustVerifier(t, row.plan).CheckHeader(r, now)
			if row.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, vapiauth.ErrUnauthorized) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
	// In a rotation, the other credential may need the body.
	rotating := mustVerifier(t, bearerPlan, plainPlan)
	r := vapiauth.Request{Header: headerOf("X-Signature", wrong, "X-Timestamp", at)}
	if err := rotating.CheckHeader(r, now); err != nil {
		t.Errorf("refused in a rotation: %v", err)
	}
	if err := new(vapiauth.Verifier).CheckHeader(r, now); !errors.Is(err, vapiauth.ErrUnauthorized) {
		t.Errorf("the zero Verifier: %v", err)
	}
}

// A large body must be hashed in place.
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
		`{"type":"none"}`, `{"type":"secret","secret":"s"}`,
		`[{"type":"bearer","token":"t"},{"type":"secret","secret":"s"}]`,
		`{"type":"hmac","secretKey":"whsec_a2V5","algorithm":"sha1","payloadFormat":"{svix-id}{body}",
			"messageIdHeader":"a","secretIsBase64":true}`,
		`{"type":"oauth2"}`, `[`, `[null,null]`,
		`{"type":"hmac","secretKey":"k","algorithm":"sha256","payloadFormat":"{body}{"}`,
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
				t.Fatalf("Sign: %v", err)
			}
			if err := v.Verify(r, now); err != nil {
				t.Fatal(err)
			}
			if !v.Off() && v.Verify(vapiauth.Request{Body: r.Body}, now) == nil {
				t.Fatal("a request without headers was accepted")
			}
		}
	})
}

// FuzzVerify knows no secret, so every webhook must be rejected.
func FuzzVerify(f *testing.F) {
	f.Add("Authorization", "Bearer ", "X-Timestamp", "1715000000", []byte("{}"))
	f.Add("x-signature", vectorSHA256, "x-timestamp", "1715000000", []byte(vectorBody+"x"))
	f.Add("svix-signature", "v1,"+svixSHA256+" v1,", "svix-timestamp", "2024-05-06T12:53:20Z", []byte(`{}`))
	key := strings.Repeat("never guessed ", 3) + "k"
	var verifiers []*vapiauth.Verifier
	for _, p := range []vapiauth.Plan{
		{Type: "secret", Secret: key}, {Type: "bearer", Token: key}, {Type: "hmac", SecretKey: key, Algorithm: "sha256"},
		{
			Type: "hmac", SecretKey: key, Algorithm: "sha512", SignatureEncoding: "base64",
			SignatureHeader: "svix-signature", TimestampHeader: "svix-timestamp", SignaturePrefix: "v1,",
			MessageIDHeader: "svix-id", PayloadFormat: "{svix-id}.{timestamp}.{body}",
		},
	} {
		bare := vapiauth.Plan{Type: "bearer", Token: key, HeaderName: "x-key", BearerPrefixEnabled: new(false)}
		verifiers = append(verifiers, mustVerifier(f, p, bare))
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
