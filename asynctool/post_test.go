package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
)

// TestReadPost tests what follows from what an OnPost returns.
func TestReadPost(t *testing.T) {
	late := asynctool.Wait()
	late.Later.State = "x"
	type outcome struct{ ignored, retried, failed, waits, result bool }
	for name, row := range map[string]struct {
		result asynctool.Result
		err    error
		want   outcome
	}{
		"a text":                {result: asynctool.Text("Done."), want: outcome{result: true}},
		"nothing for this job":  {result: asynctool.Wait(), want: outcome{waits: true}},
		"an error":              {err: errors.New("no JSON"), want: outcome{ignored: true}},
		"a failure":             {err: asynctool.Fail("It failed.", nil), want: outcome{failed: true}},
		"another time":          {err: asynctool.TryAgain(0, "", nil), want: outcome{retried: true}},
		"a bad signature":       {err: fmt.Errorf("x: %w", asynctool.ErrSignature), want: outcome{ignored: true}},
		"as a failure":          {err: asynctool.Fail("", asynctool.ErrSignature), want: outcome{ignored: true}},
		"as something to retry": {err: asynctool.TryAgain(0, "", asynctool.ErrSignature), want: outcome{ignored: true}},
		"an empty text":         {result: asynctool.Text(" "), want: outcome{}},
		"a resumption":          {result: asynctool.ResumeIn(time.Minute, nil), want: outcome{}},
		"a changed state":       {result: late, want: outcome{}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := asynctool.NewSet(asynctool.Tool[struct{}]{
				Name: "tool", Description: "Waits.", Delivery: asynctool.Silent,
				Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
					return asynctool.Wait(), nil
				},
				OnPost: func(context.Context, asynctool.Call, asynctool.Post) (asynctool.Result, error) {
					return row.result, row.err
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			result, err := set.Entries()[0].ReadPost(t.Context(), asynctool.Call{}, asynctool.Post{})
			_, ignored := errors.AsType[*asynctool.IgnoredError](err)
			said, isSaid := errors.AsType[*asynctool.Error](err)
			got := outcome{
				ignored: ignored, retried: !ignored && isSaid && said.Retry, failed: !ignored && isSaid && !said.Retry,
				waits: err == nil && result.Later != nil, result: err == nil && result.Later == nil,
			}
			if got != row.want {
				t.Errorf("%+v, %v: %+v, want %+v", result, err, got, row.want)
			}
			if got.result && result.Delivery != asynctool.Silent {
				t.Errorf("the delivery is %q", result.Delivery)
			}
			if got == (outcome{}) && !strings.Contains(err.Error(), "OnPost cannot be used") {
				t.Error(err)
			}
		})
	}
}

// TestReadPostTooLate tests that a post is not ignored because OnPost had no time to read it.
func TestReadPostTooLate(t *testing.T) {
	set, err := asynctool.NewSet(asynctool.Tool[struct{}]{
		Name: "tool", Description: "Waits.",
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Wait(), nil
		},
		OnPost: func(ctx context.Context, _ asynctool.Call, _ asynctool.Post) (asynctool.Result, error) {
			return asynctool.Result{}, ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = set.Entries()[0].ReadPost(ctx, asynctool.Call{}, asynctool.Post{})
	if _, ignored := errors.AsType[*asynctool.IgnoredError](err); ignored || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A signing service posts webhooks in its own format, signed as in the Standard Webhooks specification.
func ExampleTool_onPost() {
	type input struct {
		Document string `json:"document" jsonschema:"the number of the document"`
	}
	signDocument := asynctool.Tool[input]{
		Name:        "sign_document",
		Description: "Sends a document to the customer to sign. Takes minutes to hours.",
		Deadline:    8 * time.Hour,
		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			url, err := call.CompletionURL(ctx)
			if err != nil {
				return asynctool.Result{}, err
			}
			_ = url // pass it to the service as the URL of the webhook, with call.IdempotencyKey()
			return asynctool.Wait(), nil
		},
		OnPost: func(ctx context.Context, call asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
			service := asynctool.StandardWebhooks{Secret: os.Getenv("SIGNING_WEBHOOK_SECRET")}
			if err := service.Verify(post); err != nil {
				return asynctool.Result{}, err // the job waits on
			}
			var event struct {
				Type      string `json:"type"`
				Reference string `json:"reference"`
			}
			if err := json.Unmarshal(post.Body, &event); err != nil {
				return asynctool.Result{}, err
			}
			switch {
			case event.Reference != call.IdempotencyKey(): // signed, but about another job
				return asynctool.Result{}, errors.New("the post is about another job")
			case event.Type == "document.signed":
				return asynctool.Text("The document is signed."), nil
			case event.Type == "document.declined":
				return asynctool.Result{}, asynctool.Fail("The customer declined to sign.", nil)
			case event.Type == "document.viewed":
				call.Note(ctx, "The customer has opened the document.")
			}
			return asynctool.Wait(), nil
		},
	}
	_ = signDocument
}
