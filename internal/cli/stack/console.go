package stack

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ringback/ringback/internal/deployment"
)

// Console returns addresses of the AWS console, which a person opens in a browser.
type Console struct {
	host, region string
	groups       []string // of logs
}

// Console returns the console of the stack's account and region. It is nil in a partition whose console is unknown, and
// if the stack does not name its log groups, as those of earlier versions.
func (s *Stack) Console(ctx context.Context) (*Console, error) {
	id, outputs, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	at, err := arn.Parse(id)
	host := deployment.ConsoleHost(at.Partition)
	c := &Console{host: at.Region + "." + host, region: at.Region}
	for _, name := range []string{deployment.AckLogsOutput, deployment.ProcessLogsOutput, deployment.CallbackLogsOutput} {
		if outputs[name] != "" {
			c.groups = append(c.groups, outputs[name])
		}
	}
	if err != nil || host == "" || len(c.groups) == 0 {
		return nil, nil
	}
	return c, nil
}

// Logs returns the address of CloudWatch Logs Insights with a query for the log lines of a job, by its name in logs, in
// a time. AWS does not document the form. It is that of the links that the console itself makes to share a query.
func (c *Console) Logs(jobID string, from, to time.Time) string {
	moment := func(t time.Time) string { return escaped(t.UTC().Format("2006-01-02T15:04:05.000Z")) }
	detail := "~(end~" + moment(to) + "~start~" + moment(from) + "~timeType~'ABSOLUTE~tz~'LOCAL~editorString~" +
		escaped(deployment.LogQuery(fmt.Sprintf("job = %q", jobID))) + "~source~("
	for _, group := range c.groups {
		detail += "~" + escaped(group)
	}
	return c.cloudWatch("logsV2:logs-insights$3FqueryDetail$3D" + detail + ")~lang~'CWLI)")
}

// Trace returns the address of a trace of X-Ray, by its id as W3C writes it.
func (c *Console) Trace(id string) string {
	if len(id) != 32 {
		return ""
	}
	return c.cloudWatch("xray:traces/1-" + id[:8] + "-" + id[8:])
}

func (c *Console) cloudWatch(page string) string {
	return "https://" + c.host + "/cloudwatch/home?region=" + c.region + "#" + page
}

// escaped returns a text in the notation of the console: after an apostrophe, with * and two hexadecimal digits for
// each byte that is not a letter, a digit, or one of "_-.".
func escaped(text string) string {
	b := []byte{'\''}
	for _, c := range []byte(text) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if plain || strings.IndexByte("_-.", c) >= 0 {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "*%02x", c)
		}
	}
	return string(b)
}
