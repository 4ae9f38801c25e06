package ringback

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
)

var functionNames = []string{"ack", "process", "callback"}

// build builds the three functions and returns their folder. The folder is part of
// the cloud assembly's, which the CDK CLI manages anyway.
func (r *Ringback) build() (string, error) {
	source := r.props.Functions
	if source == "" {
		module, err := exec.Command("go", "list", "-m").Output()
		if err != nil {
			return "", fmt.Errorf("cannot find the functions: this directory is in no Go module: %w", err)
		}
		source = strings.TrimSpace(string(module)) + "/functions"
	}
	goarch := "arm64"
	if *r.props.Architecture.Name() == *awslambda.Architecture_X86_64().Name() {
		goarch = "amd64"
	}
	folder := filepath.Join(*awscdk.Stage_Of(r.Construct).Outdir(), "functions", goarch)
	for _, name := range functionNames {
		tags := "lambda.norpc"
		if name == "ack" {
			tags += ",nethttpomithttp2" // it asks only AWS, for which HTTP/1.1 is enough, and starts for a caller
		}
		// Without the version control stamp, a function changes only when its
		// code does, and CDK does not deploy an unchanged function again.
		build := exec.Command("go", "build", "-tags", tags, "-trimpath", "-buildvcs=false",
			"-ldflags=-s -w", "-o", filepath.Join(folder, name, "bootstrap"),
			source+"/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
		if output, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("cannot build function %s: %w\n%s", name, err, output)
		}
	}
	return folder, nil
}
