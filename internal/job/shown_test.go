package job_test

import (
	"testing"

	"github.com/ringback/ringback/internal/job"
)

// TestShown compares what logs show with `printf %s ID | sha256sum`, which an operator can use, too.
func TestShown(t *testing.T) {
	const call, hash = "7420f27a-30fd-4f49-a995-5549ae7cc00d", "271bfd28cb1404b3"
	if got := job.CallHash(call); got != hash || job.LogCall(call).String() != "call="+hash {
		t.Errorf("the call is %q and %s, want %s", got, job.LogCall(call), hash)
	}
	if got := job.CallHash(""); got != "" {
		t.Errorf("no call is %q", got)
	}
	made := job.ID(call, "call_1", "tool", nil)
	for id, want := range map[string]string{
		made:                           made,
		job.EarlierID(call, "call_51"): hash + "/call_51",
		job.EarlierID(call, ""):        hash + "/",
		"":                             "",
	} {
		if got := job.ShownID(id); got != want || job.LogJob(id).String() != "job="+want {
			t.Errorf("%q is %q and %s, want %q", id, got, job.LogJob(id), want)
		}
	}
}
