package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ringback/ringback/internal/deployment"
)

// collector sends spans to an OpenTelemetry collector: OTLP/HTTP with binary protobuf. OpenTelemetry's own client
// (otlptracehttp) links gRPC, which is more than half of the process function.
type collector struct {
	url     string
	headers func(context.Context) (http.Header, error)
	client  *http.Client
}

func newCollector(cfg Config) (*collector, error) {
	endpoint, err := url.Parse(cfg.Endpoint)
	if err == nil {
		err = deployment.CheckEndpoint(cfg.Endpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w", deployment.VariableName(cfg.Tracing, "Endpoint"), err)
	}
	fixed, err := parseHeaders(cfg.Headers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", deployment.VariableName(cfg.Tracing, "Headers"), err)
	}
	c := &collector{
		// OpenTelemetry Protocol Exporter: the path of an endpoint for all signals.
		url:     endpoint.JoinPath("v1", "traces").String(),
		headers: func(context.Context) (http.Header, error) { return fixed, nil },
		client: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// Another host must not get the headers.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if cfg.StoredHeaders != nil {
		c.headers = func(ctx context.Context) (http.Header, error) {
			text, err := cfg.StoredHeaders(ctx)
			if err != nil {
				return nil, err
			}
			return parseHeaders(text)
		}
	}
	return c, nil
}

// isToken reports whether a text is a header's name (RFC 9110, 5.1).
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// isControl reports whether a header's value cannot have a character (RFC 9110, 5.5).
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// parseHeaders parses headers in the form of OTEL_EXPORTER_OTLP_HEADERS: name=value, separated by commas, with values
// in percent-encoding. Its error quotes none of them.
func parseHeaders(text string) (http.Header, error) {
	h := make(http.Header)
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !found || err != nil || !isToken(name) || strings.ContainsFunc(value, isControl) {
			return nil, errors.New("the headers must look like name=value,name=value, with values in percent-encoding")
		}
		h.Add(name, value)
	}
	return h, nil
}

func (c *collector) Start(context.Context) error { return nil }

func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := encode(spans)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	headers, err := c.headers(ctx)
	if err != nil {
		return err
	}
	r.Header = headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	answer, err := c.client.Do(r)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err // without the URL
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // so that the connection can be used again
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("the collector answered with %d", answer.StatusCode)
	}
	return nil
}

// encode returns spans as an ExportTraceServiceRequest. TracesData is the same message, and needs no gRPC. One string
// that is not valid UTF-8 would be an error for all spans, so its wrong bytes are replaced.
func encode(spans []*tracepb.ResourceSpans) ([]byte, error) {
	data := &tracepb.TracesData{ResourceSpans: spans}
	body, err := proto.Marshal(data)
	if err != nil {
		makeValid(data.ProtoReflect())
		return proto.Marshal(data)
	}
	return body, nil
}

// makeValid replaces the bytes of a message's strings that are not valid UTF-8. It changes no list of strings, as only
// the entities of a resource have one, which the exporter does not set.
func makeValid(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				makeValid(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			makeValid(v.Message())
		case f.Kind() == protoreflect.StringKind && !f.IsList():
			m.Set(f, protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD")))
		}
		return true
	})
}
