package ringback_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/infra/ringback"
)

func payments() []asynctool.Definition {
	return []asynctool.Definition{asynctool.Tool[struct {
		Card string `json:"card"`
	}]{
		Name: "pay", Description: "Pays.", Encrypted: []string{"card"},
		Run: func(context.Context, asynctool.Call, struct {
			Card string `json:"card"`
		}) (asynctool.Result, error) {
			return asynctool.Text("Paid."), nil
		},
	}}
}

// TestArgumentKey: only the process function can decrypt, whatever else other roles of the account are allowed.
func TestArgumentKey(t *testing.T) {
	made := synthesise(t, ringback.Props{Tools: payments()})
	key := made.only(t, "AWS::KMS::Key", "RingbackArgumentKey")
	if key.Properties["KeySpec"] != "RSA_2048" || key.Properties["KeyUsage"] != "ENCRYPT_DECRYPT" ||
		key.DeletionPolicy != "Retain" || key.UpdateReplacePolicy != "Retain" {
		t.Errorf("the key is %v", key)
	}
	var denied any
	for _, s := range at(t, key.Properties, "KeyPolicy", "Statement").([]any) {
		if at(t, s, "Effect") == "Deny" {
			denied = s
		}
	}
	want := map[string]any{
		"Sid": "OnlyProcessDecrypts", "Effect": "Deny", "Resource": "*",
		"Action": []any{"kms:Decrypt", "kms:ReEncryptFrom"}, "Principal": map[string]any{"AWS": "*"},
		"Condition": map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": map[string]any{
			"Fn::GetAtt": []any{made.id(t, "AWS::IAM::Role", "RingbackProcessRole"), "Arn"},
		}}},
	}
	if diff := cmp.Diff(want, denied); diff != "" {
		t.Errorf("the key's policy (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]string{
		"RingbackAck": nil, "RingbackCallback": nil,
		"RingbackProcess": {
			"kms:Decrypt on RingbackArgumentKey where StringEquals kms:EncryptionAlgorithm=RSAES_OAEP_SHA_256",
		},
	} {
		var got []string
		for _, s := range made.role(t, name) {
			if strings.Contains(s, "kms:") {
				got = append(got, s)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		_, set := made.variables(t, name)["ARGUMENT_KEY_ARN"]
		if set != (want != nil) {
			t.Errorf("%s has the key's ARN: %v", name, set)
		}
	}
}

// TestArgumentKeyOfAListener: a developer who listens decrypts with permissions of their own.
func TestArgumentKeyOfAListener(t *testing.T) {
	key := synthesise(t, ringback.Props{Tools: payments(), Listen: true}).only(t, "AWS::KMS::Key", "RingbackArgumentKey")
	for _, s := range at(t, key.Properties, "KeyPolicy", "Statement").([]any) {
		if at(t, s, "Effect") == "Deny" {
			t.Errorf("the key's policy forbids it: %v", s)
		}
	}
}

// TestNoArgumentKey: a key costs money.
func TestNoArgumentKey(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	if keys := made.all("AWS::KMS::Key"); len(keys) != 0 {
		t.Errorf("the stack has keys: %v", keys)
	}
	if slices.ContainsFunc(made.role(t, "RingbackProcess"), func(s string) bool { return strings.Contains(s, "kms:") }) {
		t.Error("the process function can use keys")
	}
}

func TestOwnArgumentKey(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	stack := newStack(t, "Ringback")
	key := awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String(arn))
	made := synthesiseIn(t, stack, ringback.Props{Tools: payments(), ArgumentKey: key})
	if keys := made.all("AWS::KMS::Key"); len(keys) != 0 {
		t.Errorf("the stack has keys: %v", keys)
	}
	if got := made.variables(t, "RingbackProcess")["ARGUMENT_KEY_ARN"]; got != arn {
		t.Errorf("the process function uses %v", got)
	}
	allowed := "kms:Decrypt on " + arn + " where StringEquals kms:EncryptionAlgorithm=RSAES_OAEP_SHA_256"
	if got := made.role(t, "RingbackProcess"); !slices.Contains(got, allowed) {
		t.Errorf("the process function may %q", got)
	}
}

func TestNagArgumentKey(t *testing.T) {
	stack := newStack(t, "Ringback")
	newRingback(t, stack, ringback.Props{Tools: payments()})
	awscdk.Aspects_Of(stack).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	for _, m := range *assertions.Annotations_FromStack(stack).FindError(jsii.String("*"), assertions.Match_AnyValue()) {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "KMS") || strings.Contains(string(text), "ArgumentKey") {
			t.Errorf("%s", text)
		}
	}
}
