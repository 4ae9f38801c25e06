package vapiclient_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// A server tells a live call something. Here, a server on this machine stands in for Vapi.
func ExampleControlClient() {
	call := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
	}))
	defer call.Close()

	client, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt := client.Post(context.Background(), call.URL+"/c1/control", vapi.Say{Content: "One moment."})
	fmt.Println(receipt.Verdict, receipt.Status)

	// Output:
	// POST /c1/control
	// delivered 200
}
