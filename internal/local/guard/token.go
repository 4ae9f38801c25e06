package guard

import (
	"crypto/rand"
	"errors"
	"fmt"
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
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
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
// run of this user is there.
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
		token, err := os.ReadFile(name)
		if err == nil {
			return string(token), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot read the token of the local run: %w", err)
		}
	}
	return "", nil
}

// file returns the name of the file for an address.
func file(addr string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for the token of the local run: %w", err)
	}
	return filepath.Join(dir, "ringback", "run-"+strings.NewReplacer(":", "_", "%", "_").Replace(addr)), nil
}
