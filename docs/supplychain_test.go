package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSupplyChain checks that whatever make, the scripts and the workflows install has a hash in this repository, so
// that a registry cannot exchange it. Modules of Go have theirs in go.sum, or in the checksum database. See
// TestActionsArePinned for actions.
func TestSupplyChain(t *testing.T) {
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal([]byte(read(t, "../infra/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	if lock.Packages["node_modules/aws-cdk"].Version == "" {
		t.Error("infra/package-lock.json has no CDK CLI")
	}
	for name, p := range lock.Packages {
		if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("infra/package-lock.json: %q has no hash", name)
		}
	}

	tools, err := filepath.Glob("../scripts/requirements/*.in")
	if err != nil || len(tools) == 0 {
		t.Fatalf("the requirements are %v, %v", tools, err)
	}
	pinned := regexp.MustCompile(`(?m)^([a-z0-9-]+)==(\S+).*((?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+)$`)
	for _, file := range tools {
		text := read(t, strings.TrimSuffix(file, ".in")+".txt")
		names := map[string]string{}
		for _, match := range pinned.FindAllStringSubmatch(text, -1) {
			names[match[1]] = match[2]
		}
		for line := range strings.Lines(text) {
			name, _, requirement := strings.Cut(line, "==")
			if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "#") && (!requirement || names[name] == "") {
				t.Errorf("%s: no hash: %s", file, line)
			}
		}
		for line := range strings.Lines(read(t, file)) {
			if name, version, _ := strings.Cut(strings.TrimSpace(line), "=="); names[name] != version {
				t.Errorf("%s wants %s, but the lock file has version %s", file, line, names[name])
			}
		}
	}

	var files []string
	for _, pattern := range []string{
		"../Makefile", "../.ci/*", "../scripts/*", "../.github/workflows/*", "../e2e/*.go", "../*.md", "*.md",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	install := regexp.MustCompile(`\bnpx\b|\bnpm i\b|\bnpm install\b|\bpip"?,? "?install\b`)
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		text := strings.ReplaceAll(read(t, file), "\",\n\t\t\"", `", "`) // one command of Go in one line
		for line := range strings.Lines(text) {
			hashes := strings.Contains(line, "--require-hashes") || strings.Contains(line, "--package-lock-only")
			if install.MatchString(line) && !hashes {
				t.Errorf("%s: an installation without hashes: %s", file, line)
			}
		}
	}
}
