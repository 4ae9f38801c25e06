//go:build !unix

package guard

import "io/fs"

// hasOwners reports whether files have owners and permissions. Here, only the folder of the user protects them.
const hasOwners = false

// owner returns -1, because the owner of a file is unknown.
func owner(fs.FileInfo) int { return -1 }
