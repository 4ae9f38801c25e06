package deployment

import (
	"strings"
	"unicode"
)

// Outputs of the stack that the command line reads.
const (
	WebhookURLOutput      = "WebhookUrl"
	WebhookSecretOutput   = "WebhookSecretArn"
	ArgumentKeyOutput     = "ArgumentKeyArn" // only if a tool has encrypted arguments
	JobsTableOutput       = "JobsTableName"
	JobsQueueURLOutput    = "JobsQueueUrl"
	ResultsQueueURLOutput = "ResultsQueueUrl"

	LongJobsQueueURLOutput      = "LongJobsQueueUrl" // only if there is such a queue
	JobsDeadLettersURLOutput    = "JobsDeadLettersUrl"
	ResultsDeadLettersURLOutput = "ResultsDeadLettersUrl"

	AckLogsOutput      = "AckLogGroupName"
	ProcessLogsOutput  = "ProcessLogGroupName"
	CallbackLogsOutput = "CallbackLogGroupName"

	ReplayKeyOutput = "ReplayKeyArn" // only if arguments are stored

	CompletionSecretOutput = "CompletionSecretArn"
	MissingSettingsOutput  = "MissingToolSettings"

	// The policies of operators: what reading calls and jobs needs, and what changing jobs needs besides.
	OperatorReadOutput  = "OperatorReadPolicy"
	OperatorWriteOutput = "OperatorWritePolicy"

	// ListenOutput is only in the stack of a stage whose jobs wait for a listener. Package listen has its form.
	ListenOutput = "Listen"
)

// ConsoleHost returns the host of the AWS console in a partition, after the region. It is empty if that is unknown.
func ConsoleHost(partition string) string {
	switch partition {
	case "aws":
		return "console.aws.amazon.com"
	case "aws-cn":
		return "console.amazonaws.cn"
	case "aws-us-gov":
		return "console.amazonaws-us-gov.com"
	}
	return ""
}

// NoMissingSettings is the value of [MissingSettingsOutput] if the tools have all of their settings.
const NoMissingSettings = "none"

// MissingSettings returns the value of [MissingSettingsOutput] for the names of variables, sorted.
func MissingSettings(names []string) string {
	if len(names) == 0 {
		return NoMissingSettings
	}
	return strings.Join(names, ", ")
}

// ParseMissingSettings returns the names in the value of [MissingSettingsOutput].
func ParseMissingSettings(output string) []string {
	if output == NoMissingSettings {
		return nil
	}
	return strings.FieldsFunc(output, func(r rune) bool { return r == ',' || r == ' ' })
}

// Log messages that the stack's metric filters, alarms and dashboard look
// for. The code that logs them names their attributes, which the dashboard
// shows.
const (
	OutcomeDelivered   = "outcome delivered"   // callback
	OutcomeUndelivered = "outcome undelivered" // callback
	ToolFinished       = "tool finished"       // process
	ToolFailed         = "tool failed"         // process
)

// LogQuery returns a query of CloudWatch Logs Insights for the log lines that a filter selects.
func LogQuery(filter string) string {
	return `filter ` + filter + `
| fields @timestamp, level, message, tool, job, call, state, verdict, status, reason, error,
  concat("1-", substr(trace_id, 0, 8), "-", substr(trace_id, 8, 24)) as xray_trace
| sort @timestamp asc
| limit 1000`
}

// organisationLabel begins a staging label of the webhook credential's secret. The rest is the id of an
// organisation at Vapi whose webhooks are accepted. It is a label, and not a member of the secret's JSON,
// because functions of earlier versions refuse unknown members.
const organisationLabel = "ringback/organisation/"

// OrganisationLabel returns the staging label of an organisation.
func OrganisationLabel(id string) string { return organisationLabel + id }

// Organisations returns the ids of the organisations in the staging labels of a secret.
func Organisations(labels []string) []string {
	var ids []string
	for _, label := range labels {
		id, ok := strings.CutPrefix(label, organisationLabel)
		if ok && id != "" && !strings.ContainsFunc(id, unicode.IsSpace) {
			ids = append(ids, id)
		}
	}
	return ids
}
