package guard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// NewToken returns a random token for one local run.
func NewToken() string { return rand.Text() }

// Store stores the token of the local run that listens on an address, host:port, for other programs of the same user.
// remove deletes it.
func Store(addr, token string) (remove func(), err error) {
	name, err := file(addr)
	if err != nil {
		return nil, err
	}
	// An existing folder may have another mode.
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.Chmod(filepath.Dir(name), 0o700)); err != nil {
		return nil, fmt.Errorf("cannot store the token of the run: %w", err)
	}
	// A new file has the mode 0600. An existing one may have another, or be a link.
	f, err := os.CreateTemp(filepath.Dir(name), "new-*")
	if err != nil {
		return nil, fmt.Errorf("cannot store the token of the run: %w", err)
	}
	_, err = f.WriteString(token)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return nil, fmt.Errorf("cannot store the token of the run: %w", err)
	}
	return func() { _ = os.Remove(name) }, nil
}

// Token returns the token of the local run at an address of this machine, host:port. It returns an empty string if no
// run of this user is there. It returns an error if another user may have written or read the token.
func Token(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !IsLoopback(host) {
		return "", nil // a token is not for other machines
	}
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	for _, host := range hosts {
		name, err := file(net.JoinHostPort(host, port))
		if err != nil {
			return "", err
		}
		token, err := read(name)
		if err == nil {
			return token, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot read the token of the local run: %w", err)
		}
	}
	return "", nil
}

// read reads a token from a file that is this user's own, in a folder that only this user can change.
func read(name string) (string, error) {
	folder, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !isPrivate(folder, 0o022) || !isPrivate(info, 0o077) || !info.Mode().IsRegular() {
		return "", fmt.Errorf("another user may have written or read %s; remove it and its folder, and start ringback dev "+
			"again", name)
	}
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	return string(token), err
}

// user returns the user of this program.
var user = os.Geteuid

// isPrivate reports whether a file or a folder belongs to this user, and has none of the permissions for others.
func isPrivate(file fs.FileInfo, others fs.FileMode) bool {
	return !hasOwners || owner(file) == user() && file.Mode()&others == 0
}

// maxToken bounds a token, in bytes.
const maxToken = 1 << 10

// file returns the name of the file for an address.
func file(addr string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for the token of the local run: %w", err)
	}
	return filepath.Join(dir, "ringback", "run-"+strings.NewReplacer(":", "_", "%", "_").Replace(addr)), nil
}
