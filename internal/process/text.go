package process

import (
	"fmt"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// The texts here are for the assistant. It reads them in the place of a result if a tool was not run.

func unknownTool(name string, tools []*asynctool.Entry) string {
	text := fmt.Sprintf("There is no such tool: %s.", name)
	if len(tools) == 0 {
		return text
	}
	names := make([]string, len(tools))
	for i, tool := range tools {
		names[i] = tool.Name
	}
	return text + " There are: " + strings.Join(names, ", ") +
		". Do not tell the caller a result that you do not have."
}

func unusableArguments(tool, reason string) string {
	return fmt.Sprintf("The tool %s was not run: %s. Call %s again with its arguments as a JSON object.",
		tool, reason, tool)
}

func joinedRepeat(tool, earlier string) string {
	return fmt.Sprintf("This tool call asks the same as the earlier tool call %s, which is still under way. "+
		"It was not started again: the result of the earlier one answers both, and follows. "+
		"Do not call %s again for it.", earlier, tool)
}

func limitReached(tool string, limit *job.LimitError) string {
	if limit.Concurrent {
		return fmt.Sprintf("The tool %s was not run: %d tool calls of this call are still running, "+
			"and no more may run at the same time. Wait for one of their results before you call it again.",
			tool, limit.Most)
	}
	return fmt.Sprintf("The tool %s was not run: this call has used a tool %d times, and may not do so again. "+
		"Tell the caller that you cannot do more in this call.", tool, limit.Most)
}
