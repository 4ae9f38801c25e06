// Package asynctool is how a tool for a voice assistant is defined: a Go value
// with a name, a description, an input struct and a function that may take
// minutes. It is the only package that a tool's author has to import.
//
//	type input struct {
//		City string `json:"city" jsonschema:"the city the caller asks about"`
//	}
//
//	var Weather = asynctool.Tool[input]{
//		Name:        "weather_report",
//		Description: "Fetches a detailed weather report. Takes about a minute.",
//		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
//			return asynctool.Text("It is sunny in " + in.City + "."), nil
//		},
//	}
package asynctool

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

const (
	// DefaultTimeout bounds one attempt of a tool that names no timeout.
	DefaultTimeout = 2 * time.Minute

	// MaxTimeout is the longest timeout a tool may name: a Lambda function
	// lives at most fifteen minutes (AWS Lambda quotas), and the last of
	// them is kept for telling the caller how it ended.
	MaxTimeout = 14 * time.Minute

	// MaxAttempts is the largest number of attempts a tool may name.
	MaxAttempts = 10
)

// Delivery says how a result's text reaches the conversation.
type Delivery string

const (
	// Respond puts the text into the conversation and lets the assistant
	// answer to it, in its own words. It is what an empty Delivery means.
	Respond Delivery = "respond"
	// Silent puts the text into the conversation without making the
	// assistant speak: it knows, and uses it when it fits.
	Silent Delivery = "silent"
	// Say has the text spoken word for word.
	Say Delivery = "say"
)

func (d Delivery) valid() bool {
	return d == "" || d == Respond || d == Silent || d == Say
}

// Tool is one tool of an assistant. In is the struct that its arguments are
// decoded into; the JSON schema that Vapi shows to the model is inferred from
// it: names from the `json` tags, descriptions from the `jsonschema` tags, and
// a field is required unless it is marked omitempty or omitzero.
type Tool[In any] struct {
	// Name is what the model calls: letters, digits, _ and -, 1 to 64 of
	// them (the limit that OpenAI's function names have, which Vapi keeps).
	Name string

	// Description tells the model what the tool does and when to call it.
	// It may not be empty.
	Description string

	// Run does the work. Its context ends at the timeout; a Run that goes
	// on after that is abandoned, and counts as failed.
	Run func(ctx context.Context, call Call, in In) (Result, error)

	// Timeout bounds one attempt. 0 means [DefaultTimeout]; the most is
	// [MaxTimeout].
	Timeout time.Duration

	// Attempts is how often Run is started at most, crashes of the process
	// included. 0 means 1: a tool that does not say that it may be repeated
	// never is. The most is [MaxAttempts].
	Attempts int

	// Delivery is how the result reaches the conversation where the result
	// itself does not say. Empty means [Respond].
	Delivery Delivery

	// Deadline is how long after the tool call its result may still be
	// told, and how long it may wait. 0 means as long as the call can last;
	// the most is [MaxDeadline]. A result that comes when the call has ended
	// is treated as AfterCall says.
	Deadline time.Duration

	// Hold is told word for word if the tool takes longer than HoldAfter,
	// unless it has told of its progress itself. Empty means that nothing is.
	Hold string

	// HoldAfter is counted from the tool call: a second to 15 minutes. It
	// must be there with Hold, and is not without.
	HoldAfter time.Duration

	// Repeat says what becomes of a tool call that asks the same as another
	// one of the same conversation that is not over. Empty means [Allow].
	Repeat Repeat

	// SameAs gives a text that is the same for tool calls that ask the same.
	// Nil means that their arguments must be the same. It needs a Repeat
	// other than [Allow].
	SameAs func(in In) string

	// StopWithCall says that the tool's context ends soon after its call has,
	// and that it is not started after that. False means that it runs to
	// its end, whoever is there to hear of it.
	StopWithCall bool

	// AfterCall says what becomes of a result that comes when the call has
	// ended. Empty means [Announce].
	AfterCall AfterCall

	// FailureText is told when the tool failed and its error carried no
	// text fit to be spoken. Empty means a neutral English sentence.
	FailureText string

	// Schema replaces the schema inferred from In, for tools whose input is
	// not known when the program is built. Nil means inferred. Its type
	// must be "object".
	Schema *jsonschema.Schema

	// Refine changes the schema inferred from In, for what struct tags
	// cannot say: enums, formats, bounds. A format only tells the model what
	// to send; it is not checked. Nil means that the schema stays as it is
	// inferred. It cannot be used together with Schema.
	//
	//	Refine: func(s *jsonschema.Schema) { s.Properties["size"].Enum = []any{"S", "M", "L"} }
	Refine func(s *jsonschema.Schema)

	// Static are arguments that Vapi fills in, by name: a text, or a Liquid
	// template such as "{{customer.number}}". The model neither sees them
	// nor can change them (Vapi's documentation: "Set static parameters"),
	// so a tool may trust them as far as their source. Each must be an
	// argument of the tool that takes a text. Nil means none.
	Static map[string]string

	// SyncAck says that the tool is not async at Vapi: the assistant waits
	// for the webhook's answer, milliseconds, and sees its placeholder
	// ("started; the result follows"). False means async: the assistant
	// does not wait, and sees Vapi's "Success.". The result takes the same
	// way in both.
	SyncAck bool
}

// MaxDeadline is the longest deadline a tool may name.
const MaxDeadline = 365 * 24 * time.Hour

// maxHold is how long a queue can hold a message back (Amazon SQS quotas).
const maxHold = 15 * time.Minute

// Repeat says what becomes of a tool call that asks the same as another one.
type Repeat string

const (
	// Allow has both run. It is what an empty Repeat means.
	Allow Repeat = "allow"
	// Join has the later one not run: the assistant is told that the result
	// of the earlier one answers both.
	Join Repeat = "join"
	// Replace ends the earlier one, of which nothing is told any more.
	Replace Repeat = "replace"
)

// AfterCall says what becomes of a result whose call has ended.
type AfterCall string

const (
	// Announce puts the result on the event bus, as undelivered. It is what
	// an empty AfterCall means.
	Announce AfterCall = "announce"
	// Drop forgets it.
	Drop AfterCall = "drop"
	// CallBack has Vapi call the customer, with the result in the call's
	// variables, where calling back is switched on in the deployment. It is
	// announced where that is not so, or fails.
	CallBack AfterCall = "call_back"
	// NextCall keeps it for the same customer's next call, for 30 days.
	NextCall AfterCall = "next_call"
)

// Definition is a [Tool] of any input type.
type Definition interface {
	entry() (*Entry, error)
}

// Entry is a tool that was checked and is ready to run.
type Entry struct {
	Name        string
	Description string
	Timeout     time.Duration // never 0
	Attempts    int           // never 0
	Delivery    Delivery      // never empty
	Deadline    time.Duration // 0: as long as the call can last
	FailureText string        // never empty
	Schema      *jsonschema.Schema
	Static      map[string]string // arguments that Vapi fills in; may be nil
	SyncAck     bool

	Hold         string        // may be empty
	HoldAfter    time.Duration // 0 only where Hold is empty
	Repeat       Repeat        // never empty
	StopWithCall bool
	AfterCall    AfterCall // never empty

	// Status says that it is [TaskStatus]: it is answered at once, and Run
	// is never called.
	Status bool

	arguments *jsonschema.Resolved
	run       func(context.Context, Call, json.RawMessage) (Result, error)
	sameAs    func(json.RawMessage) (string, error) // nil: the arguments
}

const neutralFailure = "I am sorry, this could not be finished."

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func (t Tool[In]) entry() (*Entry, error) {
	e := &Entry{
		Name:        t.Name,
		Description: strings.TrimSpace(t.Description),
		Timeout:     t.Timeout,
		Attempts:    t.Attempts,
		Delivery:    t.Delivery,
		Deadline:    t.Deadline,
		FailureText: strings.TrimSpace(t.FailureText),
		Schema:      t.Schema,
		Static:      maps.Clone(t.Static),
		SyncAck:     t.SyncAck,

		Hold:         strings.TrimSpace(t.Hold),
		HoldAfter:    t.HoldAfter,
		Repeat:       cmp.Or(t.Repeat, Allow),
		StopWithCall: t.StopWithCall,
		AfterCall:    cmp.Or(t.AfterCall, Announce),
	}
	if e.Timeout == 0 {
		e.Timeout = DefaultTimeout
	}
	if e.Attempts == 0 {
		e.Attempts = 1
	}
	if e.Delivery == "" {
		e.Delivery = Respond
	}
	if e.FailureText == "" {
		e.FailureText = neutralFailure
	}
	switch {
	case !namePattern.MatchString(t.Name):
		return nil, fmt.Errorf("tool %q: the name must be 1 to 64 letters, digits, _ or -", t.Name)
	case e.Description == "":
		return nil, fmt.Errorf("tool %s: the description is empty; say what the tool does and when to call it", t.Name)
	case t.Run == nil:
		return nil, fmt.Errorf("tool %s: Run is missing", t.Name)
	case e.Timeout < 0 || e.Timeout > MaxTimeout:
		return nil, fmt.Errorf("tool %s: the timeout is %s; it must be between 0 and %s", t.Name, t.Timeout, MaxTimeout)
	case e.Attempts < 0 || e.Attempts > MaxAttempts:
		return nil, fmt.Errorf("tool %s: %d attempts; it must be between 0 and %d", t.Name, t.Attempts, MaxAttempts)
	case e.Deadline < 0 || e.Deadline > MaxDeadline:
		return nil, fmt.Errorf("tool %s: the deadline is %s; it must be between 0 and %s", t.Name, t.Deadline, MaxDeadline)
	case (e.Hold == "") != (e.HoldAfter == 0):
		return nil, fmt.Errorf("tool %s: Hold and HoldAfter need each other", t.Name)
	case e.Hold != "" && (e.HoldAfter < time.Second || e.HoldAfter > maxHold):
		return nil, fmt.Errorf("tool %s: HoldAfter is %s; it must be between a second and %s", t.Name, t.HoldAfter, maxHold)
	case e.Repeat != Allow && e.Repeat != Join && e.Repeat != Replace:
		return nil, fmt.Errorf("tool %s: Repeat is %q; it must be allow, join or replace", t.Name, t.Repeat)
	case t.SameAs != nil && e.Repeat == Allow:
		return nil, fmt.Errorf("tool %s: SameAs means nothing while Repeat is allow; set it to join or replace", t.Name)
	case !slices.Contains([]AfterCall{Announce, Drop, CallBack, NextCall}, e.AfterCall):
		return nil, fmt.Errorf("tool %s: AfterCall is %q; it must be announce, drop, call_back or next_call", t.Name, t.AfterCall)
	case !e.Delivery.valid():
		return nil, fmt.Errorf("tool %s: the delivery is %q; it must be respond, silent or say", t.Name, t.Delivery)
	}
	var err error
	if e.Schema == nil {
		if e.Schema, err = jsonschema.For[In](nil); err != nil {
			return nil, fmt.Errorf("tool %s: no JSON schema can be made of its input: %w", t.Name, err)
		}
	} else if t.Refine != nil {
		return nil, fmt.Errorf("tool %s: it has both Schema and Refine; change the Schema itself", t.Name)
	}
	if t.Refine != nil {
		if err := refine(t.Refine, e.Schema); err != nil {
			return nil, fmt.Errorf("tool %s: %w", t.Name, err)
		}
	}
	if e.Schema.Type != "object" {
		return nil, fmt.Errorf("tool %s: the input must be a struct, or a schema of type object", t.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Static)) {
		property := e.Schema.Properties[name]
		if property == nil {
			return nil, fmt.Errorf("tool %s: the static parameter %s is no argument of the tool; add it to the input struct", t.Name, name)
		}
		if property.Type != "string" && !slices.Contains(property.Types, "string") {
			return nil, fmt.Errorf("tool %s: the static parameter %s must be a string in the input struct", t.Name, name)
		}
	}
	if e.arguments, err = e.Schema.CloneSchemas().Resolve(nil); err != nil {
		return nil, fmt.Errorf("tool %s: the JSON schema is not valid: %w", t.Name, err)
	}
	e.run = func(ctx context.Context, call Call, arguments json.RawMessage) (Result, error) {
		var in In
		if err := json.Unmarshal(arguments, &in); err != nil {
			// The schema said yes, but the Go type is narrower.
			return Result{}, &ArgumentError{Message: fmt.Sprintf(
				"The tool %s was not run: %s. Check it with the caller, then call %s again.", t.Name, narrower(err), t.Name)}
		}
		return t.Run(ctx, call, in)
	}
	if t.SameAs != nil {
		e.sameAs = func(arguments json.RawMessage) (same string, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("tool %s: its SameAs panicked: %v", t.Name, p)
				}
			}()
			var in In
			if json.Unmarshal(arguments, &in) != nil { // its error may quote a value
				return "", errors.New("the arguments do not fit the input struct")
			}
			return t.SameAs(in), nil
		}
	}
	return e, nil
}

// Question gives a key that is the same for tool calls of the tool that ask the
// same. Arguments that break the schema ask nothing: the tool will not run. Its
// error quotes no argument.
func (e *Entry) Question(arguments json.RawMessage) (string, error) {
	object, same, err := decodeObject(arguments)
	if err != nil {
		return "", fmt.Errorf("the arguments %w", err)
	}
	if e.arguments.Validate(object) != nil {
		return "", errors.New("the arguments break the schema")
	}
	if e.sameAs != nil {
		text, err := e.sameAs(same)
		if err != nil {
			return "", err
		}
		same = []byte(text)
	}
	sum := sha256.Sum256(slices.Concat([]byte(e.Name), []byte{0}, same))
	return hex.EncodeToString(sum[:]), nil
}

// refine turns a panic, of which a misspelt field is the usual cause, into an
// error that names the tool.
func refine(change func(*jsonschema.Schema), s *jsonschema.Schema) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its Refine panicked: %v; does it name an argument that is not there?", p)
		}
	}()
	change(s)
	return nil
}

// ModelSchema is the schema of the arguments that the model gives: Schema
// without the static ones.
func (e *Entry) ModelSchema() *jsonschema.Schema {
	s := e.Schema.CloneSchemas()
	isStatic := func(name string) bool { _, ok := e.Static[name]; return ok }
	maps.DeleteFunc(s.Properties, func(name string, _ *jsonschema.Schema) bool { return isStatic(name) })
	s.Required = slices.DeleteFunc(slices.Clone(s.Required), isStatic)
	s.PropertyOrder = slices.DeleteFunc(slices.Clone(s.PropertyOrder), isStatic)
	return s
}

// checkStatic says which static parameter did not arrive as it should. The
// model cannot mend that, and must not be asked to try.
func (e *Entry) checkStatic(arguments map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(e.Static)) {
		value, ok := arguments[name]
		switch {
		case !ok && slices.Contains(e.Schema.Required, name):
			return Fail("", fmt.Errorf("the static parameter %s is missing: the tool at Vapi differs from this one; run ringback sync", name))
		case ok && !accepts(e.Schema.Properties[name], value):
			return Fail("", fmt.Errorf("the static parameter %s is not what its schema takes", name))
		}
	}
	return nil
}

// Run checks the arguments, a JSON object, against the tool's schema and runs
// the tool. Arguments that break the schema give an [*ArgumentError], and the
// tool is not run. A static parameter that breaks it is a final failure.
func (e *Entry) Run(ctx context.Context, call Call, arguments json.RawMessage) (Result, error) {
	object, arguments, err := decodeObject(arguments)
	if err != nil {
		return Result{}, &ArgumentError{Message: fmt.Sprintf(
			"The tool %s was not run: its arguments %v. Call %s again with a JSON object of its arguments.", e.Name, err, e.Name)}
	}
	if err := e.checkStatic(object); err != nil {
		return Result{}, err
	}
	if err := e.arguments.Validate(object); err != nil {
		return Result{}, &ArgumentError{Message: explain(e.Name, e.Schema, object, err)}
	}
	result, err := e.run(ctx, call, arguments)
	if err != nil {
		return Result{}, err
	}
	if err := result.check(); err != nil {
		return Result{}, fmt.Errorf("tool %s: its result cannot be delivered: %w", e.Name, err)
	}
	if result.Delivery == "" && result.Later == nil {
		result.Delivery = e.Delivery
	}
	return result, nil
}

// decodeObject reads one JSON object, and gives it back both decoded and as
// JSON in which every member stands once. Of repeated members a map keeps the
// last, but encoding/json merges them into a struct: without this, a tool could
// get a value that the schema never saw.
func decodeObject(arguments json.RawMessage) (map[string]any, json.RawMessage, error) {
	var exact, object map[string]any
	if !json.Valid(arguments) {
		return nil, nil, errors.New("are not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(arguments))
	d.UseNumber() // so that a long integer keeps its digits
	if err := d.Decode(&exact); err != nil || exact == nil {
		return nil, nil, errors.New("are not a JSON object")
	}
	once, err := json.Marshal(exact)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot be read: %w", err)
	}
	if err := json.Unmarshal(once, &object); err != nil {
		return nil, nil, errors.New("hold a number that is out of range")
	}
	return object, once, nil
}

// narrower words why arguments that fit the schema do not fit the Go type.
func narrower(err error) string {
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) || t.Field == "" {
		return fmt.Sprintf("its arguments cannot be used (%s)", bounded(err.Error(), 500))
	}
	if k := t.Type.Kind(); k >= reflect.Int && k <= reflect.Uint64 {
		return t.Field + " must be a whole number within its limits, in digits only"
	}
	return t.Field + " cannot be used as it was given"
}

// Set is the tools of a program, found by name.
type Set struct {
	entries []*Entry
	byName  map[string]*Entry
}

// NewSet checks the tools and collects them. Its error names every tool that
// cannot be used, and why.
func NewSet(tools ...Definition) (*Set, error) {
	s := &Set{byName: make(map[string]*Entry, len(tools))}
	var errs []error
	for _, t := range tools {
		e, err := t.entry()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.byName[e.Name] != nil {
			errs = append(errs, fmt.Errorf("tool %s: two tools have this name", e.Name))
			continue
		}
		s.byName[e.Name] = e
		s.entries = append(s.entries, e)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Lookup finds a tool by its exact name.
func (s *Set) Lookup(name string) (*Entry, bool) {
	e, ok := s.byName[name]
	return e, ok
}

// Entries are the tools in the order they were given.
func (s *Set) Entries() []*Entry { return slices.Clone(s.entries) }

// MaxTimeout is the longest timeout of the tools, 0 where there are none. It
// bounds how long the process function must live.
func (s *Set) MaxTimeout() time.Duration {
	var longest time.Duration
	for _, e := range s.entries {
		longest = max(longest, e.Timeout)
	}
	return longest
}

// MaxAttempts is the largest number of attempts of the tools, 0 where there
// are none. It bounds how often a job may be received.
func (s *Set) MaxAttempts() int {
	var most int
	for _, e := range s.entries {
		most = max(most, e.Attempts)
	}
	return most
}
