package cli_test

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/cli"
)

func TestVersion(t *testing.T) {
	code, out, errOut := run(t, "version")
	if code != 0 || !strings.HasPrefix(out, "ringback ") || !strings.Contains(out, "\n"+runtime.Version()+" ") {
		t.Errorf("code %d, out %q, err %q", code, out, errOut)
	}
}

func TestVersionOfBuild(t *testing.T) {
	const (
		pseudo = "v1.2.1-0.20261125154100-d32d3394f0d2"
		commit = "d32d3394f0d2c6e8a8f3b4c5d6e7f8091a2b3c4d"
		at     = "2026-11-25T15:41:00Z"
		clean  = "revision " + commit + " of " + at
	)
	for _, c := range []struct {
		name, module      string
		commit, modified  string
		version, revision string
	}{
		{"release", "v1.2.0", commit, "false", "v1.2.0", clean},
		{"pre-release", "v1.2.0-rc.1", commit, "false", "v1.2.0-rc.1", clean},
		{"release from the module proxy", "v1.2.0", "", "", "v1.2.0", "revision unknown"},
		{"after a release", pseudo, commit, "false", pseudo + " (development build)", clean},
		{"changed", "v1.2.0+dirty", commit, "true",
			"v1.2.0+dirty (development build)", clean + ", with uncommitted changes"},
		{"changed after a release", pseudo + "+dirty", commit, "true",
			pseudo + "+dirty (development build)", clean + ", with uncommitted changes"},
		{"go run", "(devel)", "", "", "development build", "revision unknown"},
		{"no build information", "", "", "", "development build", "revision unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: c.module}}
			if c.commit != "" {
				info.Settings = []debug.BuildSetting{
					{Key: "vcs.revision", Value: c.commit}, {Key: "vcs.time", Value: at}, {Key: "vcs.modified", Value: c.modified},
				}
			}
			var out bytes.Buffer
			if err := cli.WriteVersion(&out, info); err != nil {
				t.Fatal(err)
			}
			want := "ringback " + c.version + "\n" + c.revision + "\ngo1.26.8 " + runtime.GOOS + "/" + runtime.GOARCH + "\n"
			if out.String() != want {
				t.Errorf("got:\n%swant:\n%s", out.String(), want)
			}
		})
	}
}
