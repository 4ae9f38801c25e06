package ringback

import (
	"errors"
	"fmt"

	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// checkOutbound says which settings of chats and calls back cannot be used.
// The callback function could not start with them, and would tell no result.
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
	for _, needs := range []struct {
		name, value, need string
		there             bool
	}{
		{"VapiAPIURL", p.VapiAPIURL, "PrivateKeySecret, without which Vapi's API is not asked", p.PrivateKeySecret != nil},
		{"CallBackHours", p.CallBackHours, "PrivateKeySecret, with which Vapi is asked to call", p.PrivateKeySecret != nil},
		{"CallBackZone", p.CallBackZone, "CallBackHours, without which nobody is called back", p.CallBackHours != ""},
		{"CallBackAssistantID", p.CallBackAssistantID, "CallBackHours, without which nobody is called back", p.CallBackHours != ""},
		{"CallBackPhoneNumberID", p.CallBackPhoneNumberID, "CallBackHours, without which nobody is called back", p.CallBackHours != ""},
	} {
		if needs.value != "" && !needs.there {
			fail("%s needs %s", needs.name, needs.need)
		}
	}
	return errors.Join(errs...)
}
