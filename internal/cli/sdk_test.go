package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"
)

// TestSDKIsSilent makes the AWS SDK warn, which is not part of a command's output.
func TestSDKIsSilent(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	captured, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer captured.Close()
	defer func(before *os.File) { os.Stderr = before }(os.Stderr)
	os.Stderr = captured
	cfg, err := awsConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger.Logf(logging.Warn, "planted")
	if shown, err := os.ReadFile(captured.Name()); err != nil || len(shown) > 0 {
		t.Errorf("the SDK wrote %q, %v", shown, err)
	}
}

// TestSecretsConfig checks that settings of the endpoint reach Ringback's own client of Secrets Manager.
func TestSecretsConfig(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	settings := []string{
		"AWS_REGION", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_ENDPOINT_URL",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER",
	}
	for _, row := range []struct{ settings, want string }{
		{"eu-central-1", "https://secretsmanager.eu-central-1.amazonaws.com"},
		{"cn-north-1", "https://secretsmanager.cn-north-1.amazonaws.com.cn"},
		{"us-gov-west-1 true", "https://secretsmanager-fips.us-gov-west-1.amazonaws.com"},
		{"us-east-1 true true", "https://secretsmanager-fips.us-east-1.amazonaws.com"}, // which has IPv6, too
		{"us-east-1 false false http://127.0.0.1:1", "http://127.0.0.1:1"},
		{"us-east-1 false false http://127.0.0.1:1 http://127.0.0.1:2", "http://127.0.0.1:2"},
	} {
		values := append(strings.Fields(row.settings), make([]string, len(settings))...)
		for i, name := range settings {
			t.Setenv(name, values[i])
			if values[i] == "" {
				os.Unsetenv(name) // until the end of the test
			}
		}
		cfg, err := awsConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cfg, err = secretsConfig(t.Context(), cfg)
		if got := aws.ToString(cfg.BaseEndpoint); err != nil || got != row.want {
			t.Errorf("%s: %q and %v, want %s", row.settings, got, err, row.want)
		}
	}
}
