// Command ack is the Lambda function that answers webhooks.
package main

import (
	"github.com/ringback/ringback/run/ack"
)

func main() { ack.Run() }
