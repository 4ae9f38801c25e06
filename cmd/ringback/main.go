// Command ringback runs Ringback on this machine and operates a deployment.
package main

import (
	"os"

	"github.com/ringback/ringback/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr))
}
