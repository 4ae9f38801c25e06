package asynctool_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
)

type verifier interface{ Verify(asynctool.Post) error }

// headers returns headers of names and values by turns.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

const (
	// The example of GitHub's documentation, "Validating webhook deliveries".
	gitHubSecret    = "It's a Secret to Everybody"
	gitHubBody      = "Hello, World!"
	gitHubSignature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

	// The example of Slack's documentation, "Verifying requests from Slack".
	slackSecret = "8f742231b10e8888abcd99yyyzzz85a5"
	slackTime   = "1531420618"
	slackBody   = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&" +
		"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=" +
		"https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&" +
		"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	slackSignature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"

	// The example of Svix's documentation, "Verifying webhooks manually".
	standardSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	standardID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	standardTime      = "1614265330"
	standardBody      = `{"test": 2432232314}`
	standardSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func at(seconds string) time.Time {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		panic(err)
	}
	return time.Unix(n, 0)
}

func TestSignatures(t *testing.T) {
	gitHub := asynctool.HMAC{Secret: gitHubSecret, Header: "X-Hub-Signature-256", Prefix: "sha256="}
	raw, err := hex.DecodeString(gitHubSignature)
	if err != nil {
		t.Fatal(err)
	}
	inBase64 := base64.StdEncoding.EncodeToString(raw)
	shopify := asynctool.HMAC{Secret: gitHubSecret, Header: "X-Shopify-Hmac-Sha256", Base64: true}
	slack := asynctool.HMAC{
		Secret: slackSecret, Header: "X-Slack-Signature", Prefix: "v0=",
		TimestampHeader: "X-Slack-Request-Timestamp", Signed: "v0:{timestamp}:{body}",
	}
	standard := asynctool.StandardWebhooks{Secret: standardSecret}

	ofGitHub := func(signature, body string) asynctool.Post {
		return asynctool.Post{Header: headers("x-hub-signature-256", signature), Body: []byte(body)}
	}
	ofSlack := func(timestamp string, received time.Time) asynctool.Post {
		return asynctool.Post{Body: []byte(slackBody), Received: received, Header: headers(
			"x-slack-signature", slackSignature, "x-slack-request-timestamp", timestamp)}
	}
	ofStandard := func(id, timestamp, signature, body string) asynctool.Post {
		return asynctool.Post{Body: []byte(body), Received: at(standardTime), Header: headers(
			"webhook-id", id, "webhook-timestamp", timestamp, "webhook-signature", signature)}
	}
	late := func(p asynctool.Post, d time.Duration) asynctool.Post {
		p.Received = p.Received.Add(d)
		return p
	}
	genuine := ofStandard(standardID, standardTime, standardSignature, standardBody)
	svix := asynctool.Post{Body: []byte(standardBody), Received: at(standardTime), Header: headers(
		"svix-id", standardID, "svix-timestamp", standardTime, "svix-signature", standardSignature)}
	// The signed text is that of the genuine id "a", the timestamp and the body "1614265330.x".
	shifted := "a." + standardTime + "." + standardTime + ".x"
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(standardSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	shiftedSignature := "v1," + base64.StdEncoding.EncodeToString(sum(key, shifted))
	emptyKey := sum(nil, gitHubBody) // anyone can make it
	emptyStandard := "v1," + base64.StdEncoding.EncodeToString(sum(nil, standardID+"."+standardTime+"."+standardBody))

	for name, row := range map[string]struct {
		verifier verifier
		post     asynctool.Post
		valid    bool
	}{
		"GitHub":             {gitHub, ofGitHub("sha256="+gitHubSignature, gitHubBody), true},
		"in upper case":      {gitHub, ofGitHub("sha256="+strings.ToUpper(gitHubSignature), gitHubBody), true},
		"the second one":     {gitHub, ofGitHub("sha256=00, sha256="+gitHubSignature, gitHubBody), true},
		"another body":       {gitHub, ofGitHub("sha256="+gitHubSignature, gitHubBody+" "), false},
		"no body":            {gitHub, ofGitHub("sha256="+gitHubSignature, ""), false},
		"without its prefix": {gitHub, ofGitHub(gitHubSignature, gitHubBody), false},
		"another prefix":     {gitHub, ofGitHub("sha1="+gitHubSignature, gitHubBody), false},
		"only the prefix":    {gitHub, ofGitHub("sha256=", gitHubBody), false},
		"a cut signature":    {gitHub, ofGitHub("sha256="+gitHubSignature[:62], gitHubBody), false},
		"not hexadecimal":    {gitHub, ofGitHub("sha256=x", gitHubBody), false},
		"no header":          {gitHub, asynctool.Post{Body: []byte(gitHubBody)}, false},
		"another encoding":   {gitHub, ofGitHub("sha256="+inBase64, gitHubBody), false},
		"no secret": {asynctool.HMAC{Header: "X"}, asynctool.Post{Body: []byte(gitHubBody),
			Header: headers("X", hex.EncodeToString(emptyKey))}, false},
		"no name of a header": {asynctool.HMAC{Secret: "x"}, asynctool.Post{}, false},
		"another secret": {asynctool.HMAC{Secret: "x", Header: gitHub.Header, Prefix: gitHub.Prefix},
			ofGitHub("sha256="+gitHubSignature, gitHubBody), false},

		"Shopify": {shopify, asynctool.Post{Body: []byte(gitHubBody),
			Header: headers("X-Shopify-Hmac-Sha256", inBase64)}, true},
		"broken base64": {shopify, asynctool.Post{Body: []byte(gitHubBody),
			Header: headers("X-Shopify-Hmac-Sha256", inBase64[1:])}, false},

		"Slack":               {slack, ofSlack(slackTime, at(slackTime)), true},
		"Slack, just in time": {slack, late(ofSlack(slackTime, at(slackTime)), 5*time.Minute), true},
		"Slack, too late":     {slack, late(ofSlack(slackTime, at(slackTime)), 5*time.Minute+1), false},
		"Slack, too early":    {slack, late(ofSlack(slackTime, at(slackTime)), -5*time.Minute-1), false},
		"another timestamp":   {slack, ofSlack("1531420619", at(slackTime)), false},
		"no timestamp":        {slack, ofSlack("", at(slackTime)), false},
		"a timestamp with 0":  {slack, ofSlack("0"+slackTime, at(slackTime)), false},
		"a signed timestamp that is not checked": {asynctool.HMAC{Secret: "x", Header: "X", Signed: "{timestamp}{body}"},
			asynctool.Post{}, false},
		"a timestamp that is not signed": {asynctool.HMAC{Secret: gitHubSecret, Header: gitHub.Header,
			Prefix: gitHub.Prefix, TimestampHeader: "X-Time", Signed: "{body}"},
			asynctool.Post{Body: []byte(gitHubBody), Received: at(slackTime), Header: headers(
				gitHub.Header, "sha256="+gitHubSignature, "X-Time", slackTime)}, false},
		"a body that is not signed": {asynctool.HMAC{Secret: "x", Header: "X", Signed: "x"}, asynctool.Post{}, false},

		"Standard Webhooks": {standard, genuine, true},
		"Svix":              {standard, svix, true},
		"without whsec_": {asynctool.StandardWebhooks{Secret: strings.TrimPrefix(standardSecret, "whsec_")},
			genuine, true},
		"several signatures": {standard, ofStandard(standardID, standardTime,
			"v1a,x v1,AAAA "+standardSignature, standardBody), true},
		"just in time":    {standard, late(genuine, 5*time.Minute), true},
		"too late":        {standard, late(genuine, 5*time.Minute+1), false},
		"too early":       {standard, late(genuine, -5*time.Minute-1), false},
		"another id":      {standard, ofStandard("msg_x", standardTime, standardSignature, standardBody), false},
		"no id":           {standard, ofStandard("", standardTime, standardSignature, standardBody), false},
		"another time":    {standard, ofStandard(standardID, "1614265331", standardSignature, standardBody), false},
		"another JSON":    {standard, ofStandard(standardID, standardTime, standardSignature, "{}"), false},
		"no signature":    {standard, ofStandard(standardID, standardTime, "", standardBody), false},
		"an empty one":    {standard, ofStandard(standardID, standardTime, "v1,", standardBody), false},
		"no version":      {standard, ofStandard(standardID, standardTime, standardSignature[3:], standardBody), false},
		"another version": {standard, ofStandard(standardID, standardTime, "v2"+standardSignature[2:], standardBody), false},
		"a shifted id":    {standard, ofStandard("a."+standardTime, standardTime, shiftedSignature, "x"), false},
		"an empty secret": {asynctool.StandardWebhooks{},
			ofStandard(standardID, standardTime, emptyStandard, standardBody), false},
		"an empty secret, marked": {asynctool.StandardWebhooks{Secret: "whsec_"},
			ofStandard(standardID, standardTime, emptyStandard, standardBody), false},
		"a secret, no base64": {asynctool.StandardWebhooks{Secret: "whsec_planted!"}, genuine, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := row.verifier.Verify(row.post)
			if (err == nil) != row.valid || !row.valid && !errors.Is(err, asynctool.ErrSignature) {
				t.Fatalf("the error is %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "planted") || strings.Contains(err.Error(), gitHubSignature)) {
				t.Errorf("the error quotes a value: %v", err)
			}
		})
	}
}

// FuzzSignatures looks for a post that is accepted without the secret.
func FuzzSignatures(f *testing.F) {
	f.Add(standardID, standardTime, standardSignature, standardBody, int64(0))
	f.Add("a.b", "-1", "v1,==,v1, v1", "", int64(-1))
	f.Add("", "99999999999999999999", "sha256=", "\xff", int64(1<<62))
	f.Fuzz(func(t *testing.T, id, timestamp, signature, body string, received int64) {
		p := asynctool.Post{Body: []byte(body), Received: time.Unix(received, 0), Header: http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature},
		}}
		for _, v := range []verifier{
			asynctool.StandardWebhooks{Secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("unknown"))},
			asynctool.HMAC{Secret: "unknown", Header: "Webhook-Signature", TimestampHeader: "Webhook-Timestamp"},
			asynctool.HMAC{Secret: "unknown", Header: "Webhook-Signature", Prefix: "v1,", Base64: true},
		} {
			if err := v.Verify(p); !errors.Is(err, asynctool.ErrSignature) {
				t.Errorf("%T accepted it: %v", v, err)
			}
		}
	})
}

func ExampleHMAC() {
	post := asynctool.Post{
		Header: http.Header{"X-Hub-Signature-256": {"sha256=" + gitHubSignature}},
		Body:   []byte("Hello, World!"),
	}
	gitHub := asynctool.HMAC{Secret: "It's a Secret to Everybody", Header: "X-Hub-Signature-256", Prefix: "sha256="}
	fmt.Println(gitHub.Verify(post))

	post.Body = []byte("Hello, Mallory!")
	fmt.Println(gitHub.Verify(post))

	// Output:
	// <nil>
	// the signature cannot be verified: no signature in the header X-Hub-Signature-256 is right
}
