package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ringback/ringback/asynctool"
)

// A tool that polls until something is ready. Nothing runs, and nothing is paid
// for, between its runs.
func ExampleResumeIn() {
	type input struct {
		Contract string `json:"contract" jsonschema:"the contract's number"`
	}
	type state struct {
		Check string `json:"check"` // the check's id at the office
	}
	// The answers of the office, one for each request.
	answers := []string{"queued", "half done", "no entries"}
	creditCheck := asynctool.Tool[input]{
		Name:        "credit_check",
		Description: "Asks the office for a credit check. Takes up to two days.",
		Deadline:    48 * time.Hour,
		AfterCall:   asynctool.CallBack,
		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			if call.Resumes == 0 {
				// The key keeps it one check if this run is repeated.
				return asynctool.ResumeIn(time.Minute, state{Check: "check-" + call.IdempotencyKey()}), nil
			}
			s, err := asynctool.State[state](call)
			if err != nil {
				return asynctool.Result{}, err
			}
			if answer := answers[call.Resumes-1]; answer != "no entries" {
				call.Note(ctx, "The credit check is "+answer+".")
				return asynctool.ResumeIn(time.Hour, s), nil
			}
			return asynctool.Textf("Credit check %s for contract %s found no entries.", s.Check, in.Contract), nil
		},
	}

	// Ringback runs the tool like this, with the delays between the runs:
	set, err := asynctool.NewSet(creditCheck)
	if err != nil {
		fmt.Println(err)
		return
	}
	tool, _ := set.Lookup("credit_check")
	call := asynctool.Call{ID: "call-1", ToolCallID: "t1", Attempt: 1}
	for {
		result, err := tool.Run(context.Background(), call, json.RawMessage(`{"contract":"C-7"}`))
		if err != nil || result.Later == nil {
			fmt.Println(result.Text, err)
			return
		}
		call.Resumes++
		if call.State, err = result.Later.Memory(); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("resumes in", result.Later.In, "with", string(call.State))
	}
	// Output:
	// resumes in 1m0s with {"check":"check-call-1/t1"}
	// resumes in 1h0m0s with {"check":"check-call-1/t1"}
	// resumes in 1h0m0s with {"check":"check-call-1/t1"}
	// Credit check check-call-1/t1 for contract C-7 found no entries. <nil>
}

// A tool that passes its job to an external system, which posts the result when it
// is ready.
func ExampleWait() {
	type input struct {
		Amount int `json:"amount" jsonschema:"the refund in euros"`
	}
	refund := asynctool.Tool[input]{
		Name:        "refund",
		Description: "Asks a manager to approve a refund. Takes up to a day.",
		Deadline:    24 * time.Hour,
		AfterCall:   asynctool.NextCall,
		FailureText: "I'm sorry, the refund hasn't been decided yet.",
		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			completion, err := call.CompletionURL(ctx)
			if err != nil {
				return asynctool.Result{}, err
			}
			if err := askManager(ctx, in.Amount, completion); err != nil {
				return asynctool.Result{}, asynctool.TryAgain(0, "", err)
			}
			call.Progress(ctx, "I've asked the manager.")
			// The manager's program posts {"result":"The refund is approved."}.
			return asynctool.Wait(), nil
		},
	}
	set, err := asynctool.NewSet(refund)
	fmt.Println(set.Entries()[0].Name, err)
	// Output: refund <nil>
}

// askManager passes the URL to the manager's program.
func askManager(ctx context.Context, amount int, completion string) error {
	form := url.Values{"amount": {fmt.Sprint(amount)}, "answer_to": {completion}}
	address := "https://managers.example/refunds?" + form.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// A tool whose lines must all be heard. Each call of Report returns when the call has the line.
func ExampleCall_Report() {
	suppliers := asynctool.Tool[struct{}]{
		Name:        "ask_suppliers",
		Description: "Asks all suppliers for their price, and reports each answer.",
		Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
			for _, supplier := range []string{"Ada's Parts", "Bell and Sons"} {
				if err := call.Report(ctx, supplier+" has answered."); err != nil {
					return asynctool.Result{}, err // asynctool.ErrNotHeard if the call has ended
				}
			}
			return asynctool.Text("All suppliers have answered."), nil
		},
	}
	set, err := asynctool.NewSet(suppliers)
	if err != nil {
		fmt.Println(err)
		return
	}
	tool, _ := set.Lookup("ask_suppliers")
	result, err := tool.Run(context.Background(), asynctool.Call{Attempt: 1}, json.RawMessage(`{}`))
	fmt.Println(result.Text, err)
	// Output: All suppliers have answered. <nil>
}
