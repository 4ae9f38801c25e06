package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal opens a pseudo-terminal. Write input to keyboard. screen returns what the
// terminal echoes.
func terminal(t *testing.T) (in, keyboard *os.File, screen func() string) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if in, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
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
