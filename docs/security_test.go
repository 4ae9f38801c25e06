package docs_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

// namedTest matches a package and a test in a page.
var namedTest = regexp.MustCompile("`([a-z/-]+)\\.((?:Test|Fuzz)\\w+)`")

// TestThreatsHaveTests checks that each threat in the threat model names tests that
// exist.
func TestThreatsHaveTests(t *testing.T) {
	rowsHaveTests(t, "security.md", "Threats", 20)
}

// TestPromisesHaveTests checks that each promise in ARCHITECTURE.md names tests that
// exist.
func TestPromisesHaveTests(t *testing.T) {
	rowsHaveTests(t, "../ARCHITECTURE.md", "Promises, and the place that keeps each", 9)
}

// TestWhoCanDoWhat checks that the table has a cell for each column in each row, and names tests that exist.
func TestWhoCanDoWhat(t *testing.T) {
	_, rows, _ := strings.Cut(read(t, "security.md"), "\n## Who can do what\n")
	rows, _, _ = strings.Cut(rows, "\n## ")
	count := 0
	for line := range strings.Lines(rows) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		count++
		if n := strings.Count(line, " |"); n != 4 {
			t.Errorf("%d cells, want 4: %s", n, line)
		}
		for _, test := range namedTest.FindAllStringSubmatch(line, -1) {
			if !declared(t, filepath.Join("..", test[1]), test[2]) {
				t.Errorf("%s has no %s", test[1], test[2])
			}
		}
	}
	if count < 20 {
		t.Errorf("found only %d rows; has the format of the table changed?", count)
	}
}

// rowsHaveTests checks the tables of a section. Their last of three columns must name
// at least one test.
func rowsHaveTests(t *testing.T, page, section string, least int) {
	t.Helper()
	_, rows, found := strings.Cut(read(t, page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %q", page, section)
	}
	rows, _, _ = strings.Cut(rows, "\n## ")
	count := 0
	for line := range strings.Lines(rows) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| threat ") || strings.HasPrefix(line, "| promise ") {
			continue
		}
		count++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		tests := namedTest.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells) != 3 || len(tests) == 0 {
			t.Errorf("no test covers %s", line)
		}
		for _, test := range tests {
			if !declared(t, filepath.Join("..", test[1]), test[2]) {
				t.Errorf("%s has no %s", test[1], test[2])
			}
		}
	}
	if count < least {
		t.Errorf("%s: found only %d rows; has the format of the tables changed?", page, count)
	}
}

// declared reports whether a folder declares a test.
func declared(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.Contains(read(t, file), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestUndeliveredExample checks the event that the documentation shows.
func TestUndeliveredExample(t *testing.T) {
	page := read(t, "undelivered.md")
	text, err := os.ReadFile("../internal/aws/eventbus/undelivered.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(page)
	if shown == nil {
		t.Fatal("the page has no example")
	}
	var event struct {
		Source     string
		DetailType string `json:"detail-type"`
		Detail     map[string]any
	}
	if err := json.Unmarshal([]byte(shown[1]), &event); err != nil {
		t.Fatal(err)
	}
	err = resolved.Validate(event.Detail)
	if err != nil || event.Source != "ringback" || event.DetailType != "undelivered" {
		t.Errorf("the example is not a valid event: %v", err)
	}
	for _, why := range schema.Properties["why"].OneOf {
		if !strings.Contains(page, "\n| `"+(*why.Const).(string)+"` |") {
			t.Errorf("the page does not explain %v", *why.Const)
		}
	}
}

// TestLicencesAreListed compares the build list with the page of licences.
func TestLicencesAreListed(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test", "-tags", "e2e",
		"-f", "{{with .Module}}{{if not .Main}}| {{.Path}} | {{.Version}} |{{end}}{{end}}", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	built := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		built[strings.TrimSpace(line)] = true
	}
	listed := make(map[string]bool)
	rows := regexp.MustCompile(`(?m)^(\| \S+ \| v[0-9]\S* \|) \S+ \|$`)
	for _, row := range rows.FindAllStringSubmatch(read(t, "licences.md"), -1) {
		listed[row[1]] = true
	}
	delete(built, "")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(built)), slices.Sorted(maps.Keys(listed))); diff != "" || len(built) == 0 {
		t.Errorf("run make licences (-built +listed):\n%s", diff)
	}
}

// TestActionsArePinned checks that workflows name actions by commits, because tags can
// be moved.
func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	for _, file := range files {
		uses := regexp.MustCompile(`(?m)^\s*-?\s*uses:\s*(.*)$`).FindAllStringSubmatch(read(t, file), -1)
		for _, u := range uses {
			if !regexp.MustCompile(`^[\w-]+(/[\w-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`).MatchString(u[1]) {
				t.Errorf("%s uses %s; use a commit, with its version in a comment", file, u[1])
			}
		}
		if len(uses) == 0 {
			t.Errorf("found no action in %s; has the format changed?", file)
		}
	}
}
