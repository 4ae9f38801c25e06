package shop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

type orderStatusInput struct {
	OrderID string `json:"order_id" jsonschema:"the order number as the caller says it, for example A-1042"`
}

// ordersURL is the name of the setting with the address of the shop's system.
const ordersURL = "ORDERS_API_URL"

// orderStatusAnswer is the answer of the shop's system.
type orderStatusAnswer struct {
	Status           string `json:"status"`
	Carrier          string `json:"carrier"`           // empty: not shipped yet
	ExpectedDelivery string `json:"expected_delivery"` // a date such as 2026-03-04, or with a time; empty: unknown
}

// OrderStatus returns a tool that looks up an order in the shop's system. It
// requests GET {ORDERS_API_URL}/orders/{order_id}, if the number is an
// [asynctool.Identifier]. The answer is 404, or JSON {"status",
// "carrier", "expected_delivery"}, of which only the status is required. The system
// may take two minutes. getenv returns the value of ORDERS_API_URL.
func OrderStatus(getenv func(string) string) asynctool.Definition {
	return asynctool.Tool[orderStatusInput]{
		Name: "order_status",
		Description: "Looks up where an order is and when it will arrive. Needs the order number. " +
			"Takes up to two minutes.",
		Timeout:       150 * time.Second,
		Attempts:      3, // it only reads
		FailureText:   "I'm sorry, the shop's order system isn't responding right now.",
		Settings:      []string{ordersURL},
		Getenv:        getenv,
		CheckSettings: httptool.CheckAddresses(ordersURL),
		Run: func(ctx context.Context, _ asynctool.Call, in orderStatusInput) (asynctool.Result, error) {
			base, err := httptool.Address(getenv(ordersURL))
			if err != nil {
				return asynctool.Result{}, asynctool.NotSetUp(err)
			}
			id, ok := asynctool.Identifier(in.OrderID)
			if !ok {
				return asynctool.Result{}, asynctool.Fail("That doesn't look like an order number. Please check it.", nil)
			}
			r, err := httptool.NewRequest(ctx, http.MethodGet, base.JoinPath("orders", id), nil)
			if err != nil {
				return asynctool.Result{}, err
			}
			o, err := httptool.JSON[orderStatusAnswer](r)
			if status, ok := errors.AsType[httptool.Status](err); ok && status == http.StatusNotFound {
				return asynctool.Result{}, asynctool.Fail("There's no order with that number. Please check it.", err)
			}
			if err != nil {
				return asynctool.Result{}, err
			}
			return o.spoken(id)
		},
	}
}

func (o orderStatusAnswer) spoken(id string) (asynctool.Result, error) {
	// A status is often an identifier, such as out_for_delivery.
	status := oneLine(strings.ReplaceAll(o.Status, "_", " "))
	if status == "" {
		return asynctool.Result{}, asynctool.Fail("",
			errors.New("the answer of the orders API is malformed: it has no status"))
	}
	text := fmt.Sprintf("The status of order %s is: %s.", id, status)
	if carrier := oneLine(o.Carrier); carrier != "" {
		text += " The carrier is " + carrier + "."
	}
	if expected := oneLine(o.ExpectedDelivery); expected != "" {
		for _, layout := range []string{time.DateOnly, time.RFC3339} {
			if day, err := time.Parse(layout, expected); err == nil {
				expected = day.Format("Monday, 2 January 2006")
			}
		}
		text += " It's expected on " + expected + "."
	}
	return asynctool.Text(text), nil
}
