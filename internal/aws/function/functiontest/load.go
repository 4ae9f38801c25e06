package functiontest

import (
	"testing"

	"github.com/ringback/ringback/internal/aws/function"
)

// Load loads the configuration of a function whose environment names a stand-in for one service of AWS, such as SQS.
func Load(t *testing.T, service, url string) *function.AWS {
	t.Helper()
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_ENDPOINT_URL_"+service, url)
	cloud, err := function.Load()
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}
