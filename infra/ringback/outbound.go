package ringback

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// checkNextCall returns an error if a tool parks results, and the private key is missing. Vapi's API must
// confirm the calls of a customer whose results are parked.
func (p *Props) checkNextCall(tools *asynctool.Set) error {
	for _, tool := range tools.Entries() {
		if tool.AfterCall == asynctool.NextCall && p.PrivateKeySecret == nil {
			return fmt.Errorf("the tool %s parks results for the customer's next call, which Vapi's API must confirm: "+
				"set PrivateKeySecret (the setting privateKeySecretArn)", tool.Name)
		}
	}
	return nil
}

// checkOutbound returns an error if a property for chats or outbound calls is
// invalid. The callback function would not start with it, and would deliver no
// result.
func (p *Props) checkOutbound() error {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if _, err := vapiclient.NewAPI(vapiclient.APIConfig{Key: "unused", URL: p.VapiAPIURL}); err != nil {
		fail("VapiAPIURL: %w", err)
	}
	if p.CallBackHours != "" {
		if _, err := hours.Parse(p.CallBackHours, p.CallBackZone); err != nil {
			fail("CallBackHours and CallBackZone: %w", err)
		}
	}
	require := func(set bool, required, name, value string) {
		if value != "" && !set {
			fail("%s needs %s", name, required)
		}
	}
	const (
		key   = "PrivateKeySecret, which every request to Vapi's API needs"
		times = "CallBackHours, without which there are no outbound calls"
	)
	require(p.PrivateKeySecret != nil, key, "VapiAPIURL", p.VapiAPIURL)
	require(p.PrivateKeySecret != nil, key, "CallBackHours", p.CallBackHours)
	require(p.CallBackHours != "", times, "CallBackZone", p.CallBackZone)
	require(p.CallBackHours != "", times, "CallBackAssistantID", p.CallBackAssistantID)
	require(p.CallBackHours != "", times, "CallBackPhoneNumberID", p.CallBackPhoneNumberID)
	require(p.CallBackHours != "", times, "CallBackPrefixes", strings.Join(p.CallBackPrefixes, ","))
	if err := deployment.CheckPrefixes(p.CallBackPrefixes); err != nil {
		fail("CallBackPrefixes: %w", err)
	}
	return errors.Join(errs...)
}
