package deployment

// Outputs of the stack that the command line reads.
const (
	WebhookURLOutput      = "WebhookUrl"
	WebhookSecretOutput   = "WebhookSecretArn"
	JobsTableOutput       = "JobsTableName"
	JobsQueueURLOutput    = "JobsQueueUrl"
	ResultsQueueURLOutput = "ResultsQueueUrl"
)

// Log messages that the stack's metric filters, alarms and dashboard look
// for. The code that logs them names their attributes, which the dashboard
// shows.
const (
	OutcomeDelivered   = "outcome delivered"   // callback
	OutcomeUndelivered = "outcome undelivered" // callback
	ToolFinished       = "tool finished"       // process
	ToolFailed         = "tool failed"         // process
)
