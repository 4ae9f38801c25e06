package ack_test

import "github.com/ringback/ringback/run/ack"

// This is the main of functions/ack in a project.
func Example() {
	ack.Run()
}
