package deployment

// Outputs of the stack that the command line reads.
const (
	WebhookURLOutput      = "WebhookUrl"
	WebhookSecretOutput   = "WebhookSecretArn"
	JobsTableOutput       = "JobsTableName"
	ResultsQueueURLOutput = "ResultsQueueUrl"
)

// Log messages that the stack's metric filters, alarms and dashboard look for.
// Their attributes, which the dashboard shows, stand where they are logged.
const (
	OutcomeDelivered   = "outcome delivered"   // callback
	OutcomeUndelivered = "outcome undelivered" // callback
	ToolFinished       = "tool finished"       // process
	ToolFailed         = "tool failed"         // process
)
