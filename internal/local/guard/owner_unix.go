//go:build unix

package guard

import (
	"io/fs"
	"syscall"
)

// hasOwners reports whether files have owners and permissions.
const hasOwners = true

// owner returns the user that a file belongs to, or -1 if it is unknown.
func owner(file fs.FileInfo) int {
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
