package faults_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var mutants = flag.Bool("faults.mutants", false, "put bugs into copies, and see whether they are found; writes the table in docs/faults.md")

// mutant is a deliberate bug.
type mutant struct {
	bug   string
	edits []edit
	tests []string // arguments of go test; nil means the shortened fault harness
}

// edit replaces what is in a file once.
type edit struct{ file, old, new string }

var harness = []string{"./internal/faults", "-run", "^(TestWithoutFaults|TestFaults)$"}

var bugs = []mutant{
	{bug: "the claim without its condition", edits: []edit{
		{"internal/jobtable/memory/memory.go", "if s.records[r.ID].Revision != r.Revision {", "if false {"},
		{"internal/jobtable/dynamo/dynamo.go", "if revision == 0 {", "if true {\n\t} else if revision == 0 {"},
	}},
	{bug: "the mark before the post", edits: []edit{
		{"internal/callback/callback.go", "receipt := h.cfg.Calls.Post(", "_ = h.mark(ctx, record, job.Delivered, \"\")\n\treceipt := h.cfg.Calls.Post("},
	}},
	{bug: "the outcome sent before it is stored", edits: []edit{
		{"internal/process/process.go", "record, err = h.cfg.Table.Finish(", "early := record\n\tearly.State, early.Result, early.Exhausted, early.Lease = job.Done, &end.result, end.exhausted, time.Time{}\n" +
			"\tretry := h.tell(ctx, log, out, j, early, message)\n\trecord, err = h.cfg.Table.Finish("},
		{"internal/process/process.go", "retry := h.tell(ctx, log, out, j, record, message)", ""},
	}},
	{bug: "a swallowed send error", edits: []edit{
		{"internal/process/process.go", "err = out.send(", "_ = out.send("},
	}},
	{bug: "a failed record left out of the partial batch response", edits: []edit{
		{"internal/batch/batch.go", "if retry != nil {", "if retry != nil && i > 0 {"},
	}},
	{bug: "no backoff cap", edits: []edit{
		{"internal/batch/batch.go", "i < n && delay < MaxBackoff", "i < n && i < 30"},
		{"internal/batch/batch.go", "delay = min(2*delay, MaxBackoff)", "delay = 2 * delay"},
	}},
	{bug: "the lease ignored", edits: []edit{
		{"internal/job/record.go", "if now.Before(r.Lease) {", "if false {"},
	}},
	{bug: "the deadline ignored", edits: []edit{
		{"internal/callback/callback.go", "case h.cfg.Now().After(o.Deadline):", "case false:"},
	}},
	{bug: "the signature compared over the decoded body", tests: []string{"./vapi"}, edits: []edit{
		{"vapi/auth.go", "mac.Write(r.Body)", "var decoded any\n\t\t\t_ = json.Unmarshal(r.Body, &decoded)\n\t\t\tencoded, _ := json.Marshal(decoded)\n\t\t\tmac.Write(encoded)"},
	}},
	{bug: "a redirect followed", tests: []string{"./vapi"}, edits: []edit{
		{"vapi/client.go", "transport.RoundTrip(request)", "(&http.Client{Transport: transport}).Do(request)"},
	}},
	// Two that the harness found when it was new.
	{bug: "the mark tried only once", edits: []edit{
		{"internal/callback/callback.go", "n == markTries", "n == 1"},
	}},
	{bug: "a copy of the outcome for every receive of an exhausted job", edits: []edit{
		{"internal/process/process.go", "if !record.OutcomeReceived() {", "if record.State == job.Done {"},
	}},
}

var (
	brokenPromise = regexp.MustCompile(`(?m)^.*?((?:lost|twice|record|started|late|dead letters|answer): .*)$`)
	failedTest    = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
)

// TestMutants puts each bug into a copy of its files and wants the tests to go
// red.
func TestMutants(t *testing.T) {
	if !*mutants {
		t.Skip("run it with make faults-mutants")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	table := []string{"| bug | found by | what was found first |", "|---|---|---|"}
	for _, m := range bugs {
		t.Run(m.bug, func(t *testing.T) {
			tests := m.tests
			if tests == nil {
				tests = harness
			}
			overlay := plant(t, root, m.edits)
			if out, err := goCommand(root, "build", "-overlay", overlay, "./internal/...", "./vapi/...").CombinedOutput(); err != nil {
				t.Fatalf("the copy does not compile, so that nothing is shown: %s", out)
			}
			arguments := append([]string{"test", "-overlay", overlay, "-count=1", "-vet=off", "-timeout=5m"}, tests...)
			if m.tests == nil {
				arguments = append(arguments, "-args", "-faults.seed=1")
			}
			out, err := goCommand(root, arguments...).CombinedOutput()
			if err == nil {
				t.Fatal("nobody noticed")
			}
			var first, by string
			for _, failed := range failedTest.FindAllStringSubmatch(string(out), -1) {
				by = strings.TrimPrefix(by+", `"+failed[1]+"`", ", ")
			}
			if promise := brokenPromise.FindStringSubmatch(string(out)); m.tests == nil && promise != nil {
				first, _, _ = strings.Cut(promise[1], "{") // without the record
				first = "`" + strings.TrimRight(strings.ReplaceAll(first, "|", `\|`), " ") + "`"
			}
			if by == "" || first == "" && m.tests == nil {
				t.Fatalf("it failed, but not by a broken promise: %.2000s", out)
			}
			table = append(table, fmt.Sprintf("| %s | %s | %s |", m.bug, by, first))
		})
	}
	text := strings.Join(table, "\n")
	fmt.Println(text)
	if t.Failed() {
		return
	}
	writeTable(t, filepath.Join(root, "docs/faults.md"), text)
}

// plant makes copies of the files with the edits, and an overlay that puts them
// into their place.
func plant(t *testing.T, root string, edits []edit) string {
	folder := t.TempDir()
	copies := make(map[string]string)
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		from := path
		if copies[path] != "" {
			from = copies[path]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			t.Fatalf("%s holds %q %d times, and should hold it once: the bug has to be written anew", e.file, e.old, n)
		}
		copies[path] = filepath.Join(folder, strings.ReplaceAll(e.file, "/", "-"))
		if err := os.WriteFile(copies[path], []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": copies})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func goCommand(root string, arguments ...string) *exec.Cmd {
	command := exec.Command("go", arguments...)
	command.Dir = root
	return command
}

func writeTable(t *testing.T, name, table string) {
	const begin, end = "<!-- mutants: written by make faults-mutants -->\n", "\n<!-- end of mutants -->"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no place for the table", name)
	}
	if err := os.WriteFile(name, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
