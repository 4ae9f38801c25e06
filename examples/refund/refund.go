// Package refund contains a tool that must not run twice, because it pays money back. List [Tool] in the tools
// of a project, or copy the folder.
package refund

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// shopURL is the name of the setting with the address of the shop's system.
const shopURL = "REFUNDS_API_URL"

type input struct {
	OrderID string `json:"order_id" jsonschema:"the order number as the caller says it, for example A-1042"`
	Cents   int    `json:"cents" jsonschema:"the amount in cents"`
}

// Tool returns a tool that refunds a part of an order's price. It posts JSON {"cents"} to
// {REFUNDS_API_URL}/orders/{order_id}/refunds. 2xx means that the refund is made, 404 that there is no such
// order, and 409 that it was refunded before. With 429 and 503, the shop refuses a request before it begins.
// After anything else, the shop may have begun. getenv returns the value of REFUNDS_API_URL.
//
// The tool never starts a refund twice, although it cannot ask the shop whether a refund was made:
//
//   - It has one attempt. Only what the shop has certainly not begun is tried again.
//   - If the outcome is unknown, the caller hears that, and the log has the reason.
//   - Each request has the job's idempotency key, so a shop that knows the key recognises a repetition.
//   - A caller who asks again while the tool is busy does not start another refund. Later, the shop
//     answers 409.
func Tool(getenv func(string) string) asynctool.Definition {
	return asynctool.Tool[input]{
		Name: "refund_order",
		Description: "Refunds a part of an order's price. Needs the order number and the amount, which the caller must " +
			"have confirmed. Takes up to two minutes.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["cents"].Minimum, s.Properties["cents"].Maximum = jsonschema.Ptr(1.0), jsonschema.Ptr(50_000.0)
		},
		Timeout:       time.Minute,
		Attempts:      1,
		Settings:      []string{shopURL},
		Getenv:        getenv,
		CheckSettings: httptool.CheckAddresses(shopURL),

		// Of all failures, these have no text of their own: it is unknown whether the refund was made.
		FailureText: "I couldn't find out whether the refund was made. A colleague will check it, and write to you.",

		Repeat: asynctool.Join,
		SameAs: func(in input) string { return strings.ToUpper(strings.TrimSpace(in.OrderID)) },

		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			base, err := httptool.Address(getenv(shopURL))
			if err != nil {
				return asynctool.Result{}, asynctool.NotSetUp(err)
			}
			order, ok := asynctool.Identifier(in.OrderID)
			if !ok {
				return asynctool.Result{}, asynctool.Fail("That doesn't look like an order number. Please check it.", nil)
			}
			body := map[string]int{"cents": in.Cents}
			r, err := httptool.NewJSONRequest(ctx, http.MethodPost, base.JoinPath("orders", order, "refunds"), body)
			if err != nil {
				return asynctool.Result{}, err
			}
			r.Header.Set("Idempotency-Key", call.IdempotencyKey())
			if _, err = httptool.Do(r); err != nil {
				return asynctool.Result{}, failure(err)
			}
			return asynctool.Textf("The refund of %d.%02d euros for order %s is on its way.",
				in.Cents/100, in.Cents%100, order), nil
		},
	}
}

// failure returns the error of a request with a text for the caller, if it is known what the shop has done.
func failure(err error) error {
	switch status, _ := errors.AsType[httptool.Status](err); status {
	case http.StatusNotFound:
		return asynctool.Fail("There's no order with that number. Please check it.", err)
	case http.StatusConflict:
		return asynctool.Fail("There was a refund for that order before. A colleague has to look at another one.", err)
	}
	// Without the list of statuses, only a request that never reached the shop is tried again.
	err = httptool.NotStarted(err, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	if said, ok := errors.AsType[*asynctool.Error](err); ok && said.NotStarted {
		said.Spoken = "The shop's system is too busy right now. Nothing was refunded, so please try again later."
	}
	return err
}
