package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// errNoTerminal means that the command cannot ask.
var errNoTerminal = errors.New("the input is not a terminal")

// askSecret asks for a secret on a terminal, without echo.
func askSecret(ctx context.Context, in *os.File, errOut io.Writer, what string) (string, error) {
	terminal := int(in.Fd())
	state, err := term.GetState(terminal)
	if err != nil {
		return "", errNoTerminal
	}
	fmt.Fprintf(errOut, "%s (not shown): ", what)
	defer fmt.Fprintln(errOut)
	text, err := untilInterrupted(ctx, func() (string, error) {
		secret, err := term.ReadPassword(terminal)
		return string(secret), err
	})
	if ctx.Err() != nil {
		// Turn the echo of the terminal on again.
		_ = term.Restore(terminal, state)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	return strings.TrimSpace(text), nil
}

// confirm asks a question on a terminal, and reports whether the answer is yes.
func confirm(ctx context.Context, in *os.File, errOut io.Writer, question string) (bool, error) {
	if !term.IsTerminal(int(in.Fd())) {
		return false, errNoTerminal
	}
	fmt.Fprintf(errOut, "%s [y/N] ", question)
	answer, err := untilInterrupted(ctx, func() (string, error) { return readLine(in) })
	if err != nil {
		fmt.Fprintln(errOut)
		return false, fmt.Errorf("cannot read the answer: %w", err)
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// readLine reads one line, and nothing behind it. The end of the input ends the line, too.
func readLine(in io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := in.Read(one)
		if n == 1 && one[0] != '\n' {
			line = append(line, one[0])
			continue
		}
		if n == 1 || errors.Is(err, io.EOF) {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// untilInterrupted returns what read returns, or an error as soon as the context ends.
func untilInterrupted(ctx context.Context, read func() (string, error)) (string, error) {
	type entered struct {
		text string
		err  error
	}
	done := make(chan entered, 1)
	go func() {
		text, err := read()
		done <- entered{text, err}
	}()
	select {
	case e := <-done:
		return e.text, e.err
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}

// printable replaces what a text could do to a terminal: control characters except line
// breaks and tabs, and characters that reorder the text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
