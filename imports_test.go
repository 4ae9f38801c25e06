// Package ringback_test checks what holds for the module as a whole: who may
// know whom.
package ringback_test

import (
	"os/exec"
	"strings"
	"testing"
)

const (
	module = "github.com/ringback/ringback/"
	// jsonscan imports nothing of ours, so every package may import it.
	jsonscan = module + "internal/jsonscan"
)

// TestImports holds the packages to their layers, so that the way of a tool
// call can be read from the folders: mains → handlers → what passes between
// them. Tests may import what they like.
func TestImports(t *testing.T) {
	handlers := []string{"internal/ack", "internal/process", "internal/callback", "internal/completion"}
	for _, rule := range []struct {
		packages []string
		never    []string // prefixes of import paths
		why      string
	}{
		{[]string{"asynctool", "vapi", "vapi/vapiauth", "internal/jsonscan"}, []string{module}, "it imports nothing of ours"},
		{[]string{"vapi/vapiclient"}, []string{module + "asynctool", module + "internal/", module + "tools"}, "it knows nothing of ours but vapi"},
		{[]string{"vapi", "asynctool", "tools", "internal/job", "internal/queue"}, []string{"github.com/aws/"}, "it knows nothing of AWS"},
		{[]string{"internal/job", "internal/queue"}, []string{module}, "it is what passes between the others"},
		{[]string{"tools"}, []string{module + "internal/", module + "vapi"}, "a tool's author needs asynctool alone"},
		{handlers, []string{"github.com/aws/aws-sdk-go-v2"}, "handlers know AWS by their own interfaces"},
		{[]string{"internal/ack"}, []string{module + "internal/process", module + "internal/callback", module + "internal/completion", module + "internal/jobtable", module + "tools", module + "asynctool"}, "the ack knows no table, no tool and no other handler"},
		{[]string{"internal/process"}, []string{module + "internal/ack", module + "internal/callback", module + "internal/completion", module + "tools"}, "a handler knows no other"},
		{[]string{"internal/callback"}, []string{module + "internal/ack", module + "internal/process", module + "internal/completion", module + "tools"}, "a handler knows no other"},
		{[]string{"internal/completion"}, []string{module + "internal/ack", module + "internal/process", module + "internal/callback", module + "tools", module + "asynctool"}, "it knows no tool and no other handler"},
		{[]string{"internal/status"}, []string{module + "internal/jobtable", module + "tools", module + "asynctool", "github.com/aws/"}, "it turns what is known of jobs into a text"},
		{[]string{"functions/ack"}, []string{module + "tools", module + "asynctool"}, "the front starts without the tools"},
		{[]string{"infra", "infra/ringback"}, []string{module + "internal/ack", module + "internal/process", module + "internal/callback", module + "internal/completion"}, "the stack knows the tools' limits and no handler"},
	} {
		for _, p := range rule.packages {
			t.Run(p, func(t *testing.T) {
				out, err := exec.Command("go", "list", "-deps", "./"+p).Output()
				if err != nil {
					t.Fatalf("go list -deps ./%s: %v", p, err)
				}
				for dep := range strings.Lines(string(out)) {
					dep = strings.TrimSpace(dep)
					for _, never := range rule.never {
						if strings.HasPrefix(dep, never) && dep != module+p && dep != jsonscan {
							t.Errorf("%s imports %s, but %s", p, dep, rule.why)
						}
					}
				}
			})
		}
	}
}
