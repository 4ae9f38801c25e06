package dev

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// TestPublicKey posts to a call at Vapi, and to another program on this machine, which must not get the key.
func TestPublicKey(t *testing.T) {
	var sent string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent = r.Header.Get("Authorization")
	}))
	defer server.Close()
	for key, want := range map[string]string{"": "", "k3y": "Bearer k3y"} {
		cfg := atVapi(key)
		cfg.Hosts = []string{strings.TrimPrefix(server.URL, "http://")} // in place of Vapi's
		there, err := vapiclient.NewControlClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := newControl("http://127.0.0.1:1", key, func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		c.admit(server.URL)
		for client, want := range map[interface {
			Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt
		}]string{there: want, c: ""} {
			sent = "nothing"
			if r := client.Post(t.Context(), server.URL, vapi.EndCall{}); r.Err != nil || sent != want {
				t.Errorf("with the key %q, %T sent %q, want %q; %v", key, client, sent, want, r.Err)
			}
		}
	}
}
