package ringback_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/infra/ringback"
)

// TestReplayKey stores arguments for replays. The process function can encrypt them, and no function can decrypt them.
func TestReplayKey(t *testing.T) {
	for name, days := range map[string]int{"off": 0, "on": 7} {
		t.Run(name, func(t *testing.T) {
			made := synthesise(t, ringback.Props{ArgumentRetentionDays: days})
			variables := made.variables(t, "RingbackProcess")
			if days == 0 {
				if variables["REPLAY_KEY_ARN"] != nil || variables["ARGUMENT_RETENTION_DAYS"] != nil {
					t.Errorf("the variables are %v", variables)
				}
			} else {
				key := made.only(t, "AWS::KMS::Key", "RingbackReplayKey")
				if key.Properties["EnableKeyRotation"] != true || key.Properties["KeySpec"] != nil ||
					key.DeletionPolicy != "Delete" {
					t.Errorf("the key is %v", key)
				}
				if variables["REPLAY_KEY_ARN"] == nil || variables["ARGUMENT_RETENTION_DAYS"] != "7" {
					t.Errorf("the variables are %v", variables)
				}
			}
			for _, role := range []string{"RingbackAck", "RingbackProcess", "RingbackCallback"} {
				var got []string
				for _, s := range made.role(t, role) {
					if strings.Contains(s, "kms:") || strings.Contains(s, "replay:") {
						got = append(got, s)
					}
				}
				var want []string
				if role == "RingbackProcess" && days > 0 {
					want = []string{
						"dynamodb:GetItem dynamodb:PutItem on RingbackJobsTable where " +
							"ForAllValues:StringLike dynamodb:LeadingKeys=replay:*",
						"kms:GenerateDataKey on RingbackReplayKey",
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", role, diff)
				}
			}
		})
	}
}
