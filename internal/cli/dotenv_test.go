package cli_test

import (
	"os"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli"
)

// TestEnvironmentFile reads .env before the tools and the flags read the environment.
func TestEnvironmentFile(t *testing.T) {
	for name, row := range map[string]struct {
		file, set string // the value that is set already; empty means none
		want      string // what the tools find, or a part of the error
		code      int
	}{
		"no file": {"", "", "", 0},
		"a value": {"# a comment\nRINGBACK_TEST_A=\"from the file\"\n", "", "from the file", 0},
		"a credential": {`RINGBACK_TEST_A={"type":"bearer","token":"a#b=="}` + "\n", "",
			`{"type":"bearer","token":"a#b=="}`, 0},
		"set already":     {"RINGBACK_TEST_A=file\n", "environment", "environment", 0},
		"no value":        {"RINGBACK_TEST_A=\nWEBHOOK_AUTH=\n", "", "not set", 0},
		"an open quote":   {"RINGBACK_TEST_A=\"s3cret\n", "", "cannot read .env: a line is not of the form NAME=value", 1},
		"not assignments": {"s3cret\n", "", "cannot read .env: a line is not of the form NAME=value", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, name := range []string{"RINGBACK_TEST_A", "WEBHOOK_AUTH"} {
				t.Setenv(name, row.set) // restores it at the end
				if row.set == "" {
					os.Unsetenv(name)
				}
			}
			if row.file != "" {
				if err := os.WriteFile(".env", []byte(row.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found := ""
			tools := func() ([]asynctool.Definition, error) {
				value, ok := os.LookupEnv("RINGBACK_TEST_A")
				if found = value; !ok && strings.Contains(row.file, "=\n") {
					found = "not set"
				}
				return nil, nil
			}
			var out, errOut syncBuffer
			code := cli.Run(tools, []string{"tools"}, &out, &errOut)
			if row.code != 0 {
				found = errOut.String()
			}
			if code != row.code || !strings.Contains(found, row.want) || strings.Contains(errOut.String(), "s3cret") {
				t.Errorf("code %d, found %q, err %q", code, found, errOut.String())
			}
		})
	}
}
