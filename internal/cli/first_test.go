package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFirstDeployment runs the commands of "Deploy for the first time" in docs/deploy.md. Each prints what the page
// quotes: the same lines in this order, among others. A line that ends with … is quoted in part.
func TestFirstDeployment(t *testing.T) {
	withoutSettings(t)
	unprepared := httptest.NewServer(amazon{unprepared: true})
	defer unprepared.Close()
	account := atVapi(t)
	deployed(t, bearer, "MissingToolSettings", "ORDERS_API_URL, REQUESTS_API_URL, STOCK_API_TOKEN, STOCK_API_URL")
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	http.DefaultTransport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if "https://"+r.URL.Host+r.URL.Path != hook {
			return before.RoundTrip(r)
		}
		answer := httptest.NewRecorder()
		if r.Header.Get("Authorization") != "Bearer "+hookToken {
			answer.WriteHeader(http.StatusUnauthorized)
		}
		return answer.Result(), nil
	})
	const id = "5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33"
	account.Add("assistant", `{"id":"`+id+`","name":"Shop","model":{"provider":"openai"}}`)
	t.Setenv("ASSISTANT_ID", id)

	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Deploy for the first time\n")
	section, _, _ = strings.Cut(section, "\n### ")
	steps := regexp.MustCompile("(?ms)^   ```sh\n[^`]*?go run ./cmd/ringback ([^`\n]*)\n   ```\n[^`]*?" +
		"^   ```text\n(.*?)^   ```$")
	played := map[string]bool{}
	for _, step := range steps.FindAllStringSubmatch(section, -1) {
		aws := endpoint
		arguments, quoted := strings.Fields(os.ExpandEnv(strings.ReplaceAll(step[1], `"`, ""))), step[2]
		switch step[1] {
		case "doctor --local":
			aws = unprepared.URL
		case `sync --stack Ringback --assistant "$ASSISTANT_ID"`:
			arguments = append(arguments, "--yes")
		case "prompt --stack Ringback", `doctor --stack Ringback --assistant "$ASSISTANT_ID"`:
		case "jobs list --stack Ringback": // TestJobsList
			continue
		default:
			t.Errorf("the page quotes the output of %q, which nothing plays", step[1])
			continue
		}
		t.Setenv("AWS_ENDPOINT_URL", aws)
		_, out, errOut := run(t, arguments...)
		if missing := notQuoted(out, quoted); missing != "" {
			t.Errorf("ringback %s does not print %q in its place:\n%s%s", step[1], missing, out, errOut)
		}
		if played[step[1]] = true; arguments[0] == "prompt" {
			text, err := json.Marshal(out)
			if err != nil {
				t.Fatal(err)
			}
			var assistant struct{ Model map[string]any }
			if err := json.Unmarshal(account.Objects("assistant")[0], &assistant); err != nil {
				t.Fatal(err)
			}
			assistant.Model["messages"] = []any{map[string]any{"role": "system", "content": json.RawMessage(text)}}
			model, err := json.Marshal(assistant.Model)
			if err != nil {
				t.Fatal(err)
			}
			account.Change("assistant", id, "model", string(model))
		}
	}
	if len(played) < 4 {
		t.Errorf("the page quotes the output of %v only; has the format of the steps changed?", played)
	}
}

// notQuoted returns the first quoted line that the output does not have in its place, or "".
func notQuoted(out, quoted string) string {
	lines := strings.Split(out, "\n")
	for line := range strings.Lines(quoted) {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "   "), "\n")
		part, cut := strings.CutSuffix(line, "…")
		for {
			if len(lines) == 0 {
				return line
			}
			found := lines[0] == line || cut && strings.HasPrefix(lines[0], part)
			if !cut || part != "" {
				lines = lines[1:]
			}
			if found {
				break
			}
		}
	}
	return ""
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
