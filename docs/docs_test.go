// Package docs_test checks what the documentation shows. internal/cli/scaffold compiles and runs its Go.
package docs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
)

// pages are the pages that are not generated.
var pages = []string{
	"../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md", "../CONTRIBUTING.md", "../SECURITY.md",
	"deploy.md", "faults.md", "long-work.md", "page.md", "real-calls.md", "reference.md", "security.md", "tools.md",
	"undelivered.md",
	"upgrade.md", "vapi.md",
	"cost.md", "scale.md",
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFreeTools checks that the tests of Ringback do not depend on the folder tools, which a user may
// change at will.
func TestFreeTools(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-tags", "e2e", "-deps", "-test",
		"-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/ringback/ringback/"
	allowed := []string{module + "cmd/ringback", module + "functions/process", module + "infra"}
	imports := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if !slices.Contains(fields[1:], module+"tools") {
			continue
		}
		if imports++; !slices.Contains(allowed, fields[0]) && !strings.HasPrefix(fields[0], module+"tools") {
			t.Errorf("%s imports the tools of the user", fields[0])
		}
	}
	if imports < len(allowed) {
		t.Errorf("only %d packages import tools; has the list another form?", imports)
	}
}

// TestCommands checks that the help of each command describes the flags that the
// documentation shows.
func TestCommands(t *testing.T) {
	command := regexp.MustCompile(
		`(?m)\bringback (call|dev|init|send|prompt|completion|tools|sync|doctor|redrive|` +
			`(?:calls|jobs) (?:list|show|cancel))\b` +
			"([^\n`|>]*)")
	flag := regexp.MustCompile(`(?:^|\s)(--[a-z-]+)`)
	seen := 0
	for _, page := range pages {
		for _, used := range command.FindAllStringSubmatch(read(t, page), -1) {
			var out, errOut bytes.Buffer
			if code := cli.Run(shop.All, append(strings.Fields(used[1]), "--help"), &out, &errOut); code != 0 {
				t.Errorf("%s shows ringback %s: %s", page, used[1], errOut.String())
				continue
			}
			for _, f := range flag.FindAllStringSubmatch(used[2], -1) {
				if seen++; !regexp.MustCompile(regexp.QuoteMeta(f[1]) + `\b`).Match(out.Bytes()) {
					t.Errorf("%s shows %q, which has no %s", page, used[0], f[1])
				}
			}
		}
	}
	if seen == 0 {
		t.Error("found no flag; has the format of the commands changed?")
	}
}

// TestLinks follows the links between the pages.
func TestLinks(t *testing.T) {
	anchors := func(page string) map[string]bool {
		found := map[string]bool{}
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, page), -1) {
			anchor := strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")
			found[regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(anchor, "")] = true
		}
		return found
	}
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`") // its brackets are not links
	for _, page := range pages {
		text := code.ReplaceAllString(read(t, page), "")
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, link[1], err)
			} else if anchor != "" && !anchors(target)[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, link[1])
			}
		}
	}
}
