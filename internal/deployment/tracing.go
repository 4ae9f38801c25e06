package deployment

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// Tracing is the part of an environment that says where spans go. If all of it is empty, they go nowhere.
type Tracing struct {
	Exporter Exporter `env:"OTEL"`

	// Endpoint is the URL of an OpenTelemetry collector. Headers are what it wants in a request, such as a key:
	// name=value, separated by commas. They can also be in a stored secret.
	Endpoint        string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	Headers         string `env:"OTEL_EXPORTER_OTLP_HEADERS"`
	HeadersSecretID string `env:"OTEL_HEADERS_SECRET_ID"`

	// DaemonAddress is that of AWS X-Ray's daemon. Lambda sets it.
	DaemonAddress string `env:"AWS_XRAY_DAEMON_ADDRESS"`
}

// Exporter is a variable that says where spans go, other than to a collector.
type Exporter string

// ExporterXRay sends spans to AWS X-Ray.
const ExporterXRay Exporter = "xray"

// XRay reports whether the spans go to AWS X-Ray.
func (t Tracing) XRay() bool { return t.Exporter == ExporterXRay }

// Check returns an error if a variable is wrong, or the variables contradict each other.
func (t Tracing) Check() error {
	headers, stored := VariableName(t, "Headers"), VariableName(t, "HeadersSecretID")
	endpoint := VariableName(t, "Endpoint")
	switch {
	case t.Exporter != "" && !t.XRay():
		return fmt.Errorf("%s is %q; it must be %s", VariableName(t, "Exporter"), string(t.Exporter), ExporterXRay)
	case t.XRay() && t.Endpoint != "":
		return fmt.Errorf("%s=%s and %s exclude each other: set one of them",
			VariableName(t, "Exporter"), ExporterXRay, endpoint)
	case t.Headers != "" && t.HeadersSecretID != "":
		return fmt.Errorf("both %s and %s are set; unset one of them", headers, stored)
	case t.Headers != "" && t.Endpoint == "":
		return fmt.Errorf("%s is set, and %s is not: set both, or none", headers, endpoint)
	case t.HeadersSecretID != "" && t.Endpoint == "":
		return fmt.Errorf("%s is set, and %s is not: set both, or none", stored, endpoint)
	}
	return nil
}

// CheckEndpoint returns an error if a text is not the URL of a collector. Spans and headers need https, unless the
// collector is on the same machine.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		(u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())) {
		return nil
	}
	return errors.New("must be an https URL, such as https://collector.example.com, or an http URL of this machine, " +
		"such as http://localhost:4318")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
