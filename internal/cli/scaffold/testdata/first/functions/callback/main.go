// Command callback is the Lambda function that delivers results.
package main

import (
	"github.com/ringback/ringback/run/callback"
)

func main() { callback.Run() }
