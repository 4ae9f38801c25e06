// Package scheduler keeps one-time schedules in Amazon EventBridge Scheduler.
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

// Client is the part of an EventBridge Scheduler client that a [Scheduler] uses.
type Client interface {
	CreateSchedule(
		context.Context, *scheduler.CreateScheduleInput, ...func(*scheduler.Options),
	) (*scheduler.CreateScheduleOutput, error)
	DeleteSchedule(
		context.Context, *scheduler.DeleteScheduleInput, ...func(*scheduler.Options),
	) (*scheduler.DeleteScheduleOutput, error)
}

// Config configures a [Scheduler]. Only Now is optional. Cancel needs no ARNs.
type Config struct {
	Client Client

	// Group is the name of the schedule group for the schedules. It must exist.
	Group string

	// RoleARN is the role with which EventBridge Scheduler sends. It needs
	// sqs:SendMessage on both queues.
	RoleARN string

	// QueueARN is the standard queue that receives the messages.
	QueueARN string

	// DeadLetterARN is the queue for messages that cannot be sent to QueueARN.
	DeadLetterARN string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Scheduler creates and deletes schedules.
type Scheduler struct{ cfg Config }

// New returns a scheduler. It makes no request.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil {
		return nil, errors.New("scheduler: Client is nil")
	}
	if cfg.Group == "" {
		return nil, errors.New("scheduler: Group is empty")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Scheduler{cfg: cfg}, nil
}

const (
	// soonest is the minimum time until a schedule is due. AWS does not document what
	// happens to a schedule whose time has passed; some users report that it is
	// refused. A minute is enough for the request, its repeats, and clocks that
	// differ. It delays nothing, because schedules are only precise to a minute.
	soonest = time.Minute

	// maxAge and maxRetries are the maximums for how long and how often EventBridge
	// Scheduler tries to send (EventBridge Scheduler API reference, RetryPolicy).
	maxAge     = 24 * time.Hour
	maxRetries = 185
)

// At schedules a message with this body for a time. The message arrives up to about a
// minute later: schedules have a precision of 60 seconds (EventBridge Scheduler user
// guide, "Schedule types"). A time in the past, or less than a minute ahead, means a
// minute from now.
//
// If a schedule with this name exists, At does not change it and succeeds. A schedule
// is deleted once its message is sent; then its name can be used again. The message
// can arrive more than once.
func (s *Scheduler) At(ctx context.Context, name string, at time.Time, body string) error {
	if err := queue.CheckScheduleName(name); err != nil {
		return err
	}
	for _, setting := range []struct{ name, value string }{
		{"RoleARN", s.cfg.RoleARN}, {"QueueARN", s.cfg.QueueARN}, {"DeadLetterARN", s.cfg.DeadLetterARN},
	} {
		if setting.value == "" {
			return fmt.Errorf("create schedule %s: %s is empty", name, setting.name)
		}
	}
	if err := (queue.Message{Body: body}).Check(); err != nil {
		return fmt.Errorf("create schedule %s: %w", name, err)
	}
	if earliest := s.cfg.Now().Add(soonest); at.Before(earliest) {
		at = earliest
	}
	// Round up: a job that is woken early would have to wait again.
	at = at.UTC().Add(time.Second - 1).Truncate(time.Second)
	// The client adds its own token, the same for all tries of this request. A token
	// derived from the name would prevent the name from being used again, and would
	// make a repeated call with a later time fail.
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
		return fmt.Errorf("create schedule %s of group %s: %w", name, s.cfg.Group, err)
	}
	return nil
}

// Cancel deletes a schedule. It succeeds if there is none with this name. If the
// schedule's time has come, its message may still arrive.
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
		return fmt.Errorf("delete schedule %s of group %s: %w", name, s.cfg.Group, err)
	}
	return nil
}
