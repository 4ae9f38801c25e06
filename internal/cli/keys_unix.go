//go:build linux || darwin

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// readKeys makes a terminal pass on single keys. It reports whether it does.
func readKeys(in *os.File) (restore func(), ok bool) {
	terminal := int(in.Fd())
	before, err := unix.IoctlGetTermios(terminal, getTermios)
	if err != nil {
		return nil, false
	}
	// The terminal stops a program in the background that reads from it.
	if group, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return nil, false
	}
	keys := *before
	keys.Lflag &^= unix.ICANON | unix.ECHO // signals stay: Ctrl-C interrupts
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(terminal, setTermios, &keys); err != nil {
		return nil, false
	}
	return func() { _ = unix.IoctlSetTermios(terminal, setTermios, before) }, true
}
