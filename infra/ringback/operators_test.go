package ringback

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"
)

// operatorPolicy returns what a policy in the outputs of a stack permits: actions and resources.
func operatorPolicy(t *testing.T, settings map[string]any, output string) map[string]bool {
	t.Helper()
	stack, err := app(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	found := (*assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String(output), nil))[output]
	document := resolved((*found)["Value"])
	document = regexp.MustCompile(`map\(Fn::GetAtt:\((\w+)[0-9A-F]{8}_Arn\)\)`).ReplaceAllString(document, "$1")
	document = regexp.MustCompile(`map\(Ref:(AWS::\w+)\)`).ReplaceAllString(document, "$1")
	var policy struct {
		Statement []struct {
			Effect           string
			Action, Resource []string
		}
	}
	if err := json.Unmarshal([]byte(document), &policy); err != nil {
		t.Fatalf("%s: %v in %s", output, err, document)
	}
	all := make(map[string]bool)
	for _, s := range policy.Statement {
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				if all[action+" "+resource] = true; s.Effect != "Allow" {
					t.Errorf("%s: %s is %s", output, action, s.Effect)
				}
			}
		}
	}
	return all
}

// TestPermissionsOfOperators compares both policies with the documentation. The test of ringback ui compares the
// documentation with what the page asks for.
func TestPermissionsOfOperators(t *testing.T) {
	const stack, table, arguments = "the stack", "the jobs table", "the key of the stored arguments"
	resources := map[string][]string{
		stack:        {"arn:AWS::Partition:cloudformation:AWS::Region:AWS::AccountId:stack/Ringback/*"},
		table:        {"RingbackJobsTable"},
		"the queues": {"RingbackJobs", "RingbackLongJobs", "RingbackResults"}, arguments: {"RingbackReplayKey"},
		"the indexes of the jobs table": {"RingbackJobsTable/index/calls", "RingbackJobsTable/index/recent"},
		"the dead-letter queues":        {"RingbackJobsDeadLetters", "RingbackResultsDeadLetters"},
	}
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	const key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for name, row := range map[string]struct {
		settings map[string]any
		without  string              // a resource that the stack does not have
		more     map[string][]string // by policy
	}{
		"all":       {map[string]any{"argumentRetentionDays": "7"}, "", nil},
		"no replay": {map[string]any{}, arguments, nil},
		"a key of its own": {map[string]any{"kmsKeyArn": key}, arguments, map[string][]string{
			"OperatorReadPolicy": {"kms:Decrypt"}, "OperatorWritePolicy": {"kms:Encrypt", "kms:GenerateDataKey"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, policy := range []string{"OperatorReadPolicy", "OperatorWritePolicy"} {
				want := make(map[string]bool)
				for _, action := range row.more[policy] {
					want[action+" "+key] = true
				}
				documented := regexp.MustCompile("(?m)^\\| `" + policy + "` \\| (.*?) \\| (.*?) \\|")
				for _, found := range documented.FindAllStringSubmatch(string(page), -1) {
					if resources[found[2]] == nil {
						t.Errorf("%s: %q is unknown", policy, found[2])
					}
					for _, resource := range resources[found[2]] {
						for action := range strings.SplitSeq(found[1], ", ") {
							if found[2] != row.without {
								want[fmt.Sprintf("%s %s", strings.Trim(action, "`"), resource)] = true
							}
						}
					}
				}
				if diff := cmp.Diff(want, operatorPolicy(t, row.settings, policy)); diff != "" {
					t.Errorf("%s (-documentation +stack):\n%s", policy, diff)
				}
			}
		})
	}
}
