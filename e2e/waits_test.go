//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ringback/ringback/internal/batch"
)

// The limits of the waits. Each limit is the sum of the timeouts that may pass before the event. So a
// wait fails only if something is wrong: not on a busy machine, and not because an invocation was
// interrupted. A wait that succeeds earlier costs nothing.

const (
	// cleanUp is the part of go test's limit that is reserved for ending the emulator and for the logs
	// of a failure.
	cleanUp = 2 * time.Minute

	// unbounded is the limit of what depends only on the speed of the machine: the start of the
	// emulator, and one answer of its services.
	unbounded = 10 * time.Minute

	// scheduleWait is the time from the creation of a schedule until its message is sent. A schedule
	// is created at least a minute ahead (internal/aws/scheduler), and is exact to the minute.
	scheduleWait = 2 * time.Minute

	// holdAfter is when the hold message of notify_when_ready is spoken.
	holdAfter = 20 * time.Second

	// watchEvery is the interval at which the process function checks whether the call of a running
	// tool has ended.
	watchEvery = 5 * time.Second
)

// consumer is a queue and the function that handles its messages.
type consumer struct {
	url         string
	mapping     string        // the id of the event source mapping
	timeout     time.Duration // of the function
	visibility  time.Duration // of the queue
	maxReceives int           // of a message before it moves to the dead-letter queue
}

// jobs returns the jobs queue with the process function. The limits of the queue of long tools are the
// same.
func (d *deployment) jobs(t *testing.T) consumer {
	t.Helper()
	return d.consumer(t, "JobsQueueUrl")
}

// longJobs returns the queue of the jobs of long tools with the process function.
func (d *deployment) longJobs(t *testing.T) consumer {
	t.Helper()
	return d.consumer(t, "LongJobsQueueUrl")
}

// results returns the results queue with the callback function.
func (d *deployment) results(t *testing.T) consumer {
	t.Helper()
	return d.consumer(t, "ResultsQueueUrl")
}

// consumer reads the consumer of an output's queue from the template.
func (d *deployment) consumer(t *testing.T, output string) consumer {
	t.Helper()
	for id, mapping := range d.template.Resources {
		if mapping.Type != "AWS::Lambda::EventSourceMapping" {
			continue
		}
		source, _ := mapping.Properties["EventSourceArn"].(map[string]any)["Fn::GetAtt"].([]any)
		function, _ := mapping.Properties["FunctionName"].(map[string]any)["Ref"].(string)
		if len(source) == 0 || last(d.resources[source[0].(string)]) != last(d.outputs[output]) {
			continue
		}
		queue := d.template.Resources[source[0].(string)].Properties
		return consumer{
			url: d.outputs[output], mapping: d.resources[id],
			timeout:     seconds(d.template.Resources[function].Properties["Timeout"]),
			visibility:  seconds(queue["VisibilityTimeout"]),
			maxReceives: int(queue["RedrivePolicy"].(map[string]any)["maxReceiveCount"].(float64)),
		}
	}
	t.Fatalf("no function handles the messages of %s", d.outputs[output])
	return consumer{}
}

func seconds(property any) time.Duration {
	return time.Duration(property.(float64)) * time.Second
}

// once returns the limit for one message. One invocation is interrupted, which hides the message for the
// queue's visibility timeout. The next one runs for as long as its function may.
func (c consumer) once() time.Duration { return c.visibility + c.timeout }

// deadLetter returns the limit until a message that always fails is in the dead-letter queue.
func (c consumer) deadLetter() time.Duration {
	return c.once() + time.Duration(c.maxReceives)*batch.MaxBackoff
}

// resultWait returns the limit from a webhook to the end of its job: the tool runs, and its result is
// delivered.
func (d *deployment) resultWait(t *testing.T) time.Duration {
	t.Helper()
	return d.jobs(t).once() + d.results(t).once()
}

// retriedWait returns the limit for the result of a tool's last attempt.
func (d *deployment) retriedWait(t *testing.T, attempts int) time.Duration {
	t.Helper()
	return d.resultWait(t) + time.Duration(attempts-1)*(d.jobs(t).timeout+batch.MaxBackoff)
}

// refusal measures how long the API takes to refuse a webhook: one invocation that uses no other
// service. The limits of what must be quick are multiples of it, so that they also hold on a busy
// machine.
func (d *deployment) refusal(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	began := time.Now()
	status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], "wrong", []byte(`{}`))
	if err != nil || status != 401 {
		t.Errorf("the answer to a webhook with a wrong token is %d %s, %v", status, answer, err)
	}
	return time.Since(began)
}

// messages returns how many messages of a queue are visible, hidden (received and not yet deleted) and
// delayed.
func (d *deployment) messages(ctx context.Context, url string) (visible, hidden, delayed int, err error) {
	out, err := sqs.NewFromConfig(d.aws()).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	if err != nil {
		return 0, 0, 0, err
	}
	var errs [3]error
	visible, errs[0] = strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	hidden, errs[1] = strconv.Atoi(out.Attributes["ApproximateNumberOfMessagesNotVisible"])
	delayed, errs[2] = strconv.Atoi(out.Attributes["ApproximateNumberOfMessagesDelayed"])
	if i := slices.IndexFunc(errs[:], func(err error) bool { return err != nil }); i >= 0 {
		return 0, 0, 0, errs[i]
	}
	return visible, hidden, delayed, nil
}

// pause stops the functions from receiving messages, and waits for the running invocations to end. It
// returns a function that lets them receive again.
func (d *deployment) pause(t *testing.T, ctx context.Context) (resume func()) {
	t.Helper()
	consumers := []consumer{d.jobs(t), d.longJobs(t), d.results(t)}
	set := func(c consumer, enabled bool) {
		t.Helper()
		if _, err := d.ask(ctx, "lambda", "PUT", "/2015-03-31/event-source-mappings/"+c.mapping,
			map[string]string{"Content-Type": "application/json"}, fmt.Appendf(nil, `{"Enabled":%t}`, enabled)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range consumers {
		set(c, false)
		eventually(t, ctx, c.visibility, "the end of the invocations for "+last(c.url), func() error {
			_, hidden, _, err := d.messages(ctx, c.url)
			if err == nil && hidden > 0 {
				err = fmt.Errorf("%d messages are hidden", hidden)
			}
			return err
		})
	}
	return func() {
		t.Helper()
		for _, c := range consumers {
			set(c, true)
		}
	}
}
