// Package functions_test checks what the Lambda functions are linked with.
package functions_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTimeZones checks which functions contain the time zones. AWS's images may have none. The ack
// function needs none, and a caller waits for its start.
func TestTimeZones(t *testing.T) {
	for name, want := range map[string]bool{"ack": false, "process": true, "callback": true} {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+name)
		list.Env = append(list.Environ(), "GOOS=linux")
		packages, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(strings.Fields(string(packages)), "time/tzdata") != want {
			t.Errorf("%s: contains the time zones: %t, want %t", name, !want, want)
		}
	}
}
