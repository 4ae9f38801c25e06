package shop_test

import (
	"slices"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/tooltest"
)

type want = tooltest.Want

// getenv returns an environment.
func getenv(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func orderStatus(url string) asynctool.Definition {
	return shop.OrderStatus(getenv(map[string]string{"ORDERS_API_URL": url}))
}

func notifyWhenReady(url, token string) asynctool.Definition {
	return shop.NotifyWhenReady(getenv(map[string]string{"REQUESTS_API_URL": url, "REQUESTS_API_TOKEN": token}))
}

// A deployment needs names and limits before there are settings.
func TestAllWithoutSettings(t *testing.T) {
	for _, name := range []string{
		"ORDERS_API_URL", "REQUESTS_API_URL", "REQUESTS_API_TOKEN", "STOCK_API_URL", "STOCK_API_TOKEN",
	} {
		t.Setenv(name, "")
	}
	all, err := shop.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(all...)
	if err != nil {
		t.Fatal(err)
	}
	// There may be more: adding a tool must not require a change here.
	for _, name := range []string{
		"order_status", "spending_report", "notify_when_ready", "scheduled_report", "task_status", "restock_date",
	} {
		if _, ok := set.Lookup(name); !ok {
			t.Errorf("there is no tool %s", name)
		}
	}
	for name, row := range map[string]struct{ arguments, log string }{
		"order_status":      {`{"order_id":"1"}`, "ORDERS_API_URL"},
		"notify_when_ready": {`{"subject":"a discount"}`, "REQUESTS_API_URL"},
		"restock_date":      {`{"article":"kettle"}`, "STOCK_API_URL, STOCK_API_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(set.Entries(), func(e *asynctool.Entry) bool { return e.Name == name })
			result, err := tooltest.Call(t, t.Context(), all[i], row.arguments)
			want{Spoken: notAvailable, Log: row.log}.Check(t, result, err)
		})
	}
}

const notAvailable = "I'm sorry, this service isn't available right now."

// The example in http.yaml works with a service as the file describes it.
func TestAllForwardsToItsService(t *testing.T) {
	stock := tooltest.Answering(t, 200, `{"message":"The kettle is back on Friday."}`)
	t.Setenv("STOCK_API_URL", stock.URL)
	t.Setenv("STOCK_API_TOKEN", "secret")
	all, err := shop.All()
	if err != nil {
		t.Fatal(err)
	}
	result, err := tooltest.Call(t, t.Context(), all[len(all)-1], `{"article":"kettle","quantity":2}`)
	want{Text: "The kettle is back on Friday."}.Check(t, result, err)
}
