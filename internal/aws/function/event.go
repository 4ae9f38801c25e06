package function

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/jsonscan"
)

// event is what a request needs of an event of an HTTP API (payload format 2.0).
type event struct {
	version, routeKey, rawPath, rawQuery string
	method, domain                       string
	received                             int64 // in milliseconds since 1970
	headers, parameters                  texts
	body                                 jsonscan.Document // in the event's memory
	encoded                              bool              // the body is in base64, too
}

// parseEvent reads an event as encoding/json reads an [events.APIGatewayV2HTTPRequest]. It writes over the
// event, and does not copy the body. A fuzz test compares the two.
func parseEvent(payload []byte) (*event, error) {
	e := new(event)
	if string(bytes.Trim(payload, " \t\r\n")) == "null" {
		return e, nil
	}
	err := jsonscan.Object(payload, func(name []byte, value jsonscan.Value) error {
		return e.read(eventMembers, name, value)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the event: %w", err)
	}
	return e, nil
}

// A member of an object in an event. Tables of members need no code at the function's start.
type member struct {
	name string
	read func(e *event, value jsonscan.Value) error
}

var eventMembers = []member{
	{"version", func(e *event, value jsonscan.Value) error { return text(value, &e.version) }},
	{"routeKey", func(e *event, value jsonscan.Value) error { return text(value, &e.routeKey) }},
	{"rawPath", func(e *event, value jsonscan.Value) error { return text(value, &e.rawPath) }},
	{"rawQueryString", func(e *event, value jsonscan.Value) error { return text(value, &e.rawQuery) }},
	{"cookies", func(_ *event, value jsonscan.Value) error { return other(value, new([]string)) }},
	{"headers", func(e *event, value jsonscan.Value) error { return e.headers.read(value) }},
	{"queryStringParameters", func(_ *event, value jsonscan.Value) error { return new(texts).read(value) }},
	{"pathParameters", func(e *event, value jsonscan.Value) error { return e.parameters.read(value) }},
	{"requestContext", func(e *event, value jsonscan.Value) error { return e.object(contextMembers, value) }},
	{"stageVariables", func(_ *event, value jsonscan.Value) error { return new(texts).read(value) }},
	{"body", func(e *event, value jsonscan.Value) error {
		if value.First == '"' {
			e.body = value.Document
			return nil
		}
		return text(value, new(string))
	}},
	{"isBase64Encoded", func(e *event, value jsonscan.Value) error { return flag(value, &e.encoded) }},
}

var contextMembers = []member{
	{"routeKey", unused},
	{"accountId", unused},
	{"stage", unused},
	{"requestId", unused},
	{"authorizer", func(_ *event, value jsonscan.Value) error {
		return other(value, new(events.APIGatewayV2HTTPRequestContextAuthorizerDescription))
	}},
	{"apiId", unused},
	{"domainName", func(e *event, value jsonscan.Value) error { return text(value, &e.domain) }},
	{"domainPrefix", unused},
	{"time", unused},
	{"timeEpoch", func(e *event, value jsonscan.Value) error { return integer(value, &e.received) }},
	{"http", func(e *event, value jsonscan.Value) error { return e.object(httpMembers, value) }},
	{"authentication", func(_ *event, value jsonscan.Value) error {
		return other(value, new(events.APIGatewayV2HTTPRequestContextAuthentication))
	}},
}

var httpMembers = []member{
	{"method", func(e *event, value jsonscan.Value) error { return text(value, &e.method) }},
	{"path", unused},
	{"protocol", unused},
	{"sourceIp", unused},
	{"userAgent", unused},
}

// read reads one member of an object. Like encoding/json, it prefers the name in exactly this case.
func (e *event) read(known []member, name []byte, value jsonscan.Value) error {
	at := slices.IndexFunc(known, func(m member) bool { return m.name == string(name) })
	if at < 0 {
		at = slices.IndexFunc(known, func(m member) bool { return strings.EqualFold(m.name, string(name)) })
	}
	if at < 0 {
		return nil
	}
	if err := known[at].read(e, value); err != nil {
		return fmt.Errorf("%s: %w", known[at].name, err)
	}
	return nil
}

// object reads an object. Without a value it changes nothing, like all of the below.
func (e *event) object(known []member, value jsonscan.Value) error {
	switch value.First {
	case '{':
		return jsonscan.Object(value.Text, func(name []byte, value jsonscan.Value) error {
			return e.read(known, name, value)
		})
	case 'n':
		return nil
	}
	return errType
}

// errType means that a member has another JSON type.
var errType = errors.New("the member has another type than in payload format 2.0")

func text(value jsonscan.Value, into *string) error {
	switch value.First {
	case '"':
		*into = string(value.Text)
		return nil
	case 'n':
		return nil
	}
	return errType
}

// unused checks a text that no request needs.
func unused(_ *event, value jsonscan.Value) error {
	if value.First != '"' && value.First != 'n' {
		return errType
	}
	return nil
}

// other checks a value that no request needs, and that events of Ringback's routes do not have.
func other(value jsonscan.Value, into any) error {
	if value.First == '"' || json.Unmarshal(value.Text, into) != nil {
		return errType
	}
	return nil
}

func flag(value jsonscan.Value, into *bool) error {
	switch value.First {
	case 't', 'f':
		*into = value.First == 't'
		return nil
	case 'n':
		return nil
	}
	return errType
}

func integer(value jsonscan.Value, into *int64) error {
	if value.First == 'n' {
		return nil
	}
	n, err := strconv.ParseInt(string(value.Text), 10, 64)
	if value.First == '"' || err != nil {
		return errType
	}
	*into = n
	return nil
}

// texts are the members of an object that has only texts, in the order of the event.
type texts []struct{ name, value string }

func (t *texts) read(object jsonscan.Value) error {
	switch object.First {
	case '{':
		return jsonscan.Object(object.Text, func(name []byte, value jsonscan.Value) error {
			one := struct{ name, value string }{name: string(name)}
			if err := text(value, &one.value); err != nil {
				return err
			}
			*t = append(*t, one)
			return nil
		})
	case 'n':
		*t = nil
		return nil
	}
	return errType
}

// get returns the text with a name. Of several, the last one counts, as in encoding/json.
func (t texts) get(name string) string {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].name == name {
			return t[i].value
		}
	}
	return ""
}

// header returns the texts as an HTTP header.
func (t texts) header() http.Header {
	header, values := make(http.Header, len(t)), make([]string, len(t))
	for i, one := range t {
		key := http.CanonicalHeaderKey(one.name)
		if header[key] != nil {
			return t.repeated()
		}
		values[i] = one.value
		header[key] = values[i : i+1 : i+1]
	}
	return header
}

// repeated returns the header of texts whose names differ in their case only, or not at all. An HTTP API
// sends each name once.
func (t texts) repeated() http.Header {
	last := make(map[string]string, len(t))
	for _, one := range t {
		last[one.name] = one.value
	}
	header := make(http.Header, len(last))
	for name, value := range last {
		header.Add(name, value)
	}
	return header
}
