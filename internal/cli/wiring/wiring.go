// Package wiring makes Vapi agree with the tools that are defined in Go. It
// translates each tool for Vapi's API, compares it with the tool at Vapi, and
// makes the changes. It also checks the whole chain from an assistant to the
// webhook.
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

// webhookTimeout is how many seconds Vapi waits for the webhook's answer at least. The
// ack function's timeout is 15 seconds, unless a tool's Quick needs more. Vapi's default
// is also 20.
const webhookTimeout = 20

// A webhook that is not answered is sent again this often, first after this many seconds
// and then after twice as long each time.
const (
	webhookRetries    = 3
	webhookRetryDelay = 1
)

// final are the 4xx that a repeated webhook would only receive again. The others
// allow a repetition: 408 and 425 by definition, and 429 because API Gateway
// throttles with it. Without a repetition, the caller would never get an answer.
var final = []int{
	400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 426, 428,
	431, 451,
}

// Endpoint is the destination of the tools' webhooks.
type Endpoint struct {
	URL          string // empty: omitted
	CredentialID string // Vapi's id of the credential; empty: omitted
}

// Bodies returns the request bodies of the tools for Vapi's API, in the order of the
// tools. Its error names the tool and the argument that Vapi does not accept.
func Bodies(tools *asynctool.Set, at Endpoint) ([]vapiclient.Tool, error) {
	bodies := []vapiclient.Tool{}
	for _, e := range tools.Entries() {
		schema, err := shown(e.ModelSchema())
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", e.Name, err)
		}
		parameters, err := json.Marshal(schema)
		if err != nil {
			return nil, fmt.Errorf("tool %s: cannot encode the schema of its arguments: %w", e.Name, err)
		}
		body := vapiclient.Tool{
			Type:  "function",
			Async: !e.SyncAck,
			Function: vapiclient.Function{
				Name: e.Name, Description: e.Description, Parameters: parameters, Strict: strict(parameters),
			},
			Server: vapiclient.Server{
				URL: at.URL, CredentialID: at.CredentialID, TimeoutSeconds: timeoutSeconds(e),
				BackoffPlan: vapiclient.BackoffPlan{
					Type: "exponential", MaxRetries: webhookRetries, BaseDelaySeconds: webhookRetryDelay,
					ExcludedStatusCodes: final,
				},
				EncryptedPaths: e.Encrypted,
			},
			Messages:   []vapiclient.ToolMessage{},
			Parameters: []vapiclient.StaticParameter{},
		}
		if body.Async {
			body.Messages = append(body.Messages,
				vapiclient.ToolMessage{Type: "request-complete", Role: "system", Content: started(e.Name)})
		}
		for _, key := range slices.Sorted(maps.Keys(e.Static)) {
			body.Parameters = append(body.Parameters, vapiclient.StaticParameter{Key: key, Value: e.Static[key]})
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// started returns the message that the model receives as soon as it has called an
// async tool, because Vapi answers "Success." at the same moment. With the role
// system, the message is a hint, and the model speaks after it (Vapi's OpenAPI:
// ToolMessageComplete.role).
func started(tool string) string {
	return "The tool " + tool + " has only started. \"Success.\" means just that: there is no result yet. " +
		"Do not guess the result, do not say that it is done, and do not call " + tool + " again for it. " +
		"Tell the caller briefly that you are on it, and go on with the conversation. " +
		"The result follows by itself as a system message that begins with [async tool result]."
}

// ParseURL checks the address to which Vapi will post webhooks.
func ParseURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("the webhook's URL must begin with https://, because Vapi sends the credential to it; " +
			"for a server on this machine, use a tunnel")
	case u.User != nil || u.Fragment != "":
		return "", fmt.Errorf("the webhook's URL must not have user information or a fragment")
	}
	return u.String(), nil
}

// formats are the formats that Vapi accepts (Vapi's OpenAPI: JsonSchema.format).
var formats = []string{"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}

// shown changes a schema into one that Vapi accepts (Vapi's OpenAPI:
// OpenAIFunctionParameters, JsonSchema): each part has one type, enums are of
// strings, and only some formats exist. What does not fit moves into the
// description. The tool checks the arguments against its own schema in any case.
func shown(s *jsonschema.Schema) (*jsonschema.Schema, error) {
	if s.Ref != "" || s.Defs != nil || s.Definitions != nil {
		return nil, fmt.Errorf("its schema has references, which Vapi does not accept; replace each by its definition")
	}
	if s.Properties == nil {
		s.Properties = map[string]*jsonschema.Schema{} // Vapi requires the member
	}
	return s, project("", s)
}

func project(path string, s *jsonschema.Schema) error {
	if s.Types != nil {
		// A null only means that an argument may be left out.
		types := slices.DeleteFunc(slices.Clone(s.Types), func(t string) bool { return t == "null" })
		if len(types) != 1 {
			return fmt.Errorf("the argument %s may have several types (%s); Vapi accepts one", path, strings.Join(types, ", "))
		}
		s.Type, s.Types = types[0], nil
	}
	switch {
	case s.Type == "":
		return fmt.Errorf("the argument %s has no type; Vapi requires one", path)
	case s.Type == "array" && s.Items == nil:
		return fmt.Errorf("the argument %s is a list whose items have no type; Vapi requires one", path)
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

// strictKeywords are the keywords that OpenAI accepts in a strict function (OpenAI's
// documentation: "Structured Outputs", supported schemas). Another keyword may make
// OpenAI refuse every call of the assistant.
var strictKeywords = []string{
	"type", "title", "description", "enum", "properties", "required", "additionalProperties", "items", "pattern",
	"format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}

// strictDepth and strictProperties are the lowest limits that OpenAI has had.
const (
	strictDepth      = 5
	strictProperties = 100
)

// strict reports whether OpenAI accepts a schema in strict mode, in which the model's
// arguments always match it. Every argument must be required, no others may be
// allowed, and only the keywords above may be used.
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
		if s["additionalProperties"] != false || len(members) == 0 || depth > strictDepth ||
			properties > strictProperties {
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
