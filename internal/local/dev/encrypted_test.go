package dev_test

import (
	"context"
	"crypto/rsa"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/simcall"
)

type card struct {
	Card string `json:"card"`
}

// TestEncryptedArguments: the demonstration and other clients encrypt arguments with the key of the run.
func TestEncryptedArguments(t *testing.T) {
	got := make(chan string, 3)
	pay := asynctool.Tool[card]{
		Name: "pay", Description: "Pays.", Encrypted: []string{"card"},
		Run: func(_ context.Context, _ asynctool.Call, in card) (asynctool.Result, error) {
			got <- in.Card
			return asynctool.Text("It is paid."), nil
		},
	}
	l := start(t, dev.Config{
		Tools: func() ([]asynctool.Definition, error) { return []asynctool.Definition{pay}, nil },
		Demo:  asynctooltest.Webhook(t, "pay", `{"card":"planted-4111"}`),
	})
	if card := <-got; card != "planted-4111" {
		t.Errorf("the tool got %q", card)
	}
	l.screen.wait(t, `The assistant has the result`)
	if shown := l.screen.String(); strings.Contains(shown, "planted") {
		t.Errorf("the value is shown:\n%s", shown)
	}
	address := l.screen.wait(t, `The key is at (http://\S+/argument-key)\.`)
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	key, err := encryption.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	webhook := func(arguments string) []byte {
		body, err := simcall.Adopt(asynctooltest.Webhook(t, "pay", arguments), "c", "https://"+simcall.Host+"/c/control")
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	body, err := simcall.Encrypt(webhook(`{"card":"planted-5500"}`),
		map[string][]string{"pay": {"card"}}, func() (*rsa.PublicKey, error) { return key, nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{body, webhook(`{"card":"by hand"}`)} {
		if status, answer := l.post(t, body, nil); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
	}
	if a, b := <-got, <-got; a+b != "planted-5500by hand" && b+a != "planted-5500by hand" {
		t.Errorf("the tool got %q and %q", a, b)
	}
	l.stop()
	if err := l.end(t); err != nil {
		t.Error(err)
	}
}

// TestNoArgumentKey: a run without such tools has no key to ask for.
func TestNoArgumentKey(t *testing.T) {
	l := start(t, dev.Config{})
	response, err := http.Get("http://" + l.addr() + dev.ArgumentKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound || strings.Contains(l.screen.String(), "encrypts") {
		t.Errorf("%s\n%s", response.Status, l.screen)
	}
}
