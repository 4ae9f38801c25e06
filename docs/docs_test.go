// Package docs_test compiles, runs and checks what the documentation shows.
package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
)

// pages are the pages that are not generated.
var pages = []string{
	"../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md", "../CONTRIBUTING.md", "../SECURITY.md",
	"deploy.md", "faults.md", "long-work.md", "reference.md", "security.md", "tools.md", "undelivered.md",
	"upgrade.md", "vapi.md",
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// goBlock matches a block of Go, and the name of its file if the line before has one.
var goBlock = regexp.MustCompile("(?s)(?:`(tools/[a-z_]+\\.go)`:\n\n)?```go\n(.*?)```")

// surroundings precede a block that is not a complete file.
const surroundings = `package tools

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/httptool"
)

var (
	_ context.Context
	_ = errors.New
	_ = fmt.Sprint
	_ http.Handler
	_ httptest.Server
	_ url.URL
	_ strings.Builder
	_ testing.TB
	_ time.Time
	_ jsonschema.Schema
	_ asynctool.Result
	_ asynctooltest.Result
	_ httptool.Status
)

`

// TestGo builds the Go blocks in the folder tools, as a reader would, and runs the
// tests in them.
func TestGo(t *testing.T) {
	tools, err := filepath.Abs("../tools")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"../README.md", "long-work.md", "tools.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			blocks := goBlock.FindAllStringSubmatch(read(t, page), -1)
			if len(blocks) == 0 {
				t.Fatal("found no Go; has the format of the blocks changed?")
			}
			dir := t.TempDir()
			replaced := map[string]string{}
			for i, block := range blocks {
				name, code := filepath.Base(block[1]), block[2]
				if block[1] == "" {
					name = fmt.Sprintf("block_%d.go", i)
				}
				if !strings.HasPrefix(code, "package ") {
					name, code = fmt.Sprintf("block_%d_test.go", i), surroundings+code
				}
				copied := filepath.Join(dir, name)
				if err := os.WriteFile(copied, []byte(code), 0o600); err != nil {
					t.Fatal(err)
				}
				replaced[filepath.Join(tools, name)] = copied
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replaced})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			names := tests(blocks)
			arguments := []string{"build", "-overlay", file, tools}
			if len(names) > 0 {
				// Only the tests of the page: those of the tools run elsewhere.
				pattern := "^(" + strings.Join(names, "|") + ")$"
				arguments = []string{"test", "-count=1", "-v", "-overlay", file, "-run", pattern, tools}
			}
			out, err := exec.CommandContext(t.Context(), "go", arguments...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range names {
				if !bytes.Contains(out, []byte("--- PASS: "+name+" ")) {
					t.Errorf("%s did not run:\n%s", name, out)
				}
			}
		})
	}
}

func tests(blocks [][]string) []string {
	var names []string
	for _, block := range blocks {
		for _, name := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllStringSubmatch(block[2], -1) {
			names = append(names, name[1])
		}
	}
	return names
}

// TestCommands checks that the help of each command describes the flags that the
// documentation shows.
func TestCommands(t *testing.T) {
	command := regexp.MustCompile(`(?m)\bringback (dev|init|send|prompt|completion|tools|sync|doctor|jobs|redrive)\b` +
		"([^\n`|>]*)")
	flag := regexp.MustCompile(`(?:^|\s)(--[a-z-]+)`)
	seen := 0
	for _, page := range pages {
		for _, used := range command.FindAllStringSubmatch(read(t, page), -1) {
			var out, errOut bytes.Buffer
			if code := cli.Run(shop.All, []string{used[1], "--help"}, &out, &errOut); code != 0 {
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
