package tools

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
)

// The tests deploy a project with this file as its tools/tools.go. Its tools do what those of the shop do not.

// e2eVersion is the version of this code. The tests deploy another version in between, so that tools
// resume with other code than they started with.
const e2eVersion = 1

// e2eTimeout is the timeout of a tool.
const e2eTimeout = 2 * time.Minute

// All returns the tools that are deployed.
func All() ([]asynctool.Definition, error) {
	all, err := shop.All()
	return append(all, resumeOften(), stopWithCall(), keepForNextCall(), killed()), err
}

type resumeOftenState struct {
	// Versions holds the code version of each run, in order.
	Versions []int `json:"versions"`
}

// resumeOften resumes 12 times, and then until other code than at first runs it. Its result lists the
// versions of the code.
func resumeOften() asynctool.Definition {
	return asynctool.Tool[struct{}]{
		Name: "resume_often", Description: "Resumes again and again.", Attempts: 3, Deadline: 12 * time.Hour,
		Timeout: e2eTimeout,
		Run: func(_ context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
			state, err := asynctool.State[resumeOftenState](call)
			if err != nil {
				return asynctool.Result{}, err
			}
			if len(state.Versions) != call.Resumes {
				return asynctool.Result{}, asynctool.Fail("",
					fmt.Errorf("it was resumed %d times, and its state is %v", call.Resumes, state.Versions))
			}
			state.Versions = append(state.Versions, e2eVersion)
			switch {
			case call.Resumes < 12:
				return asynctool.ResumeIn(time.Second, state), nil
			case state.Versions[0] == e2eVersion:
				return asynctool.ResumeIn(5*time.Second, state), nil
			}
			return asynctool.Textf("The versions were %v.", state.Versions), nil
		},
	}
}

// stopWithCall runs until its call ends.
func stopWithCall() asynctool.Definition {
	return asynctool.Tool[struct{}]{
		Name: "stop_with_call", Description: "Runs until the call ends.", StopWithCall: true, AfterCall: asynctool.Drop,
		Timeout: 150 * time.Second, // that of the shipped tool with the longest one
		Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
			if err := note(ctx, "started", call); err != nil {
				return asynctool.Result{}, err
			}
			<-ctx.Done()
			if err := note(context.WithoutCancel(ctx), "stopped", call); err != nil {
				return asynctool.Result{}, err
			}
			return asynctool.Result{}, context.Cause(ctx)
		},
	}
}

// keepForNextCall returns a result that is parked for the customer's next call.
func keepForNextCall() asynctool.Definition {
	return asynctool.Tool[struct{}]{
		Name: "keep_for_next_call", Description: "Returns an answer.", AfterCall: asynctool.NextCall,
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("This was kept."), nil
		},
	}
}

// killed runs until its process is killed. Its second attempt returns.
func killed() asynctool.Definition {
	return asynctool.Tool[struct{}]{
		Name: "killed", Description: "Runs until it is killed.", Timeout: 20 * time.Second, Attempts: 2,
		Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
			if call.Attempt > 1 {
				return asynctool.Textf("This is attempt %d.", call.Attempt), nil
			}
			if err := note(ctx, "started", call); err != nil {
				return asynctool.Result{}, err
			}
			<-ctx.Done()
			return asynctool.Result{}, context.Cause(ctx)
		},
	}
}

// note reports to the tests what a tool does.
func note(ctx context.Context, what string, call asynctool.Call) error {
	url := os.Getenv("E2E_URL") + "/tools/" + what + "/" + call.ID + "-" + call.ToolCallID
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
