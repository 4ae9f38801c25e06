package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/fakevapi"
)

// terminal opens a pseudo-terminal. Write input to keyboard. screen returns what the
// terminal echoes.
func terminal(t *testing.T) (in, keyboard *os.File, screen func() string) {
	t.Helper()
	keyboard, in, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close(); in.Close() })
	var mu sync.Mutex
	var echoed bytes.Buffer
	go func() {
		piece := make([]byte, 1024)
		for {
			n, err := keyboard.Read(piece)
			if err != nil {
				return
			}
			mu.Lock()
			echoed.Write(piece[:n])
			mu.Unlock()
		}
	}()
	return in, keyboard, func() string {
		mu.Lock()
		defer mu.Unlock()
		return echoed.String()
	}
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, in *os.File) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

func waitUntilSilent(t *testing.T, in *os.File) {
	t.Helper()
	// Only a hang takes minutes.
	for end := time.Now().Add(5 * time.Minute); echoes(t, in); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the terminal still echoes")
		}
	}
}

func TestPrivateKeyIsNotShown(t *testing.T) {
	t.Setenv("VAPI_API_KEY", "")
	in, keyboard, screen := terminal(t)
	if !term.IsTerminal(int(in.Fd())) || !echoes(t, in) {
		t.Fatal("not an echoing terminal")
	}
	var prompt strings.Builder
	type entered struct {
		key string
		err error
	}
	done := make(chan entered, 1)
	go func() {
		key, err := privateKey(t.Context(), in, &prompt)
		done <- entered{key, err}
	}()
	waitUntilSilent(t, in)
	fmt.Fprint(keyboard, " the-key \n")
	got := <-done
	if got.key != "the-key" || got.err != nil {
		t.Errorf("%q, %v", got.key, got.err)
	}
	if strings.Contains(screen(), "the-key") || !strings.Contains(prompt.String(), "not shown") || !echoes(t, in) {
		t.Errorf("screen %q, prompt %q, echo %t", screen(), prompt.String(), echoes(t, in))
	}
}

func TestPrivateKeyIsInterrupted(t *testing.T) {
	t.Setenv("VAPI_API_KEY", "")
	in, _, _ := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var prompt strings.Builder
	go func() {
		_, err := privateKey(ctx, in, &prompt)
		done <- err
	}()
	waitUntilSilent(t, in)
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if !echoes(t, in) {
		t.Error("the terminal does not echo again")
	}
}

func TestPrivateKeyFromTheEnvironment(t *testing.T) {
	t.Setenv("VAPI_API_KEY", " the-key\n")
	if key, err := privateKey(t.Context(), nil, nil); key != "the-key" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
}

// TestConfirm types answers on a terminal. Only y and yes agree.
func TestConfirm(t *testing.T) {
	for typed, want := range map[string]bool{
		"y\n": true, "YES \n": true, "\n": false, "n\n": false, "yes please\n": false, "\x04": false, // end of input
	} {
		in, keyboard, _ := terminal(t)
		fmt.Fprint(keyboard, typed)
		var question strings.Builder
		got, err := confirm(t.Context(), in, &question, "Make these changes?")
		if got != want || err != nil || question.String() != "Make these changes? [y/N] " {
			t.Errorf("%q: %t, %v, %q", typed, got, err, question.String())
		}
	}
	in, _, _ := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := confirm(ctx, in, io.Discard, ""); got || err == nil {
		t.Errorf("interrupted: %t, %v", got, err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := confirm(t.Context(), file, io.Discard, ""); got || !errors.Is(err, errNoTerminal) {
		t.Errorf("no terminal: %t, %v", got, err)
	}
}

// TestSyncAsksOnATerminal makes the changes only after a y.
func TestSyncAsksOnATerminal(t *testing.T) {
	for typed, want := range map[string]int{"y\n": 0, "\n": 1} {
		account := &fakevapi.Account{}
		server := httptest.NewServer(account)
		defer server.Close()
		t.Setenv("VAPI_API_KEY", "private-key")
		t.Setenv("XDG_CONFIG_HOME", t.TempDir())
		assistant := account.Add("assistant", `{"model":{"provider":"openai"}}`)
		in, keyboard, _ := terminal(t)
		defer func(before *os.File) { os.Stdin = before }(os.Stdin)
		os.Stdin = in
		fmt.Fprint(keyboard, typed)
		var out, errOut bytes.Buffer
		code := Run(shop.All, []string{"sync", "--url", "https://hooks.example.com/vapi",
			"--auth", `{"type":"bearer","token":"t0ken-of-the-webhook-at-Vapi"}`,
			"--assistant", assistant, "--api", server.URL}, &out, &errOut)
		question := "Make these changes in the organisation " + fakevapi.OrgID + "? [y/N] "
		writes := len(fakevapi.Writes(account.Requests()))
		if code != want || (writes == 0) != (want == 1) || !strings.Contains(errOut.String(), question) {
			t.Errorf("%q: code %d, %d writes, out %s, err %s", typed, code, writes, out.String(), errOut.String())
		}
	}
}

// TestForgetAsksOnATerminal asks before it deletes.
func TestForgetAsksOnATerminal(t *testing.T) {
	for typed, want := range map[string]bool{"y\n": true, "\n": false} {
		in, keyboard, _ := terminal(t)
		defer func(before *os.File) { os.Stdin = before }(os.Stdin)
		os.Stdin = in
		fmt.Fprint(keyboard, typed)
		var errOut bytes.Buffer
		c := customersForgetCommand{}
		err := c.agreed(t.Context(), &streams{Out: io.Discard, Err: &errOut})
		if (err == nil) != want || !strings.Contains(errOut.String(), "Delete this? [y/N] ") {
			t.Errorf("%q: %v, %q", typed, err, errOut.String())
		}
	}
}

// TestSendAsksOnATerminal types the credential, which the terminal does not show.
func TestSendAsksOnATerminal(t *testing.T) {
	in, keyboard, screen := terminal(t)
	c := targetFlags{Bearer: "-"}
	done := make(chan error, 1)
	go func() { done <- c.readCredential(t.Context(), in, io.Discard) }()
	waitUntilSilent(t, in)
	fmt.Fprint(keyboard, "t0ken\n")
	if err := <-done; err != nil || c.Bearer != "t0ken" || strings.Contains(screen(), "t0ken") {
		t.Errorf("%q, %v, screen %q", c.Bearer, err, screen())
	}
}

// TestHangUpKey presses keys in the terminal of a local run. The terminal is then as it was before.
func TestHangUpKey(t *testing.T) {
	const child = "RINGBACK_TEST_TERMINAL"
	if os.Getenv(child) != "" {
		os.Exit(Run(shop.All, []string{"dev", "--no-demo", "--addr", "127.0.0.1:0"}, os.Stdout, os.Stderr))
	}
	in, keyboard, screen := terminal(t)
	dev := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHangUpKey$")
	dev.Env = append(os.Environ(), child+"=1", "XDG_CACHE_HOME="+t.TempDir())
	dev.Stdin, dev.Stdout, dev.Stderr = in, in, in
	dev.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	shown := func(text string) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); !strings.Contains(screen(), text); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the terminal never showed %q:\n%s", text, screen())
			}
		}
	}
	shown("Press h to hang up in the simulated calls, and Ctrl-C to stop.")
	fmt.Fprint(keyboard, "xh")
	shown("No simulated call is live.")
	if strings.Contains(screen(), "xh") {
		t.Errorf("the keys are echoed:\n%s", screen())
	}
	fmt.Fprint(keyboard, "\x03")
	if err := dev.Wait(); err != nil {
		t.Errorf("%v\n%s", err, screen())
	}
	shown("Everything that was accepted is finished.")
	if !echoes(t, in) {
		t.Error("the terminal no longer echoes")
	}
}
