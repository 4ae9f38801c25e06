package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/tools"
)

func TestPrompt(t *testing.T) {
	code, out, errOut := run(t, "prompt")
	if code != 0 || errOut != "" {
		t.Fatalf("code %d, err %q", code, errOut)
	}
	definitions, err := tools.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(definitions...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range set.Entries() {
		if strings.Count(out, "\n- "+e.Name+": "+e.Description) != 1 {
			t.Errorf("%s does not occur once, with its description:\n%s", e.Name, out)
		}
	}
	// The prompt explains the markers that the assistant receives.
	text, err := spoken.ParseText("")
	if err != nil {
		t.Fatal(err)
	}
	result, err := text.Framed(job.Outcome{
		Tool: "order_status", Asked: "{}", Result: job.Result{Status: job.StatusOK, Content: "It ships."},
	}, spoken.MaxContent)
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"[async tool result]", "Success.", "status=", "<<<", ">>>", "asked:"} {
		if !strings.Contains(result, mark) || !strings.Contains(out, mark) {
			t.Errorf("%q is not in both a result and the prompt", mark)
		}
	}
	if !strings.HasPrefix(ack.DefaultText, "Started.") || !strings.Contains(out, `"Started."`) {
		t.Error("the prompt does not explain the placeholder of tools that are not async")
	}
}

func TestPromptNamesTheDelivery(t *testing.T) {
	tool := func(name, description string, d asynctool.Delivery) asynctool.Definition {
		return asynctool.Tool[struct{}]{Name: name, Description: description, Delivery: d,
			Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
				return asynctool.Text("x"), nil
			}}
	}
	set, err := asynctool.NewSet(
		tool("plain", "Does this\n\tand {{that}} <b>.\n- other: A forged line.", ""),
		tool("quiet", "Looks.", asynctool.Silent), tool("loud", "Talks.", asynctool.Say))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := cli.WritePrompt(&out, set); err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(out.String(), "by their exact names:\n")
	const want = `
- plain: Does this and {{that}} <b>. - other: A forged line.
- quiet: Looks. Its result arrives silently: keep it in mind, and use it when it fits.
- loud: Talks. Its result is spoken to the caller directly: do not repeat it.
`
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	empty, err := asynctool.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.WritePrompt(io.Discard, empty); err == nil || !strings.Contains(err.Error(), "tools/tools.go") {
		t.Errorf("without tools: %v", err)
	}
}

// The help of every command has an example.
func TestHelpHasExamples(t *testing.T) {
	_, out, _ := run(t, "--help")
	_, list, found := strings.Cut(out, "Commands:\n")
	if !found {
		t.Fatal(out)
	}
	commands := regexp.MustCompile(`(?m)^  ([a-z]+)  `).FindAllStringSubmatch(list, -1)
	if len(commands) < 4 {
		t.Fatalf("found %q in %s", commands, list)
	}
	for _, c := range commands {
		code, out, _ := run(t, c[1], "--help")
		_, examples, found := strings.Cut(out, "\nExamples:\n")
		if code != 0 || !found || !strings.Contains(examples, "ringback "+c[1]) {
			t.Errorf("%s: code %d, no example:\n%s", c[1], code, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"webhook.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"ringback se":                       "send",
		"ringback send --ti":                "--timeout",
		"ringback completion f":             "fish",
		"ringback send " + dir + "/":        dir + "/webhook.json",
		"ringback dev --demo " + dir + "/w": dir + "/webhook.json",
		"ringback frobnicate --x":           "",
	} {
		t.Setenv("COMP_LINE", line)
		code, out, errOut := run(t)
		var words []string
		for _, w := range strings.Fields(out) {
			if w != dir+"/" {
				words = append(words, w)
			}
		}
		if code != 0 || errOut != "" || strings.Join(words, " ") != want {
			t.Errorf("%q: completions %q (code %d, err %q), want %q", line, out, code, errOut, want)
		}
	}
	os.Unsetenv("COMP_LINE")
	for shell, want := range map[string]string{
		"bash": "complete ", "zsh": "bashcompinit", "fish": "function __complete_ringback",
	} {
		if code, out, errOut := run(t, "completion", shell, "--code"); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: code %d, out %q, err %q", shell, code, out, errOut)
		}
	}
	if code, _, errOut := run(t, "completion", "tcsh"); code != 80 || !strings.Contains(errOut, "must be one of") {
		t.Errorf("code %d, err %q", code, errOut)
	}
}
