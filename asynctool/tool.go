// Package asynctool defines tools for a voice assistant. A tool is a Go value
// with a name, a description, an input struct and a function that may take
// minutes. It is the only package that the author of a tool imports.
//
//	type input struct {
//		City string `json:"city" jsonschema:"the city the caller asks about"`
//	}
//
//	var Weather = asynctool.Tool[input]{
//		Name:        "weather_report",
//		Description: "Fetches a detailed weather report. Takes about a minute.",
//		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
//			return asynctool.Text("It's sunny in " + in.City + "."), nil
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
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/internal/policy"
)

const (
	// DefaultTimeout bounds one attempt of a tool whose Timeout is 0.
	DefaultTimeout = 2 * time.Minute

	// MaxTimeout is the longest timeout of a tool. A Lambda function runs for
	// at most fifteen minutes (AWS Lambda quotas). The last minute is reserved
	// for sending the result.
	MaxTimeout = 14 * time.Minute

	// MaxAttempts is the largest number of attempts of a tool.
	MaxAttempts = 10

	// MaxDeadline is the longest deadline of a tool.
	MaxDeadline = 365 * 24 * time.Hour

	// MaxQuick is the longest Quick of a tool. API Gateway waits for an answer
	// for at most 30 seconds (Amazon API Gateway quotas).
	MaxQuick = 25 * time.Second

	// maxHold is how long a queue can delay a message (Amazon SQS quotas).
	maxHold = 15 * time.Minute
)

// Delivery is how the text of a result reaches the conversation.
type Delivery = policy.Delivery

const (
	// Respond adds the text to the conversation and makes the assistant answer
	// it in its own words. It is the default.
	Respond = policy.DeliveryRespond
	// Silent adds the text to the conversation without making the assistant
	// speak. The assistant knows the text, and uses it when it fits.
	Silent = policy.DeliverySilent
	// Say speaks the text word for word.
	Say = policy.DeliverySay
)

func validDelivery(d Delivery) bool {
	return d == "" || d == Respond || d == Silent || d == Say
}

// Tool is a tool of an assistant.
//
// In is the struct that the arguments are decoded into. The JSON schema that
// Vapi shows to the model is inferred from it: names from the `json` tags,
// descriptions from the `jsonschema` tags. A field is required unless it is
// marked omitempty or omitzero.
type Tool[In any] struct {
	// Name is the name by which the model calls the tool: 1 to 64 letters,
	// digits, _ and -. OpenAI limits the names of functions in this way, and
	// Vapi shares the limit. It must not start with a digit, because some models
	// refuse such a name (Gemini's documentation of function declarations).
	Name string

	// Description tells the model what the tool does and when to call it.
	// It must not be empty.
	Description string

	// Run does the work. Its context ends at the timeout. A Run that does not
	// return then is abandoned, and the attempt counts as failed.
	Run func(ctx context.Context, call Call, in In) (Result, error)

	// OnPost reads what an external system posts to [Call.CompletionURL], in the
	// system's own format. Nil means that the posts have the format that
	// CompletionURL describes.
	//
	// A text or an action is the job's result, and [Wait] ignores the post. Progress
	// can be reported with call. [Fail] ends the job with a failure, and [TryAgain]
	// makes OnPost read the post again. With any other error, the post is ignored and
	// the error logged. **Verify the post first**, such as with [HMAC] or
	// [StandardWebhooks], and check that it is about this job.
	//
	// The sender is answered before OnPost is called. OnPost takes [PostTimeout] at
	// most. It may be called several times for one post, in any order, and beside Run
	// and itself. The first result of a job counts, and after it, OnPost is not called.
	// call has the state of the last suspension.
	OnPost func(ctx context.Context, call Call, post Post) (Result, error)

	// Timeout bounds one attempt, up to [MaxTimeout]. 0 means [DefaultTimeout].
	Timeout time.Duration

	// Attempts is how often Run is started at most, up to [MaxAttempts]. A
	// crash of the process counts as an attempt, and an error of [NotStarted]
	// does not. 0 means 1: a tool is never repeated unless it allows that.
	Attempts int

	// Delivery applies to results that do not set their own. Empty means
	// [Respond], and so does [Say] for a result that an external system posts to
	// [Call.CompletionURL].
	Delivery Delivery

	// Deadline bounds how long the tool may wait and how old its result may
	// be when it is delivered. It counts from the tool call, and is at most
	// [MaxDeadline]. 0 means as long as the call can last. AfterCall handles
	// a result that is ready after the call has ended.
	Deadline time.Duration

	// Hold is spoken word for word if the tool takes longer than HoldAfter
	// and has not reported progress by then. Empty means nothing is spoken.
	Hold string

	// HoldAfter counts from the tool call. It is 1 second to 15 minutes if
	// Hold is set, and 0 otherwise.
	HoldAfter time.Duration

	// ExternalProgress is what the assistant does with progress that an external
	// system posts to [Call.CompletionURL]: with [Silent] it learns how far the
	// tool is and says nothing, and with [Respond] it tells the caller in its own
	// words. It is never spoken word for word, as with [Say]. Empty means [Silent].
	ExternalProgress Delivery

	// Repeat decides how to treat a tool call that asks for the same as an
	// unfinished one of the same conversation. Empty means [Allow].
	Repeat Repeat

	// SameAs returns a text that is equal for tool calls that ask for the
	// same. Nil compares the arguments. It requires a Repeat other than
	// [Allow].
	SameAs func(in In) string

	// StopWithCall ends the tool's context soon after its call has ended, and
	// keeps the tool from starting after that. False lets the tool run to its
	// end.
	StopWithCall bool

	// Cancellable lets the assistant cancel the tool with the ready-made tool
	// cancel_task. That ends the tool's context within seconds, or its wait, and
	// nothing more of it is delivered. What it has done is not undone.
	Cancellable bool

	// AfterCall decides what happens to a result whose call has ended. Empty
	// means [Announce].
	AfterCall AfterCall

	// FailureText is delivered if the tool failed and its error has no text
	// to speak. Empty means a neutral English sentence.
	FailureText string

	// Schema replaces the schema that is inferred from In. It is for tools
	// whose input is not known when the program is built. Its type must be
	// "object". Nil means the inferred schema.
	Schema *jsonschema.Schema

	// Refine changes the inferred schema. It is for what struct tags cannot
	// express: enums, formats, bounds. A format informs the model only; it is
	// not checked. Nil leaves the schema unchanged. Refine and Schema exclude
	// each other.
	//
	//	Refine: func(s *jsonschema.Schema) { s.Properties["size"].Enum = []any{"S", "M", "L"} }
	Refine func(s *jsonschema.Schema)

	// Static maps arguments that Vapi fills in to a text or a Liquid template
	// such as "{{customer.number}}". The model neither sees nor can change
	// them (Vapi's documentation: "Set static parameters"), so they are as
	// trustworthy as their source. Each must be an argument of the tool that
	// takes a string. Nil means none.
	//
	// Vapi has no value for some templates in some calls, such as a number that
	// the caller withholds. If the argument arrives empty, or with its template,
	// it is absent if its field is optional, and the tool fails otherwise.
	Static map[string]string

	// Encrypted names arguments that Vapi encrypts before it sends them, such as
	// "card", or "payment.card" inside an object (Vapi's documentation: "Tool
	// argument encryption"). Run gets their plain values. All that Ringback
	// stores, queues and logs is the encrypted ones. Each must take a string, and
	// must not be a static parameter. Nil means none, and there can be 10.
	//
	// A value that arrives as plain text is refused, and Run is not called, unless
	// it is empty. With the key that Ringback creates, a value has at most 190
	// bytes: RSA of 2048 bits, with OAEP and SHA-256.
	//
	// The same value is encrypted differently each time. So a Repeat other than
	// [Allow] needs a SameAs, which gets the encrypted values, and compares the
	// other arguments.
	Encrypted []string

	// HideArguments keeps the arguments out of the text around a result. False
	// names the model's own arguments there, in short, so that the assistant
	// recognises the answer to an outdated question. Static parameters and
	// Encrypted arguments are never named.
	HideArguments bool

	// SyncAck makes the tool synchronous at Vapi. The assistant waits some
	// milliseconds for the answer to the webhook and sees its placeholder
	// ("started; the result follows"), unless Quick is set. False makes the tool
	// async: the assistant does not wait, and sees Vapi's "Success.". The result
	// takes the same path in both cases.
	SyncAck bool

	// Settings are the names of the environment variables that the tool cannot work
	// without. If one of them is missing, Run is not called: the caller hears that the
	// service isn't available, and the log names the variable. The stack and ringback
	// doctor name it too, and ringback sync leaves the tool out. Nil means none.
	Settings []string

	// CheckSettings returns an error if the tool cannot work with the value of a setting.
	// It is a clause, such as "it is not a number", and blames the settings that were
	// looked up, or is that of [InvalidSetting], which names them. [errors.Join] joins
	// several. None of them must contain a value. Run is then not called, as if a setting
	// were missing, and the app cannot be deployed. Nil accepts every value.
	//
	// lookup returns the value of a setting. known is false if it is missing, or if only
	// the deployment knows it, as with a secret. An error about such a setting is ignored.
	//
	//	CheckSettings: httptool.CheckAddresses("ORDERS_API_URL"),
	CheckSettings func(lookup func(name string) (value string, known bool)) error

	// Getenv returns the value of a setting. Nil means [os.Getenv].
	Getenv func(name string) string

	// Quick is how long the answer to the webhook waits for the result, up to
	// [MaxQuick]. A result that is ready in time is the answer. Otherwise the
	// answer is the placeholder, and the result follows as a message. 0 means
	// that the answer does not wait.
	//
	// Vapi uses the answer if the tool has SyncAck, and in GPT-Live calls.
	// Otherwise Quick has no effect. An action, and a text that is spoken word
	// for word, is never in an answer.
	Quick time.Duration
}

// Repeat decides how to treat a tool call that asks for the same as another one.
type Repeat string

const (
	// Allow runs both. It is the default.
	Allow Repeat = "allow"
	// Join does not run the later one. The assistant learns that the result
	// of the earlier one answers both.
	Join Repeat = "join"
	// Replace ends the earlier one. Nothing more of it is delivered.
	Replace Repeat = "replace"
)

// AfterCall decides what happens to a result whose call has ended.
type AfterCall = policy.AfterCall

const (
	// Announce puts the result on the event bus, as an undelivered event. It
	// is the default.
	Announce AfterCall = "announce"
	// Drop discards the result.
	Drop = policy.AfterCallDrop
	// CallBack makes Vapi call the customer, with the result in the variables
	// of that call. If the deployment does not allow outbound calls, or the
	// call fails, the result becomes an undelivered event.
	CallBack = policy.AfterCallOutboundCall
	// NextCall keeps the result for the next call of the same customer, for
	// 30 days. Vapi's API must confirm both calls, so a deployment needs the
	// organisation's private key.
	NextCall = policy.AfterCallNextCall
)

// Definition is a [Tool] of any input type. If it has a method Source() string, the errors of [NewSet] begin with
// it, as with http.yaml:12.
type Definition interface {
	entry() (*Entry, error)
}

// Entry is a checked tool, with its defaults filled in. Its fields are those of [Tool], unless their comments say
// something else.
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
	Encrypted   []string          // paths of arguments that Vapi encrypts; may be nil
	SyncAck     bool
	Quick       time.Duration // 0: the answer does not wait

	HideArguments bool // keeps them out of the text around a result

	Settings []string // environment variables that the tool cannot work without; may be nil

	ExternalProgress Delivery // Silent or Respond

	Hold         string        // may be empty
	HoldAfter    time.Duration // 0 if Hold is empty
	Repeat       Repeat        // never empty
	StopWithCall bool
	Cancellable  bool
	AfterCall    AfterCall // never empty

	// Status marks [TaskStatus] and the tool [CancelTaskName]. They are answered
	// at once, and Run is never called.
	Status bool

	arguments *jsonschema.Resolved
	encrypted *jsonschema.Resolved // arguments, of which those in Encrypted may be anything
	run       func(context.Context, Call, json.RawMessage) (Result, error)
	onPost    func(context.Context, Call, Post) (Result, error)
	sameAs    func(json.RawMessage) (string, error) // nil: compare the arguments
	getenv    func(string) string

	checkValues func(lookup func(string) (string, bool)) error // of the settings; may be nil
}

const neutralFailure = "I'm sorry, I wasn't able to finish that."

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// consistsOf reports whether a name is not empty, and has only ASCII letters, ASCII digits, and the characters in
// others.
func consistsOf(name, others string) bool {
	return name != "" && strings.Trim(name, alphanumeric+others) == ""
}

func (t Tool[In]) entry() (*Entry, error) {
	if len(t.Name) > 64 || !consistsOf(t.Name, "_-") {
		return nil, fmt.Errorf("tool %q: the name must be 1 to 64 letters, digits, _ or -", t.Name)
	}
	if '0' <= t.Name[0] && t.Name[0] <= '9' {
		return nil, fmt.Errorf("tool %s: the name starts with a digit, which some models refuse; start it with a letter",
			t.Name)
	}
	e := &Entry{
		Name:        t.Name,
		Description: strings.TrimSpace(t.Description),
		Timeout:     cmp.Or(t.Timeout, DefaultTimeout),
		Attempts:    cmp.Or(t.Attempts, 1),
		Delivery:    cmp.Or(t.Delivery, Respond),
		Deadline:    t.Deadline,
		FailureText: cmp.Or(strings.TrimSpace(t.FailureText), neutralFailure),
		Schema:      t.Schema,
		Static:      maps.Clone(t.Static),
		Encrypted:   slices.Clone(t.Encrypted),
		SyncAck:     t.SyncAck,
		Quick:       t.Quick,

		HideArguments: t.HideArguments,

		ExternalProgress: cmp.Or(t.ExternalProgress, Silent),

		Hold:         strings.TrimSpace(t.Hold),
		HoldAfter:    t.HoldAfter,
		Repeat:       cmp.Or(t.Repeat, Allow),
		StopWithCall: t.StopWithCall,
		Cancellable:  t.Cancellable,
		AfterCall:    cmp.Or(t.AfterCall, Announce),

		run:    t.decodeAndRun,
		onPost: t.OnPost,
		getenv: t.Getenv,

		checkValues: t.CheckSettings,
	}
	if e.getenv == nil {
		e.getenv = os.Getenv
	}
	if t.SameAs != nil {
		e.sameAs = t.decodeAndCompare
	}
	err := t.check(e)
	if err == nil {
		e.Settings, err = settings(t.Settings)
	}
	if err == nil {
		err = t.prepareSchema(e)
	}
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", t.Name, err)
	}
	return e, nil
}

func (t Tool[In]) check(e *Entry) error {
	switch {
	case e.Description == "":
		return errors.New("the description is empty; say what the tool does and when to call it")
	case t.Run == nil:
		return errors.New("the Run function is missing")
	case e.Timeout < 0 || e.Timeout > MaxTimeout:
		return fmt.Errorf("the timeout is %s; it must be from 0 to %s", t.Timeout, MaxTimeout)
	case e.Attempts < 0 || e.Attempts > MaxAttempts:
		return fmt.Errorf("the number of attempts is %d; it must be from 0 to %d", t.Attempts, MaxAttempts)
	case e.Deadline < 0 || e.Deadline > MaxDeadline:
		return fmt.Errorf("the deadline is %s; it must be from 0 to %s", t.Deadline, MaxDeadline)
	case (e.Hold == "") != (e.HoldAfter == 0):
		return errors.New("only one of Hold and HoldAfter is set; set both or neither")
	case e.Hold != "" && (e.HoldAfter < time.Second || e.HoldAfter > maxHold):
		return fmt.Errorf("HoldAfter is %s; it must be from 1s to %s", t.HoldAfter, maxHold)
	case e.Repeat != Allow && e.Repeat != Join && e.Repeat != Replace:
		return fmt.Errorf("the repeat policy is %q; it must be allow, join or replace", t.Repeat)
	case t.SameAs != nil && e.Repeat == Allow:
		return errors.New("SameAs has no effect if Repeat is allow; set Repeat to join or replace")
	case t.SameAs == nil && e.Repeat != Allow && len(e.Encrypted) > 0:
		return fmt.Errorf("Repeat is %s, but no two tool calls are equal, as an encrypted value differs each time; "+
			"set SameAs to compare the other arguments", e.Repeat)
	case !slices.Contains([]AfterCall{Announce, Drop, CallBack, NextCall}, e.AfterCall):
		return fmt.Errorf("the after-call policy is %q; it must be announce, drop, call_back or next_call", t.AfterCall)
	case e.Quick < 0 || e.Quick > MaxQuick:
		return fmt.Errorf("Quick is %s; it must be from 0 to %s", t.Quick, MaxQuick)
	case e.Quick > 0 && e.Delivery == Say:
		return errors.New("Quick has no effect if the delivery is say, because an answer is not spoken word for word; " +
			"remove one of them")
	case !validDelivery(e.Delivery):
		return fmt.Errorf("the delivery is %q; it must be respond, silent or say", t.Delivery)
	case e.ExternalProgress != Silent && e.ExternalProgress != Respond:
		return fmt.Errorf("ExternalProgress is %q; it must be silent or respond, because an external system must not "+
			"speak for the assistant", t.ExternalProgress)
	case t.Schema != nil && t.Refine != nil:
		return errors.New("both Schema and Refine are set; change the Schema itself")
	}
	return nil
}

// prepareSchema infers and refines the schema, and checks it.
func (t Tool[In]) prepareSchema(e *Entry) (err error) {
	if e.Schema == nil {
		if e.Schema, err = jsonschema.For[In](nil); err != nil {
			return fmt.Errorf("cannot infer a JSON schema from its input: %w", err)
		}
	}
	if t.Refine != nil {
		if err := refine(t.Refine, e.Schema); err != nil {
			return err
		}
	}
	if e.Schema.Type != "object" {
		return errors.New("the input must be a struct, or a schema of type object")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Static)) {
		property := e.Schema.Properties[name]
		if property == nil {
			return fmt.Errorf("the static parameter %s is not an argument of the tool; add it to the input struct", name)
		}
		if property.Type != "string" && !slices.Contains(property.Types, "string") {
			return fmt.Errorf("the static parameter %s must be a string in the input struct", name)
		}
	}
	if e.arguments, err = e.Schema.CloneSchemas().Resolve(nil); err != nil {
		return fmt.Errorf("the JSON schema is not valid: %w", err)
	}
	return e.prepareEncrypted()
}

func (t Tool[In]) decodeAndRun(ctx context.Context, call Call, arguments json.RawMessage) (Result, error) {
	var in In
	if err := json.Unmarshal(arguments, &in); err != nil {
		// The schema allowed the arguments, but the Go type is narrower.
		return Result{}, &ArgumentError{Message: fmt.Sprintf("The tool %s was not run: %s. "+
			"Check it with the caller, then call %s again.", t.Name, narrower(err, len(t.Encrypted) > 0), t.Name)}
	}
	return t.Run(ctx, call, in)
}

func (t Tool[In]) decodeAndCompare(arguments json.RawMessage) (same string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("tool %s: its SameAs function panicked: %v", t.Name, p)
		}
	}()
	var in In
	if json.Unmarshal(arguments, &in) != nil { // its error may quote a value
		return "", errors.New("the arguments do not fit the input struct")
	}
	return t.SameAs(in), nil
}

// Question returns a key that is equal for tool calls of this tool that ask for
// the same. Arguments that violate the schema are an error, because the tool
// will not run with them. Those in Encrypted are still encrypted, so their values
// are not checked. The error quotes no argument.
func (e *Entry) Question(arguments json.RawMessage) (string, error) {
	object, same, err := e.decode(arguments)
	if err != nil {
		return "", fmt.Errorf("the arguments %w", err)
	}
	if e.checkStatic(object) != nil || e.encrypted.Validate(object) != nil {
		return "", errors.New("the arguments violate the schema")
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

// refine returns a panic as an error. The usual cause is a misspelt argument.
func refine(change func(*jsonschema.Schema), s *jsonschema.Schema) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its Refine function panicked: %v; does it name an argument that does not exist?", p)
		}
	}()
	change(s)
	return nil
}

// ModelSchema returns the schema of the arguments that the model fills in:
// Schema without the static parameters.
func (e *Entry) ModelSchema() *jsonschema.Schema {
	s := e.Schema.CloneSchemas()
	maps.DeleteFunc(s.Properties, func(name string, _ *jsonschema.Schema) bool { return e.isStatic(name) })
	s.Required = slices.DeleteFunc(slices.Clone(s.Required), e.isStatic)
	s.PropertyOrder = slices.DeleteFunc(slices.Clone(s.PropertyOrder), e.isStatic)
	return s
}

func (e *Entry) isStatic(name string) bool { _, ok := e.Static[name]; return ok }

// unfilled matches a part of a Liquid template that Vapi has not filled in.
var unfilled = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{\{[^{}]*\}\}`) })

// missingStatic returns why Vapi has no value for a static parameter, or "" if it
// has one. A value that is blank is one if the tool itself asks for it.
func (e *Entry) missingStatic(name string, value any) string {
	text, isText := value.(string)
	switch {
	case value == nil, isText && strings.TrimSpace(text) == "" && strings.TrimSpace(e.Static[name]) != "":
		return "is empty: Vapi has no value for it in this call"
	case isText && unfilled().MatchString(text):
		return "still has its template: Vapi did not fill it in"
	}
	return ""
}

// dropMissingStatic removes the static parameters for which Vapi has no value, if
// they are optional.
func (e *Entry) dropMissingStatic(arguments map[string]any) {
	for name := range e.Static {
		value, ok := arguments[name]
		if ok && !slices.Contains(e.Schema.Required, name) && e.missingStatic(name, value) != "" {
			delete(arguments, name)
		}
	}
}

// checkStatic returns an error for a static parameter that is missing or
// invalid. The error is final and not an [ArgumentError]: the model cannot
// correct it, and must not be asked to.
func (e *Entry) checkStatic(arguments map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(e.Static)) {
		value, ok := arguments[name]
		if !ok {
			if slices.Contains(e.Schema.Required, name) {
				return Fail("", fmt.Errorf(
					"the static parameter %s is missing: the tool at Vapi differs from this one; run ringback sync", name))
			}
			continue
		}
		if why := e.missingStatic(name, value); why != "" {
			return Fail("", fmt.Errorf("the static parameter %s %s; correct its template, or make the field optional",
				name, why))
		}
		if !accepts(e.Schema.Properties[name], value) {
			return Fail("", fmt.Errorf("the static parameter %s violates its schema", name))
		}
	}
	return nil
}

// Run checks the arguments, a JSON object, against the tool's schema and runs
// the tool. The arguments in Encrypted must be plain. It first corrects what the model wrote differently, if the schema
// leaves no doubt: it removes optional arguments that are null or blank, and
// converts numbers and booleans in a text, or a number for a text.
//
// If arguments violate the schema, Run returns an [*ArgumentError] and does not run
// the tool. A static parameter that violates it is a final failure, and so is a setting
// that is missing or invalid.
func (e *Entry) Run(ctx context.Context, call Call, arguments json.RawMessage) (Result, error) {
	if err := e.checkSettings(); err != nil {
		return Result{}, err
	}
	object, arguments, err := e.decode(arguments)
	if err != nil {
		return Result{}, &ArgumentError{Message: fmt.Sprintf(
			"The tool %s was not run: its arguments %v. Call %s again with its arguments as a JSON object.",
			e.Name, err, e.Name)}
	}
	if err := e.checkStatic(object); err != nil {
		return Result{}, err
	}
	if err := e.arguments.Validate(object); err != nil {
		return Result{}, &ArgumentError{Message: explain(e, object, err)}
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

// decode decodes a JSON object and normalises it. It also returns it as JSON in
// which every member occurs once. A map keeps the last of repeated members, but
// encoding/json merges them into a struct. Without this step, a tool could get a
// value that was never checked against the schema.
func (e *Entry) decode(arguments json.RawMessage) (map[string]any, json.RawMessage, error) {
	var exact, object map[string]any
	if !json.Valid(arguments) {
		return nil, nil, errors.New("are not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(arguments))
	d.UseNumber() // so that a long integer keeps its digits
	if err := d.Decode(&exact); err != nil || exact == nil {
		return nil, nil, errors.New("are not a JSON object")
	}
	normaliser{e.Schema}.object(e.Schema, exact, e.Static)
	e.dropMissingStatic(exact)
	once, err := json.Marshal(exact)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot be read: %w", err)
	}
	if err := json.Unmarshal(once, &object); err != nil {
		return nil, nil, errors.New("hold a number that is out of range")
	}
	return object, once, nil
}

// narrower explains why arguments that fit the schema do not fit the Go type. The text
// quotes no value if some of them are secret.
func narrower(err error, secret bool) string {
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) || t.Field == "" {
		if secret {
			return "its arguments cannot be used"
		}
		return fmt.Sprintf("its arguments cannot be used (%s)", bounded(err.Error(), 500))
	}
	if k := t.Type.Kind(); k >= reflect.Int && k <= reflect.Uint64 {
		return t.Field + " must be a whole number within its limits, in digits only"
	}
	return t.Field + " cannot be used as it is"
}

// Set is a set of checked tools.
type Set struct {
	entries []*Entry
	byName  map[string]*Entry
}

// NewSet checks tools and collects them. If one of them is Cancellable, it adds the
// tool [CancelTaskName]. Its error lists every tool that cannot be used, with the
// reason.
func NewSet(tools ...Definition) (*Set, error) {
	s := &Set{byName: make(map[string]*Entry, len(tools))}
	var errs []error
	var cancellable []any              // names
	sources := make(map[string]string) // by name
	for _, t := range tools {
		fail := func(err error) {
			if from := source(t); from != "" {
				err = fmt.Errorf("%s: %w", from, err)
			}
			errs = append(errs, err)
		}
		e, err := t.entry()
		if err != nil {
			fail(err)
			continue
		}
		if e.Name == CancelTaskName {
			fail(fmt.Errorf("tool %s: the name is reserved for the tool that cancels others; choose another name", e.Name))
			continue
		}
		if s.byName[e.Name] != nil {
			other := ""
			if from := sources[e.Name]; from != "" {
				other = "; the other one is at " + from
			} else if source(t) != "" {
				other = "; the other one is in Go"
			}
			fail(fmt.Errorf("tool %s: two tools have this name%s", e.Name, other))
			continue
		}
		sources[e.Name] = source(t)
		if e.Cancellable {
			cancellable = append(cancellable, e.Name)
		}
		s.add(e)
	}
	if len(cancellable) > 0 {
		e, err := cancelTask(cancellable)
		if err != nil {
			errs = append(errs, err)
		} else {
			s.add(e)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// source returns the place where a tool is declared, or an empty text if it is unknown.
func source(t Definition) string {
	if declared, ok := t.(interface{ Source() string }); ok {
		return declared.Source()
	}
	return ""
}

func (s *Set) add(e *Entry) {
	s.byName[e.Name] = e
	s.entries = append(s.entries, e)
}

// Lookup returns the tool with exactly this name, and reports whether there is
// one.
func (s *Set) Lookup(name string) (*Entry, bool) {
	e, ok := s.byName[name]
	return e, ok
}

// Similar returns the tool that a name means, and reports whether there is one. The two
// names differ, but only in a prefix, in hyphens, underscores and dots, or in case. Models
// and gateways add such prefixes, as in functions.order_status.
func (s *Set) Similar(name string) (*Entry, bool) {
	words := nameWords(name)
	for _, e := range s.entries {
		known := nameWords(e.Name)
		if e.Name != name && (strings.Join(words, "") == strings.Join(known, "") ||
			hasSuffix(words, known) || hasSuffix(known, words)) {
			return e, true
		}
	}
	return nil, false
}

// nameWords returns the words of a tool's name, in lower case.
func nameWords(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("-_.:/", r) })
}

// hasSuffix reports whether the last words are those of suffix, which is not empty.
func hasSuffix(words, suffix []string) bool {
	return len(suffix) > 0 && len(suffix) <= len(words) && slices.Equal(words[len(words)-len(suffix):], suffix)
}

// Entries returns the tools in the order in which they were passed to [NewSet], and
// then the tool that it added.
func (s *Set) Entries() []*Entry { return slices.Clone(s.entries) }

// MaxTimeout returns the longest timeout of the tools, or 0 if there are none. It
// determines the timeout of the process function.
func (s *Set) MaxTimeout() time.Duration {
	var longest time.Duration
	for _, e := range s.entries {
		longest = max(longest, e.Timeout)
	}
	return longest
}

// Quick returns the Quick of each tool that has one, by the tool's name. The function
// that answers webhooks needs it.
func (s *Set) Quick() map[string]time.Duration {
	quick := make(map[string]time.Duration)
	for _, e := range s.entries {
		if e.Quick > 0 {
			quick[e.Name] = e.Quick
		}
	}
	return quick
}

// LongerThan returns the names of the tools whose timeout is longer than d, in the
// order in which they were passed to [NewSet]. Their jobs have a queue of their own.
func (s *Set) LongerThan(d time.Duration) []string {
	var names []string
	for _, e := range s.entries {
		if e.Timeout > d {
			names = append(names, e.Name)
		}
	}
	return names
}

// Encrypted returns the paths of the encrypted arguments of each tool that has some, by
// the tool's name.
func (s *Set) Encrypted() map[string][]string {
	encrypted := make(map[string][]string)
	for _, e := range s.entries {
		if len(e.Encrypted) > 0 {
			encrypted[e.Name] = slices.Clone(e.Encrypted)
		}
	}
	return encrypted
}

// MaxAttempts returns the largest number of attempts of the tools, or 0 if there
// are none. It determines how often a job's message may be received.
func (s *Set) MaxAttempts() int {
	var most int
	for _, e := range s.entries {
		most = max(most, e.Attempts)
	}
	return most
}
