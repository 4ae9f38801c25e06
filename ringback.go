// Package ringback lets a Vapi voice assistant use tools that take minutes or days.
//
// A project imports these packages:
//
//   - asynctool defines a tool, asynctooltest tests it, and httptool makes tools out of HTTP requests
//   - run/ack, run/process, run/callback and run/command are what its mains run
//   - infra/ringback is the construct that deploys it
//
// "ringback init" writes such a project. The README has the rest.
package ringback

import "embed"

// Files are the files of this repository that a new project gets, and the webhooks that the
// demonstration plays. Their paths are those of the repository.
//
//go:embed functions/*/main.go cmd/ringback/main.go infra/main.go infra/package.json infra/package-lock.json
//go:embed cdk.json events/vapi/*.json
var Files embed.FS
