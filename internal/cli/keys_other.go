//go:build !linux && !darwin

package cli

import "os"

// readKeys does not support this system's terminals.
func readKeys(*os.File) (restore func(), ok bool) { return nil, false }
