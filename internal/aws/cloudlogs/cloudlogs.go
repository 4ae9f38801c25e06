// Package cloudlogs reads log groups of Amazon CloudWatch Logs. Only the command line links it.
package cloudlogs

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/ringback/ringback/internal/operator"
)

// Client is the part of a CloudWatch Logs client that [Logs] uses.
type Client interface {
	FilterLogEvents(
		context.Context, *cloudwatchlogs.FilterLogEventsInput, ...func(*cloudwatchlogs.Options),
	) (*cloudwatchlogs.FilterLogEventsOutput, error)
}

// Logs reads log groups. It implements [operator.LogSource].
type Logs struct{ client Client }

// New returns a reader of log groups.
func New(client Client) *Logs { return &Logs{client} }

// Page implements [operator.LogSource]. CloudWatch Logs may return a page without events that has a next one.
func (l *Logs) Page(
	ctx context.Context, group, pattern string, since time.Time, from string,
) (events []operator.LogEvent, next string, err error) {
	in := &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: aws.String(group), FilterPattern: aws.String(pattern), StartTime: aws.Int64(since.UnixMilli()),
	}
	if from != "" {
		in.NextToken = aws.String(from)
	}
	out, err := l.client.FilterLogEvents(ctx, in)
	if err != nil {
		return nil, "", fmt.Errorf("read the log group %s: %w", group, err)
	}
	for _, e := range out.Events {
		events = append(events, operator.LogEvent{
			ID: aws.ToString(e.EventId), At: time.UnixMilli(aws.ToInt64(e.Timestamp)).UTC(), Text: aws.ToString(e.Message),
		})
	}
	return events, aws.ToString(out.NextToken), nil
}
