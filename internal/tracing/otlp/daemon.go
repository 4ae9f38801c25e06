package otlp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// daemon sends spans to the daemon of AWS X-Ray, as AWS's distributions of OpenTelemetry for Lambda do: one datagram
// with a header, the prefix of spans that are sampled, and OTLP in base64 (aws-otel-python-instrumentation,
// otlp_udp_exporter.py). AWS documents the address and the header, and not the rest.
type daemon struct{ connection net.Conn }

const (
	datagramHeader = `{"format":"json","version":1}` + "\n"
	sampledPrefix  = "T1S"

	maxDatagram = 65507 // the largest payload of UDP over IPv4
)

// newDaemon returns the daemon at an address: host:port, or "tcp:host:port udp:host:port" (AWS X-Ray developer guide,
// AWS_XRAY_DAEMON_ADDRESS).
func newDaemon(address string) (*daemon, error) {
	if address == "" {
		return nil, errors.New("AWS_XRAY_DAEMON_ADDRESS is not set; Lambda sets it, elsewhere send the spans to a " +
			"collector with OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	for _, part := range strings.Fields(address) {
		if udp, ok := strings.CutPrefix(part, "udp:"); ok {
			address = udp
		}
	}
	connection, err := net.Dial("udp", address)
	if err != nil {
		return nil, fmt.Errorf("AWS_XRAY_DAEMON_ADDRESS must be host:port: %w", err)
	}
	return &daemon{connection}, nil
}

func (d *daemon) Start(context.Context) error { return nil }
func (d *daemon) Stop(context.Context) error  { return d.connection.Close() }

func (d *daemon) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := encode(spans)
	if err != nil {
		return err
	}
	datagram := append([]byte(datagramHeader+sampledPrefix), base64.StdEncoding.EncodeToString(body)...)
	if len(datagram) > maxDatagram {
		return fmt.Errorf("a datagram of %d bytes is too large", len(datagram))
	}
	_, err = d.connection.Write(datagram)
	return err
}
