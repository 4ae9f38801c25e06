package cli

import (
	"os"
)

// hangUps returns a channel that gets a value each time that a user presses h. The terminal then no longer waits for
// the end of a line, nor echoes. It returns nil if the input is not a terminal, or belongs to another program. restore
// sets the terminal back.
func hangUps(in *os.File) (pressed <-chan struct{}, restore func()) {
	restore, ok := readKeys(in)
	if !ok {
		return nil, func() {}
	}
	keys := make(chan struct{})
	go func() {
		for one := make([]byte, 1); ; {
			n, err := in.Read(one)
			if err != nil {
				return
			}
			if n == 1 && (one[0] == 'h' || one[0] == 'H') {
				keys <- struct{}{}
			}
		}
	}()
	return keys, restore
}
