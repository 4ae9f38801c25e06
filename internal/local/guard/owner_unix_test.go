//go:build unix

package guard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenOfOthers finds files that another user may have read or written. Their tokens prove nothing.
func TestTokenOfOthers(t *testing.T) {
	const addr = "127.0.0.1:8787"
	for name, change := range map[string]func(file, folder string) error{
		"readable by the group":  func(file, _ string) error { return os.Chmod(file, 0o640) },
		"readable by others":     func(file, _ string) error { return os.Chmod(file, 0o604) },
		"writable by others":     func(file, _ string) error { return os.Chmod(file, 0o602) },
		"in a folder of all":     func(_, folder string) error { return os.Chmod(folder, 0o777) },
		"in a folder of a group": func(_, folder string) error { return os.Chmod(folder, 0o770) },
		"of another user": func(string, string) error {
			user = func() int { return os.Geteuid() + 1 }
			return nil
		},
		"a folder": func(file, _ string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.Mkdir(file, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("HOME", cache)
			defer func() { user = os.Geteuid }()
			file, err := file(addr)
			if err != nil {
				t.Fatal(err)
			}
			// An existing folder gets the mode of a new one.
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(file), 0o777); err != nil {
				t.Fatal(err)
			}
			if _, err := Store(addr, "the token"); err != nil {
				t.Fatal(err)
			}
			if token, err := Token(addr); token != "the token" || err != nil {
				t.Fatalf("%q, %v", token, err)
			}
			if err := change(file, filepath.Dir(file)); err != nil {
				t.Fatal(err)
			}
			token, err := Token(addr)
			if token != "" || err == nil || !strings.Contains(err.Error(), "another user may have written or read "+file) {
				t.Errorf("%q, %v", token, err)
			}
		})
	}
}
