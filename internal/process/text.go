package process

import (
	"fmt"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// These texts are for the assistant, which reads them instead of a result if a tool was not run.

func unknownTool(name string, tools []*asynctool.Entry) string {
	text := fmt.Sprintf("There is no tool named %s.", name)
	if len(tools) == 0 {
		return text
	}
	names := make([]string, len(tools))
	for i, tool := range tools {
		names[i] = tool.Name
	}
	return text + " The tools are: " + strings.Join(names, ", ") +
		". Do not tell the caller a result that you do not have."
}

// refusedCall says why the ack function refused a tool call.
func refusedCall(tool, reason string) string {
	return fmt.Sprintf("The tool %s was not run: %s. Correct that before you call it again, and do not tell the "+
		"caller a result that you do not have.", tool, reason)
}

func joinedRepeat(tool string) string {
	return fmt.Sprintf("This tool call asks the same as an earlier one, so it was not started. "+
		"The result of the earlier tool call follows, and answers both. Do not call %s again for it.", tool)
}

func limitReached(tool string, limit *job.LimitError) string {
	if limit.Concurrent {
		return fmt.Sprintf("The tool %s was not run: this call has reached its limit of tool calls "+
			"that run at the same time (%d). Wait for one of their results before you call %s again.",
			tool, limit.Most, tool)
	}
	return fmt.Sprintf("The tool %s was not run: this call has reached its limit of tool calls (%d). "+
		"Tell the caller that you cannot do more in this call.", tool, limit.Most)
}
