package vapiauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ringback/ringback/vapi/vapiauth"
)

// A server verifies a webhook. Here, Sign stands in for Vapi.
func Example() {
	plans, err := vapiauth.ParsePlans([]byte(`{"type": "bearer", "token": "a-long-random-token-of-your-own"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := vapiauth.NewVerifier(plans...)
	if err != nil {
		fmt.Println(err)
		return
	}
	webhook := vapiauth.Request{Method: http.MethodPost, Header: make(http.Header), Body: []byte(`{"message": {}}`)}
	fmt.Println(errors.Is(verifier.Verify(webhook, time.Now()), vapiauth.ErrUnauthorized))

	if err := plans[0].Sign(&webhook, time.Now()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verifier.Verify(webhook, time.Now()))

	// Output:
	// true
	// <nil>
}
