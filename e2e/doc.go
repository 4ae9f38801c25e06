// Package e2e generates a project and deploys it into an emulator of AWS, with the project's own make bootstrap and
// make deploy. It posts webhooks to the deployed URL, and checks what arrives in the calls. To run it, use `make e2e`.
// A second stage is deployed for a listener, which runs as a process on this machine, with the permissions that
// docs/deploy.md names.
//
// The emulator is MiniStack. It runs the functions' real binaries, serves HTTPS and sends the messages
// of schedules. It allows each function only what its role allows, so a missing permission fails here.
// It differs from AWS in some ways:
//
//   - It requires a permission sqs:SendMessageBatch, which does not exist in AWS (there it is
//     sqs:SendMessage). When it checks permissions, it takes each schedule for one of the group
//     "default".
//   - The reference to a secret returns the secret's name instead of its ARN. The stack therefore uses
//     existing secrets.
//   - Its requests lack the condition keys dynamodb:LeadingKeys, events:source and events:detail-type, and
//     an absent key fulfils "for all values". So these conditions forbid nothing here.
//   - Functions run on the architecture of this machine. A deployment ends the functions that run.
//   - It does not check whether a function may pass on a role (iam:PassRole), nor whether the role of a
//     schedule may send. It has no dead-letter queue for schedules and no batching window, and does not
//     stop recursive loops. The stack's own tests check the policies.
package e2e
