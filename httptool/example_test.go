package httptool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// shop is a service that knows one order, and is busy with refunds.
func shop() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/orders/A-1042":
			fmt.Fprint(w, `{"status":"sent"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
}

func ExampleJSON() {
	service := shop()
	defer service.Close()
	base, err := httptool.Address(service.URL)
	if err != nil {
		fmt.Println("the address", err)
		return
	}
	for _, id := range []string{"A-1042", "A-1"} {
		r, err := httptool.NewRequest(context.Background(), http.MethodGet, base.JoinPath("orders", id), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		order, err := httptool.JSON[struct{ Status string }](r)
		fmt.Printf("%q, %v\n", order.Status, err)
	}
	// Output:
	// "sent", <nil>
	// "", the service answered 404 Not Found
}

func ExampleNotStarted() {
	service := shop()
	defer service.Close()
	base, err := httptool.Address(service.URL)
	if err != nil {
		fmt.Println("the address", err)
		return
	}
	r, err := httptool.NewJSONRequest(context.Background(), http.MethodPost, base.JoinPath("refunds"),
		map[string]int{"cents": 500})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = httptool.Do(r)
	err = httptool.NotStarted(err, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	if said, ok := errors.AsType[*asynctool.Error](err); ok {
		fmt.Println(said.NotStarted, said.After)
	}
	// Output: true 5s
}

func ExampleParse() {
	service := shop()
	defer service.Close()
	tools, err := httptool.Parse([]byte(`
tools:
  - name: order_status
    description: Looks up an order. Needs its number.
    schema: {type: object, properties: {id: {type: string}}, required: [id]}
    method: GET
    url: ${ORDERS_API_URL}/orders/{id}
    text: The order is {status}.
`), func(string) string { return service.URL }) // os.Getenv in a project
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := asynctool.NewSet(tools...)
	if err != nil {
		fmt.Println(err)
		return
	}
	tool, _ := set.Lookup("order_status")
	result, err := tool.Run(context.Background(), asynctool.Call{}, json.RawMessage(`{"id":"A-1042"}`))
	fmt.Println(result.Text, err)
	// Output: The order is sent. <nil>
}
