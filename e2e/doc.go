// Package e2e deploys the CDK app into an emulator of AWS, posts webhooks to
// the deployed URL, and looks at what arrives in the calls. It is run by
// `make e2e`.
//
// The emulator is MiniStack. It runs the functions' real binaries, serves
// HTTPS, and lets each function do only what its role allows, so that a missing
// permission fails here. Three things are not as in AWS, and are dealt with
// where they matter: it wants a permission sqs:SendMessageBatch, which does not
// exist (AWS: the permission is sqs:SendMessage); the reference to a secret
// gives its name instead of its ARN, so that the functions are given a secret
// that exists already; and functions run on the machine's own architecture.
package e2e
