// Package wiring makes Vapi agree with the tools as they are defined in Go: it
// says what each tool is at Vapi, finds out what differs there, mends that,
// and checks a whole chain from the assistant to the webhook.
package wiring

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// webhookTimeout is how many seconds Vapi waits for the webhook's answer. The
// ack function gives up after 15; Vapi's own default is the same 20.
const webhookTimeout = 20

// final are the 4xx that a repeated webhook would only meet again. The others
// are worth repeating: 408 and 425 by their meaning, and 429, as that is how
// API Gateway throttles, and a webhook that is given up is an answer that the
// caller never gets.
var final = []int{400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 426, 428, 431, 451}

// Endpoint is where the tools' webhooks go.
type Endpoint struct {
	URL          string // empty: left out
	CredentialID string // Vapi's id of the credential; empty: left out
}

// Bodies are the tools as Vapi's API takes them, in the tools' order. Its error
// names the tool and the argument that Vapi cannot take.
func Bodies(tools *asynctool.Set, at Endpoint) ([]vapiclient.Tool, error) {
	bodies := []vapiclient.Tool{}
	for _, e := range tools.Entries() {
		schema, err := shown(e.ModelSchema())
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", e.Name, err)
		}
		parameters, err := json.Marshal(schema)
		if err != nil {
			return nil, fmt.Errorf("tool %s: its arguments' schema: %w", e.Name, err)
		}
		body := vapiclient.Tool{
			Type:  "function",
			Async: !e.SyncAck,
			Function: vapiclient.Function{
				Name: e.Name, Description: e.Description, Parameters: parameters, Strict: strict(parameters),
			},
			Server: vapiclient.Server{
				URL: at.URL, CredentialID: at.CredentialID, TimeoutSeconds: webhookTimeout,
				BackoffPlan: vapiclient.BackoffPlan{Type: "exponential", MaxRetries: 3, BaseDelaySeconds: 1, ExcludedStatusCodes: final},
			},
			Messages:   []vapiclient.ToolMessage{},
			Parameters: []vapiclient.StaticParameter{},
		}
		if body.Async {
			body.Messages = append(body.Messages, vapiclient.ToolMessage{Type: "request-complete", Role: "system", Content: started(e.Name)})
		}
		for _, key := range slices.Sorted(maps.Keys(e.Static)) {
			body.Parameters = append(body.Parameters, vapiclient.StaticParameter{Key: key, Value: e.Static[key]})
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// started is what the model is told as soon as an async tool was called, since
// Vapi tells it "Success." at the same moment. In the role of a system message
// it is a hint, after which the model speaks (Vapi's OpenAPI:
// ToolMessageComplete.role).
func started(tool string) string {
	return "The tool " + tool + " has only started. \"Success.\" means just that: there is no result yet. " +
		"Do not guess the result, do not say that it is done, and do not call " + tool + " again for it. " +
		"Tell the caller briefly that you are on it, and go on with the conversation. " +
		"The result follows by itself as a system message that begins with [async tool result]."
}

// ParseURL checks the address that Vapi is to post webhooks to.
func ParseURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("the webhook's URL must begin with https://, as Vapi sends the credential there; a tunnel gives a server on this machine such an address")
	case u.User != nil || u.Fragment != "":
		return "", fmt.Errorf("the webhook's URL must have neither user information nor a fragment")
	}
	return u.String(), nil
}

// formats are those that Vapi takes (Vapi's OpenAPI: JsonSchema.format).
var formats = []string{"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}

// shown makes a schema one that Vapi takes (Vapi's OpenAPI:
// OpenAIFunctionParameters, JsonSchema): each part of one type, enums of
// strings, some formats. What can only be said in words is moved into the
// description; the tool checks the arguments against its own schema in any case.
func shown(s *jsonschema.Schema) (*jsonschema.Schema, error) {
	if s.Ref != "" || s.Defs != nil || s.Definitions != nil {
		return nil, fmt.Errorf("its schema has references, which Vapi does not take; write the parts out where they are used")
	}
	if s.Properties == nil {
		s.Properties = map[string]*jsonschema.Schema{} // Vapi wants the member
	}
	return s, project("", s)
}

func project(path string, s *jsonschema.Schema) error {
	if s.Types != nil {
		// A null only says that an argument may be left out.
		types := slices.DeleteFunc(slices.Clone(s.Types), func(t string) bool { return t == "null" })
		if len(types) != 1 {
			return fmt.Errorf("the argument %s may be of several types (%s); Vapi takes one", path, strings.Join(types, ", "))
		}
		s.Type, s.Types = types[0], nil
	}
	switch {
	case s.Type == "":
		return fmt.Errorf("the argument %s has no type; Vapi needs one", path)
	case s.Type == "array" && s.Items == nil:
		return fmt.Errorf("the argument %s is a list of nothing in particular; Vapi needs the type of its items", path)
	}
	if s.Enum != nil {
		var texts, values []string
		for _, value := range s.Enum {
			if value == nil {
				continue
			}
			if text, ok := value.(string); ok {
				texts = append(texts, text)
			}
			values = append(values, fmt.Sprint(value))
		}
		if len(texts) == len(values) {
			s.Enum = make([]any, len(texts))
			for i, text := range texts {
				s.Enum[i] = text
			}
		} else {
			s.Enum = nil
			describe(s, "One of "+strings.Join(values, ", ")+".")
		}
	}
	if s.Format != "" && !slices.Contains(formats, s.Format) {
		describe(s, "In the format "+s.Format+".")
		s.Format = ""
	}
	prefix := path
	if prefix != "" {
		prefix += "."
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if err := project(prefix+name, s.Properties[name]); err != nil {
			return err
		}
	}
	if s.Items != nil {
		if err := project(path+"[]", s.Items); err != nil {
			return err
		}
	}
	if values := s.AdditionalProperties; values != nil && (values.Type != "" || values.Types != nil) {
		return project(prefix+"*", values)
	}
	return nil
}

func describe(s *jsonschema.Schema, text string) {
	s.Description = strings.TrimSpace(strings.TrimRight(s.Description, ". ") + ". " + text)
	s.Description = strings.TrimPrefix(s.Description, ". ")
}

// strictKeywords are those that OpenAI takes in a strict function (OpenAI's
// documentation: "Structured Outputs", supported schemas). Others may be
// refused there, with every call of the assistant.
var strictKeywords = []string{
	"type", "title", "description", "enum", "properties", "required", "additionalProperties", "items",
	"pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}

// strictDepth and strictProperties are the smallest limits that OpenAI has had.
const (
	strictDepth      = 5
	strictProperties = 100
)

// strict reports whether OpenAI takes a schema in strict mode, in which the
// model's arguments always fit it: every argument is required, no others are
// allowed, and only the keywords above are used.
func strict(schema json.RawMessage) bool {
	var root map[string]any
	if err := json.Unmarshal(schema, &root); err != nil {
		return false
	}
	properties := 0
	var fits func(s map[string]any, depth int) bool
	fits = func(s map[string]any, depth int) bool {
		for keyword := range s {
			if !slices.Contains(strictKeywords, keyword) {
				return false
			}
		}
		if items, ok := s["items"]; ok {
			object, ok := items.(map[string]any)
			if !ok || !fits(object, depth+1) {
				return false
			}
		}
		if s["type"] != "object" {
			return true
		}
		members, _ := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		properties += len(members)
		if s["additionalProperties"] != false || len(members) == 0 || depth > strictDepth || properties > strictProperties {
			return false
		}
		for name, member := range members {
			object, ok := member.(map[string]any)
			if !ok || !slices.Contains(required, any(name)) || !fits(object, depth+1) {
				return false
			}
		}
		return true
	}
	return fits(root, 1)
}
