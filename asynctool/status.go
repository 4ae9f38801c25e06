package asynctool

import (
	"context"
	"errors"
	"time"
)

// TaskStatusName is the name of [TaskStatus].
const TaskStatusName = "task_status"

// TaskStatus returns a ready-made tool that reports to the assistant how far its
// other tools are: which of this call are running or waiting, since when, and
// their last progress. In a GPT-Live call it also returns the results of those that
// are finished, as the model that calls tools has not read them. The function that
// answers the webhooks answers it at once, while Vapi waits.
func TaskStatus() Definition { return taskStatus{} }

type taskStatus struct{}

func (taskStatus) entry() (*Entry, error) {
	e, err := Tool[struct{}]{
		Name: TaskStatusName,
		Description: "Tells how far the other tools of this call are: which ones are still running or waiting, " +
			"since when, and their last progress. It may also return the results of those that are finished. " +
			"Call it when the caller asks how long something takes or whether it is done, or when you need a " +
			"result that you do not have. It starts nothing.",
		// It is not run, and must not lengthen the timeout of the process function.
		Timeout: time.Second,
		SyncAck: true,
		Run: func(context.Context, Call, struct{}) (Result, error) {
			return Result{}, Fail("", errors.New(
				"the function that answers the webhooks does not know task_status: it is older than this one; deploy again"))
		},
	}.entry()
	if err == nil {
		e.Status = true
	}
	return e, err
}
