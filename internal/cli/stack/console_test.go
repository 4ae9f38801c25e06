package stack_test

import (
	"maps"
	"testing"
	"time"
)

// TestConsole tests the exact addresses, in each partition whose console is known.
func TestConsole(t *testing.T) {
	groups := map[string]string{
		"WebhookUrl": hook, "AckLogGroupName": "/aws/lambda/R-Ack_1.2", "ProcessLogGroupName": "R (process)$",
		"CallbackLogGroupName": "callback",
	}
	const (
		query = "~editorString~'filter*20job*20*3d*20*22j_e3*22*0a*7c*20fields*20*40timestamp*2c*20level*2c*20message*2c" +
			"*20tool*2c*20job*2c*20call*2c*20state*2c*20verdict*2c*20status*2c*20reason*2c*20error*2c*0a*20*20concat*28" +
			"*221-*22*2c*20substr*28trace_id*2c*200*2c*208*29*2c*20*22-*22*2c*20substr*28trace_id*2c*208*2c*2024*29*29" +
			"*20as*20xray_trace*0a*7c*20sort*20*40timestamp*20asc*0a*7c*20limit*201000"
		logs = "#logsV2:logs-insights$3FqueryDetail$3D~(end~'2026-11-26T05*3a06*3a07.890Z" +
			"~start~'2026-11-26T04*3a00*3a00.000Z~timeType~'ABSOLUTE~tz~'LOCAL" + query +
			"~source~(~'*2faws*2flambda*2fR-Ack_1.2~'R*20*28process*29*24~'callback)~lang~'CWLI)"
		trace = "#xray:traces/1-5759e988-bd862e3fe1be46a994272793"
	)
	for name, row := range map[string]struct {
		arn     string
		without bool   // the outputs of an earlier version
		page    string // empty: there is no console
	}{
		"aws": {"arn:aws:cloudformation:eu-central-1:111122223333:stack/Ringback/1", false,
			"https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1"},
		"aws-cn": {"arn:aws-cn:cloudformation:cn-north-1:111122223333:stack/Ringback/1", false,
			"https://cn-north-1.console.amazonaws.cn/cloudwatch/home?region=cn-north-1"},
		"aws-us-gov": {"arn:aws-us-gov:cloudformation:us-gov-west-1:111122223333:stack/Ringback/1", false,
			"https://us-gov-west-1.console.amazonaws-us-gov.com/cloudwatch/home?region=us-gov-west-1"},
		"another partition":  {"arn:aws-iso:cloudformation:us-iso-east-1:111122223333:stack/Ringback/1", false, ""},
		"no ARN":             {"", false, ""},
		"an earlier version": {"arn:aws:cloudformation:eu-central-1:111122223333:stack/Ringback/1", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := account{outputs: maps.Clone(groups), id: row.arn}
			if row.without {
				a.outputs = map[string]string{"WebhookUrl": hook}
			}
			c, err := open(t, a, "Ringback").Console(t.Context())
			if err != nil || (c == nil) != (row.page == "") {
				t.Fatalf("%+v, %v", c, err)
			}
			if c == nil {
				return
			}
			zone := time.FixedZone("somewhere", 2*60*60)
			from, to := time.Date(2026, 11, 26, 6, 0, 0, 0, zone), time.Date(2026, 11, 26, 5, 6, 7, 890e6, time.UTC)
			if got := c.Logs("j_e3", from, to); got != row.page+logs {
				t.Errorf("logs:\n%s, want\n%s", got, row.page+logs)
			}
			if got := c.Trace("5759e988bd862e3fe1be46a994272793"); got != row.page+trace {
				t.Errorf("trace: %s", got)
			}
			if got := c.Trace("5759"); got != "" {
				t.Errorf("no trace: %s", got)
			}
		})
	}
	if _, err := open(t, account{}, "Ringbacks").Console(t.Context()); err == nil {
		t.Error("a stack that does not exist has a console")
	}
}
