package ringback

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-cdk-go/awscdk/v2"

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
				"set %s", tool.Name, p.written("PrivateKeySecret"))
		}
	}
	return nil
}

// vapiID matches the ids of objects at Vapi (Vapi's OpenAPI: format uuid).
var vapiID = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// checkOutbound checks the properties for chats and outbound calls.
func (p *Props) checkOutbound() error {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if _, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
		Key: func(context.Context) (string, error) { return "", nil },
		URL: p.VapiAPIURL, AllowLoopback: len(p.ControlHosts) > 0,
	}); err != nil {
		fail("%s is %q; it must be an https URL without a query, because the private key is sent to it",
			p.written("VapiAPIURL"), p.VapiAPIURL)
	}
	_, zoneErr := hours.Parse("00:00-24:00", p.CallBackZone)
	if zoneErr != nil {
		fail("%s is %q; it must be a time zone like Europe/Berlin", p.written("CallBackZone"), p.CallBackZone)
	}
	if p.CallBackHours != "" {
		if _, err := hours.Parse(p.CallBackHours, ""); err != nil {
			fail("%s is %q; it must be like 09:00-18:00", p.written("CallBackHours"), p.CallBackHours)
		}
		if p.PrivateKeySecret == nil {
			fail("%s needs %s, which every request to Vapi's API needs",
				p.written("CallBackHours"), p.written("PrivateKeySecret"))
		}
	}
	for _, s := range []struct{ name, value, id string }{
		{"CallBackZone", p.CallBackZone, ""},
		{"CallBackAssistantID", p.CallBackAssistantID, "an assistant"},
		{"CallBackPhoneNumberID", p.CallBackPhoneNumberID, "a phone number"},
	} {
		switch {
		case s.value == "":
		case s.id != "" && !vapiID.MatchString(s.value) && !*awscdk.Token_IsUnresolved(s.value):
			fail("%s is %q; it must be the id of %s at Vapi, such as 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33",
				p.written(s.name), s.value, s.id)
		case p.CallBackHours == "" && (s.id != "" || zoneErr == nil):
			fail("%s needs %s, without which there are no outbound calls", p.written(s.name), p.written("CallBackHours"))
		}
	}
	if err := deployment.CheckPrefixes(p.CallBackPrefixes); err != nil {
		fail("%s is invalid: %w", p.written("CallBackPrefixes"), err)
	} else if len(p.CallBackPrefixes) > 0 && p.CallBackHours == "" {
		fail("%s needs %s, without which there are no outbound calls",
			p.written("CallBackPrefixes"), p.written("CallBackHours"))
	}
	return errors.Join(errs...)
}
