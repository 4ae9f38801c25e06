// Package e2e deploys the CDK app into an emulator of AWS, posts webhooks to
// the deployed URL, and looks at what arrives in the calls. It is run by
// `make e2e`.
//
// The emulator is MiniStack. It runs the functions' real binaries, serves
// HTTPS, sends what schedules send when their time has come, and lets each
// function do only what its role allows, so that a missing permission fails
// here. Some things are not as in AWS, and are dealt with where they matter:
//
//   - It wants a permission sqs:SendMessageBatch, which does not exist (AWS: the
//     permission is sqs:SendMessage), and takes each schedule for one of the
//     group "default" where it asks for permissions.
//   - The reference to a secret gives its name instead of its ARN, so that the
//     functions are given secrets that exist already.
//   - Functions run on the machine's own architecture, and those that run are
//     ended when another version is deployed.
//   - It does not ask whether a function may pass a role on (iam:PassRole), nor
//     whether the role of a schedule may send; it has no dead-letter queue for
//     schedules, no window in which results are gathered, and does not cut
//     loops off. The stack's own tests look at the policies.
package e2e
