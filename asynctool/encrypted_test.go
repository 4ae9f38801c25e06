package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

type paymentInput struct {
	Order   string  `json:"order"`
	Card    string  `json:"card" jsonschema:"the card's number"`
	Number  int     `json:"number,omitempty"`
	Caller  string  `json:"caller,omitempty"`
	Phone   *string `json:"phone,omitempty"`
	Payment *struct {
		IBAN   string   `json:"iban"`
		Amount float64  `json:"amount,omitempty"`
		Notes  []string `json:"notes,omitempty"`
	} `json:"payment,omitempty"`
	Due time.Time `json:"due,omitzero"`
}

type payment = asynctool.Tool[paymentInput]

func paymentTool(change func(*payment)) payment {
	tool := payment{
		Name: "pay", Description: "Pays an order.", Encrypted: []string{"card", "payment.iban"},
		Refine: func(s *jsonschema.Schema) { s.Properties["card"].Pattern = "^[0-9]{16}$" },
		Run: func(_ context.Context, _ asynctool.Call, in paymentInput) (asynctool.Result, error) {
			return asynctool.Text("Paid."), nil
		},
	}
	if change != nil {
		change(&tool)
	}
	return tool
}

func paymentEntry(t *testing.T, change func(*payment)) *asynctool.Entry {
	t.Helper()
	set, err := asynctool.NewSet(paymentTool(change))
	if err != nil {
		t.Fatal(err)
	}
	return set.Entries()[0]
}

func TestEncryptedDefinitions(t *testing.T) {
	for name, row := range map[string]struct {
		encrypted []string
		change    func(*payment)
		want      string // empty means that the tool is valid
	}{
		"an argument":               {encrypted: []string{"card"}},
		"in an object":              {encrypted: []string{"payment.iban"}},
		"an optional one":           {encrypted: []string{"phone"}},
		"unknown":                   {encrypted: []string{"cvc"}, want: "cvc is not an argument"},
		"unknown in an object":      {encrypted: []string{"payment.cvc"}, want: "payment.cvc is not an argument"},
		"in another case":           {encrypted: []string{"Card"}, want: "Card is not an argument"},
		"in a list":                 {encrypted: []string{"payment.notes.0"}, want: "payment.notes.0 is not an argument"},
		"in a text":                 {encrypted: []string{"card.x"}, want: "card.x is not an argument"},
		"nothing":                   {encrypted: []string{""}, want: " is not an argument"},
		"JSONPath":                  {encrypted: []string{"$.card"}, want: "$.card is not an argument"},
		"a number":                  {encrypted: []string{"number"}, want: "number must be a string"},
		"an object":                 {encrypted: []string{"payment"}, want: "payment must be a string"},
		"a list":                    {encrypted: []string{"payment.notes"}, want: "payment.notes must be a string"},
		"twice":                     {encrypted: []string{"card", "card"}, want: "card is named twice"},
		"too many":                  {encrypted: make([]string, 11), want: "11 encrypted arguments; there can be 10"},
		"and static":                {encrypted: []string{"caller"}, change: static, want: "is a static parameter"},
		"with a Repeat":             {encrypted: []string{"card"}, change: join, want: "set SameAs"},
		"with a Repeat and SameAs":  {encrypted: []string{"card"}, change: sameOrder},
		"a Repeat without the rest": {change: join},
	} {
		t.Run(name, func(t *testing.T) {
			tool := paymentTool(row.change)
			tool.Encrypted = row.encrypted
			set, err := asynctool.NewSet(tool)
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, want %s", err, row.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := set.Encrypted()["pay"]; strings.Join(got, " ") != strings.Join(row.encrypted, " ") {
				t.Errorf("the set names %q", got)
			}
		})
	}
}

func static(p *payment) { p.Static = map[string]string{"caller": "x"} }
func join(p *payment)   { p.Repeat = asynctool.Join }

func sameOrder(p *payment) {
	p.Repeat, p.SameAs = asynctool.Replace, func(in paymentInput) string { return in.Order }
}

// TestQuestionOfEncryptedArguments: what is compared is still encrypted, and does not fit the schema.
func TestQuestionOfEncryptedArguments(t *testing.T) {
	e := paymentEntry(t, sameOrder)
	question := func(arguments string) string {
		t.Helper()
		key, err := e.Question(json.RawMessage(arguments))
		if err != nil {
			t.Fatalf("%s: %v", arguments, err)
		}
		return key
	}
	first := question(`{"order":"A-1","card":"ZCT0EvFk"}`)
	if first != question(`{"order":"A-1","card":"Q2hhbmdl"}`) || first == question(`{"order":"A-2","card":"ZCT0EvFk"}`) {
		t.Error("SameAs does not decide")
	}
	for _, broken := range []string{
		`{"card":"ZCT0EvFk"}`, `{"order":["A-1"],"card":"ZCT0EvFk"}`, `{"order":"A-1","card":["x"]}`,
	} {
		if _, err := e.Question(json.RawMessage(broken)); err == nil {
			t.Errorf("%s fits the schema", broken)
		}
	}
}

func TestAskedHidesEncryptedArguments(t *testing.T) {
	e := paymentEntry(t, nil)
	for _, arguments := range []string{
		`{"order":"A-1","card":"planted"}`, // in plain text, against the deployment's configuration
		`{"order":"A-1","payment":{"iban":"planted"}}`,
		`{"order":"A-1","payment":{"IBAN":"planted"}}`,
		`{"order":"A-1","payment":"{\"iban\":\"planted\"}"}`,
		`{"order":"A-1","payment":[{"iban":"planted"}]}`,
		`{"order":"A-1","card":{"number":"planted"}}`,
	} {
		if got := e.Asked(json.RawMessage(arguments)); got != `{"order":"A-1"}` {
			t.Errorf("%s: %s", arguments, got)
		}
	}
}

// TestErrorsOfEncryptedArguments: the decrypted values are checked, and no text for the model quotes them.
func TestErrorsOfEncryptedArguments(t *testing.T) {
	rule := func(p *payment) {
		p.Refine = func(s *jsonschema.Schema) {
			card := &jsonschema.Schema{Const: jsonschema.Ptr[any]("planted")}
			s.Not = &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{"card": card}}
		}
	}
	for name, row := range map[string]struct {
		arguments string
		change    func(*payment)
		want      string // part of the error; empty means that the tool runs
	}{
		"valid":           {arguments: `{"order":"A-1","card":"4111111111111111"}`},
		"a pattern":       {arguments: `{"order":"A-1","card":"planted"}`, want: `card (the card's number) must be`},
		"a type":          {arguments: `{"order":"A-1","card":["planted"]}`, want: "card (the card's number) must be a text"},
		"missing":         {arguments: `{"order":"A-1"}`, want: "card (the card's number) is missing"},
		"a rule":          {arguments: `{"order":"A-1","card":"planted"}`, change: rule, want: "do not fit together"},
		"the Go type":     {arguments: `{"order":"A-1","card":"4111111111111111","due":"planted"}`, want: "cannot be used"},
		"the unknown one": {arguments: `{"order":"A-1","card":"4111111111111111","x":"planted"}`, want: "x is not among"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := paymentEntry(t, row.change).Run(t.Context(), asynctool.Call{}, json.RawMessage(row.arguments))
			var argument *asynctool.ArgumentError
			switch {
			case row.want == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &argument) || !strings.Contains(argument.Message, row.want):
				t.Errorf("%v, want %s", err, row.want)
			case strings.Contains(fmt.Sprintf("%v %+v %s", err, err, argument.Message), "planted"):
				t.Errorf("the text quotes a value: %v", err)
			}
		})
	}
}
