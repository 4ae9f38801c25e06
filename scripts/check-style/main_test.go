package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckGo(t *testing.T) {
	source := `// Package p says
// whether it gives up.
package p

import (
	"errors"
	"log/slog"
)

type flags struct {
	Wait bool ` + "`help:\"Wait for whoever is asked.\"`" + `
}

// run gives an error.
func run(log *slog.Logger) error {
	log.Warn("Job asleep.", "somebody", "nobody")
	log.Info("API called", "text", "Nobody is there.")
	say("Somebody is looking at it.")
	return errors.New("failed to claim the job") // for nobody
}
`
	words := []string{
		`1: instead of "says whether", write "reports whether"`,
		`14: instead of "gives", write "returns"`,
		`19: instead of "nobody", write who it is: "a caller", "an operator", "a client", "an external system"`,
	}
	literals := []string{
		`11: instead of "whoever", write who it is: "a caller", "an operator", "a client", "an external system"`,
		`16: instead of "asleep", write "suspended"`,
		`16: begin a log message in lower case`,
		`16: end a log message without a full stop`,
		`19: instead of "failed to", write what was attempted, as in "cannot read the table"`,
	}
	for name, want := range map[string][]string{"p.go": append(words, literals...), "p_test.go": words} {
		problems, err := checkGo(name, []byte(source))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, problems); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCheckMarkdown(t *testing.T) {
	long := strings.Repeat("é ", 61)
	source := strings.Join([]string{
		"# It gives nobody",
		"a result that is",
		"told. `somebody` is code.",
		"```sh",
		"echo somebody " + long,
		"```",
		"| somebody | " + long + " |",
		"https://example.com/ " + long,
		strings.Repeat("é", 120),
		long,
	}, "\n")
	want := []string{
		`10: the line has 122 characters; break it at 120`,
		`1: instead of "nobody", write who it is: "a caller", "an operator", "a client", "an external system"`,
		`7: instead of "somebody", write who it is: "a caller", "an operator", "a client", "an external system"`,
		`2: instead of "is told", write "delivered", or "spoken" for the voice`,
	}
	if diff := cmp.Diff(want, checkMarkdown(source)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
