package cli

import (
	"context"
	"io"
	"time"
)

// SetSleep replaces the waits of a command, and returns a function that undoes it.
func SetSleep(f func(context.Context, time.Duration) error) (undo func()) {
	sleep = f
	return func() { sleep = nil }
}

// WritePrompt lets tests choose the tools.
var (
	WritePrompt        = writePrompt
	WriteGPTLivePrompt = writeGPTLivePrompt
)

// WriteVersion lets tests choose the build.
var WriteVersion = writeVersion

// WatchSays shows a line as ringback dev --watch does.
func WatchSays(errOut io.Writer, text string) { (&watcher{s: &streams{Err: errOut}}).say("%s", text) }
