// Package awsschedule keeps one-off schedules with Amazon EventBridge Scheduler.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/ringback/ringback/internal/queue"
)

// Client is what is needed of an EventBridge Scheduler client.
type Client interface {
	CreateSchedule(context.Context, *scheduler.CreateScheduleInput, ...func(*scheduler.Options)) (*scheduler.CreateScheduleOutput, error)
	DeleteSchedule(context.Context, *scheduler.DeleteScheduleInput, ...func(*scheduler.Options)) (*scheduler.DeleteScheduleOutput, error)
}

// Config says where the schedules are kept and what they do. None but Now may
// be empty; nor may the ARNs, where schedules are made and not only deleted.
type Config struct {
	Client Client

	// Group is the name of the schedule group that holds the schedules. It
	// has to exist.
	Group string

	// RoleARN is the role under which EventBridge Scheduler sends: it needs
	// sqs:SendMessage on both queues.
	RoleARN string

	// QueueARN is the queue that the messages come on. It is a standard
	// queue.
	QueueARN string

	// DeadLetterARN is the queue that takes the messages that cannot be sent
	// to QueueARN.
	DeadLetterARN string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Scheduler makes and deletes schedules.
type Scheduler struct{ cfg Config }

// New makes a scheduler. It asks EventBridge Scheduler nothing.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil {
		return nil, errors.New("schedules need a client of EventBridge Scheduler")
	}
	if cfg.Group == "" {
		return nil, errors.New("schedules need the name of their group")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Scheduler{cfg: cfg}, nil
}

const (
	// soonest is how far ahead a schedule is at least. What becomes of one
	// whose time has passed is not documented; some report that it is refused.
	// A minute leaves room for the request, its repetitions, and clocks that
	// disagree. Nothing is lost by it: schedules are only kept to the minute.
	soonest = time.Minute

	// EventBridge Scheduler tries to send for so long and so often at most
	// (EventBridge Scheduler API reference, RetryPolicy).
	maxAge     = 24 * time.Hour
	maxRetries = 185
)

// At has a message with this body come on the queue at a time, or up to about
// a minute later: schedules are kept with a precision of 60 seconds
// (EventBridge Scheduler user guide, "Schedule types"). A time that has passed,
// or comes within a minute, means a minute from now.
//
// Where there is a schedule of this name already, it stays as it is, and that
// is no error. A schedule is gone once its message is sent; its name can then
// be used again. The message can come more than once.
func (s *Scheduler) At(ctx context.Context, name string, at time.Time, body string) error {
	if err := queue.CheckScheduleName(name); err != nil {
		return err
	}
	for _, setting := range []struct{ name, value string }{
		{"ARN of the role that sends", s.cfg.RoleARN},
		{"ARN of the queue", s.cfg.QueueARN},
		{"ARN of the dead-letter queue", s.cfg.DeadLetterARN},
	} {
		if setting.value == "" {
			return fmt.Errorf("schedule %s: schedules need the %s", name, setting.name)
		}
	}
	if err := (queue.Message{Body: body}).Check(); err != nil {
		return fmt.Errorf("schedule %s: %w", name, err)
	}
	if earliest := s.cfg.Now().Add(soonest); at.Before(earliest) {
		at = earliest
	}
	// Never early: whoever is woken before its time would have to wait again.
	at = at.UTC().Add(time.Second - 1).Truncate(time.Second)
	// The client adds a token of its own, the same for all tries of this
	// request. One made of the name would stand in the way of using the name
	// again, and would have a repeated call with a later time refused.
	_, err := s.cfg.Client.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name:                       aws.String(name),
		GroupName:                  aws.String(s.cfg.Group),
		ScheduleExpression:         aws.String("at(" + at.Format("2006-01-02T15:04:05") + ")"),
		ScheduleExpressionTimezone: aws.String("UTC"),
		FlexibleTimeWindow:         &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		ActionAfterCompletion:      types.ActionAfterCompletionDelete,
		Target: &types.Target{
			Arn:              aws.String(s.cfg.QueueARN),
			RoleArn:          aws.String(s.cfg.RoleARN),
			Input:            aws.String(body),
			DeadLetterConfig: &types.DeadLetterConfig{Arn: aws.String(s.cfg.DeadLetterARN)},
			RetryPolicy: &types.RetryPolicy{
				MaximumEventAgeInSeconds: aws.Int32(int32(maxAge / time.Second)),
				MaximumRetryAttempts:     aws.Int32(maxRetries),
			},
		},
	})
	var exists *types.ConflictException
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("create the schedule %s of the group %s: %w", name, s.cfg.Group, err)
	}
	return nil
}

// Cancel deletes a schedule. One that does not exist, or does not any more, is
// no error. The message of a schedule whose time has come may come all the same.
func (s *Scheduler) Cancel(ctx context.Context, name string) error {
	if err := queue.CheckScheduleName(name); err != nil {
		return err
	}
	_, err := s.cfg.Client.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{
		Name:      aws.String(name),
		GroupName: aws.String(s.cfg.Group),
	})
	var missing *types.ResourceNotFoundException
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("delete the schedule %s of the group %s: %w", name, s.cfg.Group, err)
	}
	return nil
}
