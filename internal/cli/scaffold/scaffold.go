// Package scaffold writes a new project: a module with a tool of its own, which imports Ringback.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/ringback/ringback"
)

// ownPath is the module path of Ringback.
const ownPath = "github.com/ringback/ringback"

//go:embed all:_project
var project embed.FS

// shared are the files of the repository that every project has, too.
var shared = []string{
	"cdk.json", "cmd/ringback/main.go", "functions/ack/main.go", "functions/callback/main.go",
	"functions/process/main.go", "infra/main.go", "infra/package.json", "infra/package-lock.json",
}

// Source says where a project gets Ringback from.
type Source struct {
	// Version is the required version.
	Version string

	// Checkout is the folder that replaces it. Empty means none.
	Checkout string
}

var (
	// released matches a version that has a tag.
	released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
	// pseudo matches the version that the go command derives from a revision without a tag.
	pseudo = regexp.MustCompile(`[-.]\d{14}-[0-9a-f]{12}$`)
)

// SourceOf returns the source of a build. A released version, or the one that a project requires, is
// required again. A development build is replaced by its own checkout.
func SourceOf(build *debug.BuildInfo) (Source, error) {
	if build != nil {
		if v := build.Main.Version; build.Main.Path == ownPath && released.MatchString(v) && !pseudo.MatchString(v) {
			return Source{Version: v}, nil
		}
		for _, dependency := range build.Deps {
			switch {
			case dependency.Path != ownPath:
			case dependency.Replace == nil:
				return Source{Version: dependency.Version}, nil
			case filepath.IsAbs(dependency.Replace.Path):
				return Source{Version: "v0.0.0", Checkout: dependency.Replace.Path}, nil
			}
		}
	}
	_, file, _, _ := runtime.Caller(0) // a path of the module, if the build was trimmed
	checkout := filepath.Join(filepath.Dir(file), "..", "..", "..")
	if _, err := os.Stat(filepath.Join(checkout, "go.mod")); err != nil || !filepath.IsAbs(checkout) {
		return Source{}, errors.New("this is a development build, and its checkout is not on this machine; " +
			"use a released version, or build the command in its checkout")
	}
	return Source{Version: "v0.0.0", Checkout: checkout}, nil
}

// Write writes the project with this module path into a folder, which must not exist or be empty.
func Write(folder, modulePath string, from Source) error {
	if err := module.CheckPath(modulePath); err != nil {
		return fmt.Errorf("%q is not the path of a module, such as example.com/acme/voice", modulePath)
	}
	if modulePath == ownPath {
		return fmt.Errorf("%s is Ringback itself; choose a path of your own", modulePath)
	}
	switch entries, err := os.ReadDir(folder); {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("%s is not empty", folder)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	files := map[string][]byte{"go.mod": goMod(modulePath, from)}
	for _, name := range shared {
		content, err := ringback.Files.ReadFile(name)
		if err != nil {
			return err
		}
		files[name] = content
	}
	// An existing stack would lose its access log by this setting, so that the repository has none.
	const settings = `"context": {`
	files["cdk.json"] = bytes.Replace(
		files["cdk.json"], []byte(settings), []byte(settings+"\n    \"vendedLogs\": true,"), 1)
	own, err := fs.Sub(project, "_project")
	if err != nil {
		return err
	}
	if err := fs.WalkDir(own, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(own, name)
		if name == "gitignore" {
			name = ".gitignore"
		}
		files[name] = content
		return err
	}); err != nil {
		return err
	}
	for name, content := range files {
		if path.Ext(name) == ".go" {
			own := strings.ReplaceAll(string(content), `"`+ownPath+`/tools"`, `"`+modulePath+`/tools"`)
			if content, err = format.Source([]byte(own)); err != nil { // sorts the imports
				return err
			}
		}
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func goMod(modulePath string, from Source) []byte {
	text := fmt.Sprintf("module %s\n\ngo 1.26.0\n\n// The CDK CLI contains templates of Go files.\n"+
		"ignore ./infra/node_modules\n\nrequire %s %s\n", modulePath, ownPath, from.Version)
	if from.Checkout != "" {
		text += fmt.Sprintf("\nreplace %s => %s\n", ownPath, modfile.AutoQuote(from.Checkout))
	}
	return []byte(text)
}
