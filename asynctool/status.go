package asynctool

import (
	"context"
	"errors"
)

// TaskStatusName is the name of [TaskStatus].
const TaskStatusName = "task_status"

// TaskStatus is a ready-made tool that tells the assistant how far its tools
// are: which of the call's run, which wait, since when, and what they last said
// of their progress. Vapi waits for its answer, which comes at once, from the
// function that answers the webhooks.
func TaskStatus() Definition { return taskStatus{} }

type taskStatus struct{}

func (taskStatus) entry() (*Entry, error) {
	e, err := Tool[struct{}]{
		Name: TaskStatusName,
		Description: "Tells how far the other tools of this call are: which ones are still running or waiting, since when, and their last progress. " +
			"Call it when the caller asks how long something takes or whether it is done. It starts nothing.",
		SyncAck: true,
		Run: func(context.Context, Call, struct{}) (Result, error) {
			return Result{}, Fail("", errors.New("the function that answers the webhooks is older than this one, and does not know task_status"))
		},
	}.entry()
	if err == nil {
		e.Status = true
	}
	return e, err
}
