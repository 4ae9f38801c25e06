package asynctool

import (
	"context"
	"errors"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// CancelTaskName is the name of the tool with which the assistant cancels a job of
// its call. Every [Set] with a tool that is Cancellable also contains that tool, so
// no other tool can have its name. The function that answers the webhooks answers
// it at once, while Vapi waits.
const CancelTaskName = "cancel_task"

type cancelTaskInput struct {
	Tool   string `json:"tool,omitempty" jsonschema:"the name of the tool whose task the caller no longer wants"`
	Number string `json:"number,omitempty"`
}

// cancelTask returns the tool that cancels the jobs of the tools with these names.
func cancelTask(tools []any) (*Entry, error) {
	e, err := Tool[cancelTaskInput]{
		Name: CancelTaskName,
		Description: "Cancels a task that another tool has started in this call and that is not finished. Call it when " +
			"the caller no longer wants the result. It does not undo what the task has already done.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["tool"].Enum = tools
			s.Properties["number"].Description = "the number of the task, if several tasks of the tool are running: " +
				"without it, the answer lists them with their numbers"
		},
		// It is not run, and must not lengthen the timeout of the process function.
		Timeout: time.Second,
		SyncAck: true,
		Run: func(context.Context, Call, cancelTaskInput) (Result, error) {
			return Result{}, Fail("", errors.New(
				"the function that answers the webhooks does not know cancel_task: it is older than this one; deploy again"))
		},
	}.entry()
	if err == nil {
		e.Status = true
	}
	return e, err
}
