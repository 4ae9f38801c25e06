package cli

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

type versionCommand struct{}

// Help returns the text above the flags.
func (versionCommand) Help() string {
	return `A released version prints its tag. Any other build is a development build. "go build" and "go install" record
the revision. "go run" does not.

Examples:

  ringback version`
}

// Run runs the command.
func (versionCommand) Run(s *streams) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return writeVersion(s.Out, info)
}

// pseudoVersion matches what the go command derives from a revision without a tag.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-[0-9a-f]{12}$`)

// writeVersion writes the module version, the revision and the Go version of a build.
func writeVersion(out io.Writer, info *debug.BuildInfo) error {
	settings := make(map[string]string)
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}

	version := info.Main.Version
	tag, dirty := strings.CutSuffix(version, "+dirty")
	switch {
	case version == "" || version == "(devel)":
		version = "development build"
	case dirty || pseudoVersion.MatchString(tag):
		version += " (development build)"
	}

	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		revision = "unknown"
	case settings["vcs.modified"] == "true":
		revision += " of " + settings["vcs.time"] + ", with uncommitted changes"
	default:
		revision += " of " + settings["vcs.time"]
	}

	_, err := fmt.Fprintf(out, "ringback %s\nrevision %s\n%s %s/%s\n",
		version, revision, info.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}
