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
	body                                 []byte // in the event's memory
	encoded                              bool   // the body is in base64, too
}

// parseEvent reads an event as encoding/json reads an [events.APIGatewayV2HTTPRequest]. It writes over the
// event, and does not copy the body. A fuzz test compares the two.
func parseEvent(payload []byte) (*event, error) {
	e := new(event)
	if string(bytes.Trim(payload, " \t\r\n")) == "null" {
		return e, nil
	}
	err := jsonscan.Object(payload, func(name, value []byte) error { return e.read(eventMembers, name, value) })
	if err != nil {
		return nil, fmt.Errorf("cannot read the event: %w", err)
	}
	return e, nil
}

// A member of an object in an event. Tables of members need no code at the function's start.
type member struct {
	name string
	// read reads a value as [jsonscan.Object] has it.
	read func(e *event, value []byte) error
}

var eventMembers = []member{
	{"version", func(e *event, value []byte) error { return text(value, &e.version) }},
	{"routeKey", func(e *event, value []byte) error { return text(value, &e.routeKey) }},
	{"rawPath", func(e *event, value []byte) error { return text(value, &e.rawPath) }},
	{"rawQueryString", func(e *event, value []byte) error { return text(value, &e.rawQuery) }},
	{"cookies", func(_ *event, value []byte) error { return other(value, new([]string)) }},
	{"headers", func(e *event, value []byte) error { return e.headers.read(value) }},
	{"queryStringParameters", func(_ *event, value []byte) error { return new(texts).read(value) }},
	{"pathParameters", func(e *event, value []byte) error { return e.parameters.read(value) }},
	{"requestContext", func(e *event, value []byte) error { return e.object(contextMembers, value) }},
	{"stageVariables", func(_ *event, value []byte) error { return new(texts).read(value) }},
	{"body", func(e *event, value []byte) error {
		if value[0] == '"' {
			e.body = value[1:]
			return nil
		}
		return text(value, new(string))
	}},
	{"isBase64Encoded", func(e *event, value []byte) error { return flag(value, &e.encoded) }},
}

var contextMembers = []member{
	{"routeKey", unused},
	{"accountId", unused},
	{"stage", unused},
	{"requestId", unused},
	{"authorizer", func(_ *event, value []byte) error {
		return other(value, new(events.APIGatewayV2HTTPRequestContextAuthorizerDescription))
	}},
	{"apiId", unused},
	{"domainName", func(e *event, value []byte) error { return text(value, &e.domain) }},
	{"domainPrefix", unused},
	{"time", unused},
	{"timeEpoch", func(e *event, value []byte) error { return integer(value, &e.received) }},
	{"http", func(e *event, value []byte) error { return e.object(httpMembers, value) }},
	{"authentication", func(_ *event, value []byte) error {
		return other(value, new(events.APIGatewayV2HTTPRequestContextAuthentication))
	}},
}

var httpMembers = []member{
	{"method", func(e *event, value []byte) error { return text(value, &e.method) }},
	{"path", unused},
	{"protocol", unused},
	{"sourceIp", unused},
	{"userAgent", unused},
}

// read reads one member of an object. Like encoding/json, it prefers the name in exactly this case.
func (e *event) read(known []member, name, value []byte) error {
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
func (e *event) object(known []member, value []byte) error {
	switch value[0] {
	case '{':
		return jsonscan.Object(value, func(name, value []byte) error { return e.read(known, name, value) })
	case 'n':
		return nil
	}
	return errType
}

// errType means that a member has another JSON type.
var errType = errors.New("the member has another type than in payload format 2.0")

func text(value []byte, into *string) error {
	switch value[0] {
	case '"':
		*into = string(value[1:])
		return nil
	case 'n':
		return nil
	}
	return errType
}

// unused checks a text that no request needs.
func unused(_ *event, value []byte) error {
	if value[0] != '"' && value[0] != 'n' {
		return errType
	}
	return nil
}

// other checks a value that no request needs, and that events of Ringback's routes do not have.
func other(value []byte, into any) error {
	if json.Unmarshal(value, into) != nil {
		return errType
	}
	return nil
}

func flag(value []byte, into *bool) error {
	switch value[0] {
	case 't', 'f':
		*into = value[0] == 't'
		return nil
	case 'n':
		return nil
	}
	return errType
}

func integer(value []byte, into *int64) error {
	if value[0] == 'n' {
		return nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return errType
	}
	*into = n
	return nil
}

// texts are the members of an object that has only texts, in the order of the event.
type texts []struct{ name, value string }

func (t *texts) read(object []byte) error {
	switch object[0] {
	case '{':
		return jsonscan.Object(object, func(name, value []byte) error {
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
