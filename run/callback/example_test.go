package callback_test

import "github.com/ringback/ringback/run/callback"

// This is the main of functions/callback in a project.
func Example() {
	callback.Run()
}
