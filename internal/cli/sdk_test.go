package cli

import (
	"os"
	"path/filepath"
	"testing"

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
