package ringback

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	_ "time/tzdata" // this machine may have no time zones

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// What would make a function fail when it starts must fail here, with the function's own parser. An error
// names the property as its author wrote it, and has one sentence.

// written returns the name of a property as its author wrote it: a setting of the app's context, or a field
// of [Props].
func (p *Props) written(field string) string { return cmp.Or(p.settings[field], field) }

// writtenSetting is the same for the variable of a tool.
func (p *Props) writtenSetting(name string) string {
	return cmp.Or(p.settings[name], "the tool setting "+name)
}

// maxRate is how many requests a second an account has in a region by default (Amazon API Gateway quotas).
const maxRate = 10000

// Amazon API Gateway quotas for HTTP APIs.
const (
	maxAudiences = 50
	maxScopes    = 10
)

func (p *Props) checkJWT() error {
	if p.JWT == nil {
		return nil
	}
	issuer, audience := p.written("JWT.Issuer"), p.written("JWT.Audience")
	scopes := p.written("JWT.Scopes")
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	u, err := url.Parse(p.JWT.Issuer)
	switch {
	case p.JWT.Issuer == "" && len(p.JWT.Audience) > 0:
		fail("%s needs %s, whose tokens API Gateway verifies", audience, issuer)
	case p.JWT.Issuer == "":
		fail("%s needs %s and %s", scopes, issuer, audience)
	case *awscdk.Token_IsUnresolved(p.JWT.Issuer):
	case err != nil || u.Scheme != "https" || !hostName.MatchString(strings.ToLower(u.Hostname())) || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "":
		fail("%s is %q; it must be an https URL, such as https://issuer.example.com", issuer, p.JWT.Issuer)
	}
	if p.JWT.Issuer != "" && len(p.JWT.Audience) == 0 {
		fail("%s needs %s, since the issuer also makes tokens for others", issuer, audience)
	}
	if n := len(p.JWT.Audience); n > maxAudiences {
		fail("%s has %d audiences; API Gateway accepts %d", audience, n, maxAudiences)
	}
	if n := len(p.JWT.Scopes); n > maxScopes {
		fail("%s has %d scopes; API Gateway accepts %d", scopes, n, maxScopes)
	}
	if p.WebhookSecret != nil {
		fail("%s and %s exclude each other: Vapi sends one Authorization header", issuer, p.written("WebhookSecret"))
	}
	return errors.Join(errs...)
}

// checkTexts checks the text around a result, and the hosts of control URLs.
func (p *Props) checkTexts() error {
	var errs []error
	if _, err := spoken.ParseText(p.ResultText); err != nil {
		errs = append(errs, fmt.Errorf("%s is invalid: %w", p.written("ResultText"), err))
	}
	if p.AckText != "" && strings.TrimSpace(p.AckText) == "" {
		errs = append(errs, fmt.Errorf("%s is only white space; the model would see an empty result", p.written("AckText")))
	}
	for _, host := range p.ControlHosts {
		if _, err := vapiclient.NewControlClient(vapiclient.ControlConfig{Hosts: []string{host}}); err != nil {
			errs = append(errs, fmt.Errorf("%s has %q; write host or host:port, without a scheme or a path",
				p.written("ControlHosts"), host))
		}
	}
	return errors.Join(errs...)
}

// checkRecipients checks the addresses that receive mails.
func (p *Props) checkRecipients() error {
	var errs []error
	for _, r := range []struct{ name, address string }{
		{"UndeliveredEmail", p.UndeliveredEmail}, {"AlarmEmail", p.AlarmEmail},
	} {
		if r.address == "" || *awscdk.Token_IsUnresolved(r.address) {
			continue
		}
		parsed, err := mail.ParseAddress(r.address)
		_, host, _ := strings.Cut(r.address, "@")
		// RFC 5321, 4.5.3.1.3.
		if err != nil || parsed.Address != r.address || len(r.address) > 254 || !hostName.MatchString(strings.ToLower(host)) {
			errs = append(errs, fmt.Errorf("%s is %q; it must be one e-mail address, such as ops@example.com",
				p.written(r.name), r.address))
		}
	}
	return errors.Join(errs...)
}

// machines are the machines of binaries, by architecture.
var machines = map[string]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64}

// checkBinaries returns an error if a function is not built, or is built for another architecture.
func (p *Props) checkBinaries() error {
	for _, name := range functionNames {
		path := filepath.Join(p.Binaries, name, "bootstrap")
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return fmt.Errorf("%s is %q; it has no file %s/bootstrap, which make build writes",
				p.written("Binaries"), p.Binaries, name)
		}
		program, err := elf.Open(path)
		if err != nil {
			continue // a script
		}
		machine, wanted := program.Machine, machines[*p.Architecture.Name()]
		program.Close()
		if machine != wanted {
			return fmt.Errorf("%s is %q; its %s/bootstrap is built for %s, and %s is %s",
				p.written("Binaries"), p.Binaries, name, machine, p.written("Architecture"), *p.Architecture.Name())
		}
	}
	return nil
}

const (
	// maxEnvironment is the size of all variables of a function (AWS Lambda quotas), in bytes.
	maxEnvironment = 4096
	// tokenSize is more than the ARN of a secret or the URL of a queue usually has, in bytes.
	tokenSize = 140
)

var token = regexp.MustCompile(`\$\{Token\[[^\]]*\]\}`)

// checkEnvironment lets a function's own parser read its variables, and returns an error if Lambda refuses
// them.
func (p *Props) checkEnvironment(function string, environment any, variables map[string]*string) error {
	values := make(map[string]string)
	size, longest, by := 0, 0, ""
	properties := p.variables(environment)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		values[name] = *variables[name]
		length := len(token.ReplaceAllString(values[name], strings.Repeat("t", tokenSize)))
		size += len(name) + length
		if property := properties[name]; property != "" && length > longest {
			longest, by = length, property
		}
	}
	if size > maxEnvironment {
		if by == "" {
			by, longest = "the list of the tools", size
		}
		return fmt.Errorf("%s has %d bytes; with it, the variables of the %s function exceed Lambda's %d bytes",
			by, longest, function, maxEnvironment)
	}
	parsed := reflect.New(reflect.TypeOf(environment)).Interface()
	if err := env.ParseWithOptions(parsed, env.Options{Environment: values}); err != nil {
		return fmt.Errorf("the %s function cannot read its variables: %w", function, err)
	}
	if checked, ok := parsed.(interface{ Check() error }); ok {
		if err := checked.Check(); err != nil {
			return fmt.Errorf("the %s function cannot use its variables: %w", function, err)
		}
	}
	return nil
}

// variables returns which property the variables of a function come from, as it is written, by the variables'
// names. It omits the variables whose values Ringback makes.
func (p *Props) variables(environment any) map[string]string {
	properties := make(map[string]string)
	for field := range reflect.TypeOf(environment).Fields() {
		name := field.Name
		if name == "APIURL" {
			name = "VapiAPIURL"
		}
		if _, ok := reflect.TypeFor[Props]().FieldByName(name); ok {
			properties[deployment.VariableName(environment, field.Name)] = p.written(name)
		}
	}
	for _, s := range p.ToolSettings {
		properties[s.Name] = p.writtenSetting(s.Name)
	}
	return properties
}
