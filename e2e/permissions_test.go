//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const iamVersion = "2010-05-08"

// policyName is the name of the policy that [deployment.permitEmulator] adds.
const policyName = "emulator"

// statement is a statement of a policy.
type statement struct {
	Effect    string
	Action    texts
	Resource  texts
	Condition json.RawMessage `json:",omitempty"`
}

// texts is one text or several.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// permitEmulator permits the roles what the emulator names differently from AWS. A role that may send a
// message may send a batch, for which AWS has no permission of its own. And the emulator takes each
// schedule for one of the group "default". The roles get nothing that the template does not permit under
// AWS's names.
func (d *deployment) permitEmulator(t *testing.T, ctx context.Context) {
	t.Helper()
	group := "schedule/" + d.one("AWS::Scheduler::ScheduleGroup") + "/"
	for _, role := range d.roles() {
		var more []statement
		for _, name := range d.policies(t, ctx, role) {
			var policy struct{ Statement []statement }
			if err := json.Unmarshal(d.policy(t, ctx, role, name), &policy); err != nil {
				t.Fatal(err)
			}
			for _, s := range policy.Statement {
				if slices.Contains(s.Action, "sqs:SendMessage") {
					one := s
					one.Action = texts{"sqs:SendMessageBatch"}
					more = append(more, one)
				}
				inGroup := func(r string) bool { return strings.Contains(r, group) }
				if i := slices.IndexFunc(s.Resource, inGroup); i >= 0 {
					one := s
					one.Resource = texts{strings.Replace(s.Resource[i], group, "schedule/default/", 1)}
					more = append(more, one)
				}
			}
		}
		if len(more) == 0 {
			continue
		}
		document, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": more})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.query(ctx, "iam", iamVersion, "PutRolePolicy",
			"RoleName", role, "PolicyName", policyName, "PolicyDocument", string(document)); err != nil {
			t.Fatal(err)
		}
	}
}

// forbidEmulator removes what permitEmulator added.
func (d *deployment) forbidEmulator(t *testing.T, ctx context.Context) {
	t.Helper()
	for _, role := range d.roles() {
		if slices.Contains(d.policies(t, ctx, role), policyName) {
			if _, err := d.query(ctx, "iam", iamVersion, "DeleteRolePolicy",
				"RoleName", role, "PolicyName", policyName); err != nil {
				t.Error(err)
			}
		}
	}
}

// roles returns the names of the stack's roles.
func (d *deployment) roles() []string {
	var roles []string
	for _, id := range slices.Sorted(maps.Keys(d.template.Resources)) {
		if d.template.Resources[id].Type == "AWS::IAM::Role" {
			roles = append(roles, d.resources[id])
		}
	}
	return roles
}

// role returns the name of the role whose logical id has a prefix.
func (d *deployment) role(t *testing.T, prefix string) string {
	t.Helper()
	for id, r := range d.template.Resources {
		if r.Type == "AWS::IAM::Role" && strings.HasPrefix(id, "Ringback"+prefix+"Role") {
			return d.resources[id]
		}
	}
	t.Fatalf("no role of %s", prefix)
	return ""
}

// policies returns the names of a role's policies.
func (d *deployment) policies(t *testing.T, ctx context.Context, role string) []string {
	t.Helper()
	answer, err := d.query(ctx, "iam", iamVersion, "ListRolePolicies", "RoleName", role)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Names []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil {
		t.Fatal(err)
	}
	return out.Names
}

// policy returns a policy of a role as JSON.
func (d *deployment) policy(t *testing.T, ctx context.Context, role, name string) []byte {
	t.Helper()
	answer, err := d.query(ctx, "iam", iamVersion, "GetRolePolicy", "RoleName", role, "PolicyName", name)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Document string `xml:"GetRolePolicyResult>PolicyDocument"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil {
		t.Fatal(err)
	}
	document, err := url.QueryUnescape(out.Document)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(document)
}

// trust returns the policy on who may assume a role, as JSON.
func (d *deployment) trust(ctx context.Context, role string) ([]byte, error) {
	answer, err := d.query(ctx, "iam", iamVersion, "GetRole", "RoleName", role)
	if err != nil {
		return nil, err
	}
	var out struct {
		Document string `xml:"GetRoleResult>Role>AssumeRolePolicyDocument"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil {
		return nil, err
	}
	document, err := url.QueryUnescape(out.Document)
	return []byte(document), err
}

// permissions checks the permissions that no call shows: that a function must not do what it does
// not need, and what the emulator does not check. Its services do not check the role of a schedule,
// and take each schedule for one of the group "default".
func (d *deployment) permissions(t *testing.T, ctx context.Context) {
	group := d.one("AWS::Scheduler::ScheduleGroup")
	schedule := func(group string) string {
		return "arn:aws:scheduler:" + region + ":" + account + ":schedule/" + group + "/some"
	}
	queue := func(output string) string {
		return "arn:aws:sqs:" + region + ":" + account + ":" + last(d.outputs[output])
	}
	indexes := "arn:aws:dynamodb:" + region + ":" + account + ":table/" + d.outputs["JobsTableName"] + "/index/"
	index, recent := indexes+"calls", indexes+"recent"
	const (
		send, query, scan    = "sqs:SendMessage", "dynamodb:Query", "dynamodb:Scan"
		create, remove, read = "scheduler:CreateSchedule", "scheduler:DeleteSchedule", "secretsmanager:GetSecretValue"
	)
	for _, row := range []struct {
		role, action, resource string
		may                    bool
	}{
		{"Process", create, schedule(group), true},
		{"Process", create, schedule("default"), true}, // for the emulator: see permitEmulator
		{"Process", create, schedule("another"), false},
		{"Process", remove, schedule(group), true},
		{"Process", remove, schedule("another"), false},
		{"Ack", create, schedule(group), false},
		{"Ack", remove, schedule(group), false},
		{"Callback", remove, schedule(group), false},
		{"Schedules", send, queue("JobsQueueUrl"), true},
		{"Schedules", send, queue("LongJobsQueueUrl"), true},
		{"Schedules", send, queue("JobsDeadLettersUrl"), true},
		{"Schedules", send, queue("ResultsQueueUrl"), false},
		{"Process", send, queue("JobsQueueUrl"), true},
		{"Process", send, queue("LongJobsQueueUrl"), true},
		{"Process", send, queue("JobsDeadLettersUrl"), false},
		{"Callback", send, queue("ResultsQueueUrl"), true},
		{"Callback", send, queue("JobsQueueUrl"), false},
		{"Ack", query, index, true},
		{"Process", query, index, false},
		{"Callback", query, index, false},
		{"Process", scan, index, true},
		{"Ack", scan, index, false},
		{"Callback", scan, index, false},
		{"Ack", query, recent, false}, // only operators list calls
		{"Process", query, recent, false},
		{"Process", scan, recent, false},
		{"Callback", query, recent, false},
		{"Ack", read, d.secrets["completion"], true},
		{"Process", read, d.secrets["completion"], true},
		{"Callback", read, d.secrets["completion"], true}, // because a tool parks results
		{"Callback", read, d.secrets["private"], true},
		{"Ack", read, d.secrets["private"], false},
		{"Process", read, d.secrets["webhook"], false},
	} {
		answer, err := d.query(ctx, "iam", iamVersion, "SimulatePrincipalPolicy",
			"PolicySourceArn", "arn:aws:iam::"+account+":role/"+d.role(t, row.role),
			"ActionNames.member.1", row.action, "ResourceArns.member.1", row.resource)
		if err != nil {
			t.Fatal(err)
		}
		decided := decision(t, answer)
		if may := decided == "allowed"; may != row.may {
			t.Errorf("%s may %s on %s: %v (%s), want %v", row.role, row.action, row.resource, may, decided, row.may)
		}
	}
}

// decision returns the decision in an answer to SimulatePrincipalPolicy about one action on one resource.
func decision(t *testing.T, answer []byte) string {
	t.Helper()
	var out struct {
		Decisions []string `xml:"SimulatePrincipalPolicyResult>EvaluationResults>member>EvalDecision"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil || len(out.Decisions) != 1 {
		t.Fatalf("%v: %s", err, answer)
	}
	return out.Decisions[0]
}
