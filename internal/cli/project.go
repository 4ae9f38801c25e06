package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	goversion "go/version"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"golang.org/x/mod/modfile"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/wiring"
)

const (
	minNode = 22 // of Node.js, which the CDK needs

	// toolkitStack is the stack of "cdk bootstrap".
	toolkitStack = "CDKToolkit"

	environmentExample = ".env.example"

	// maxCheck bounds a check of the project. A program that hangs must not hang the others.
	maxCheck = 20 * time.Second
)

// project checks the project in the current folder, and what this machine needs to run and deploy it.
type project struct {
	tools    Tools
	progress *progress
	checks   []wiring.Check
}

func (p *project) add(name string, verdict wiring.Verdict, remedy, detail string, a ...any) {
	p.checks = append(p.checks, wiring.Check{
		Name: name, Verdict: verdict, Detail: printable(fmt.Sprintf(detail, a...)), Remedy: remedy,
	})
}

func (p *project) examine(ctx context.Context) []wiring.Check {
	for _, check := range []struct {
		step string
		do   func(context.Context)
	}{
		{"reading the tools", p.checkTools},
		{"looking for .env", p.environment},
		{"asking for the version of Go", p.goVersion},
		{"asking for the version of Node.js", p.nodeVersion},
		{"asking for the version of npm", p.npmVersion},
		{"asking AWS for the account", p.account},
	} {
		p.progress.set(check.step)
		bounded, cancel := context.WithTimeout(ctx, maxCheck)
		check.do(bounded)
		cancel()
	}
	return p.checks
}

func (p *project) checkTools(context.Context) {
	set, err := p.tools.set()
	if err != nil {
		p.add("tools", wiring.VerdictFailed, "Correct the tool.", "%v", err)
		return
	}
	var names []string
	for _, entry := range set.Entries() {
		names = append(names, entry.Name)
	}
	if len(names) == 0 {
		p.add("tools", wiring.VerdictWarning, "Add a tool to tools/tools.go.", "there are no tools here")
		return
	}
	p.add("tools", wiring.VerdictOK, "", "%s", strings.Join(names, ", "))
	p.settings(set)
}

// settings checks whether the tools can work on this machine.
func (p *project) settings(set *asynctool.Set) {
	const name = "settings"
	missing, complete, unusable := set.Missing(nil), []string{}, map[string]bool{}
	for _, wrong := range set.Invalid(nil) {
		unusable[wrong.Tool] = true
		p.add(name, wiring.VerdictFailed, "Correct it in the environment, or in .env.", "%v", wrong)
	}
	for _, entry := range set.Entries() {
		switch lacking := missing[entry.Name]; {
		case lacking != nil:
			p.add(name, wiring.VerdictWarning, "Set it in the environment, or in .env. In a deployment, set it as context.",
				"%s cannot work on this machine: the environment lacks %s", entry.Name, strings.Join(lacking, " and "))
		case len(entry.Settings) > 0 && !unusable[entry.Name]:
			complete = append(complete, entry.Name)
		}
	}
	if len(complete) > 0 {
		p.add(name, wiring.VerdictOK, "", "the environment has the settings of %s", strings.Join(complete, ", "))
	}
}

// environment checks the file with the settings of this machine, in which secrets are.
func (p *project) environment(ctx context.Context) {
	const file = ".env"
	if _, err := os.Stat(file); err == nil {
		if _, err := output(ctx, "git", "ls-files", "--error-unmatch", file); err == nil {
			p.add(file, wiring.VerdictFailed, "Run git rm --cached .env, add it to .gitignore, and replace the secrets in it.",
				"git tracks it, so its secrets are in the repository")
			return
		}
		p.add(file, wiring.VerdictOK, "", "git does not track it")
		return
	} else if !errors.Is(err, fs.ErrNotExist) {
		p.add(file, wiring.VerdictFailed, "Make it readable for yourself.", "%v", err)
		return
	}
	if _, err := os.Stat(environmentExample); err == nil {
		p.add(file, wiring.VerdictWarning, "Run cp .env.example .env, and fill in the values.",
			"it does not exist, so a tool's settings come only from the environment")
		return
	}
	p.add(file, wiring.VerdictOK, "", "it does not exist, and neither does .env.example")
}

func (p *project) goVersion(ctx context.Context) {
	const name, remedy = "Go", "Install a newer Go from https://go.dev/dl, or unset GOTOOLCHAIN."
	text, err := os.ReadFile("go.mod")
	if err != nil {
		p.add(name, wiring.VerdictFailed, "Run the command in the folder of your project.",
			"there is no go.mod in this folder")
		return
	}
	module, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil || module.Go == nil {
		p.add(name, wiring.VerdictFailed, "Run go mod edit -fmt, and correct what it names.",
			"go.mod cannot be read, or names no version of Go")
		return
	}
	version, err := output(ctx, "go", "env", "GOVERSION")
	required := "go" + module.Go.Version
	switch {
	case err != nil:
		p.add(name, wiring.VerdictFailed, remedy, "cannot run go: %v", err)
	case goversion.Compare(version, required) < 0:
		p.add(name, wiring.VerdictFailed, remedy, "it is %s, and go.mod requires %s", version, required)
	default:
		p.add(name, wiring.VerdictOK, "", "%s", version)
	}
}

func (p *project) nodeVersion(ctx context.Context) {
	const name = "Node.js"
	remedy := fmt.Sprintf("Install Node.js %d or later from https://nodejs.org. Only the CDK needs it.", minNode)
	version, err := output(ctx, "node", "--version")
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	number, parseErr := strconv.Atoi(major)
	switch {
	case err != nil:
		p.add(name, wiring.VerdictFailed, remedy, "cannot run node: %v", err)
	case parseErr != nil:
		p.add(name, wiring.VerdictUnchecked, "", "not checked: node --version prints no version")
	case number < minNode:
		p.add(name, wiring.VerdictFailed, remedy, "it is %s, and the CDK needs %d or later", version, minNode)
	default:
		p.add(name, wiring.VerdictOK, "", "%s", version)
	}
}

func (p *project) npmVersion(ctx context.Context) {
	version, err := output(ctx, "npm", "--version")
	if err != nil {
		p.add("npm", wiring.VerdictFailed, "Install npm, which is a part of Node.js. Only the CDK needs it.",
			"cannot run npm: %v", err)
		return
	}
	p.add("npm", wiring.VerdictOK, "", "%s", version)
}

// output runs a program, and returns the first line that it prints.
func output(ctx context.Context, program string, arguments ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, arguments...).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("it is not in the PATH")
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first, err
}

// account checks the credentials of AWS, and whether the account is prepared for the CDK. Everyone may ask AWS for
// the account of one's own credentials.
func (p *project) account(ctx context.Context) {
	const credentials, bootstrap = "AWS credentials", "CDK bootstrap"
	unchecked := func() {
		p.add(bootstrap, wiring.VerdictUnchecked, "", "not checked, because the AWS credentials cannot be used")
	}
	cfg, err := awsConfig(ctx)
	if err == nil && cfg.Region == "" {
		err = errors.New("no region is selected")
	}
	if err == nil {
		_, err = cfg.Credentials.Retrieve(ctx)
	}
	if err != nil {
		p.add(credentials, wiring.VerdictFailed, "Set AWS_PROFILE and AWS_REGION, or run aws configure. "+
			"An expired session needs aws sso login.", "they cannot be used: %s", reason(err))
		unchecked()
		return
	}
	caller, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if _, refused := errors.AsType[smithy.APIError](err); refused {
		p.add(credentials, wiring.VerdictFailed, "Log in again, or choose another AWS_PROFILE.",
			"AWS refuses them: %s", reason(err))
		unchecked()
		return
	}
	if err != nil {
		p.add(credentials, wiring.VerdictUnchecked, "", "not checked: AWS cannot be reached")
		unchecked()
		return
	}
	p.add(credentials, wiring.VerdictOK, "", "of the account %s, in %s", aws.ToString(caller.Account), cfg.Region)

	p.progress.set("asking AWS whether the CDK is set up")
	_, err = cloudformation.NewFromConfig(cfg).DescribeStacks(ctx,
		&cloudformation.DescribeStacksInput{StackName: aws.String(toolkitStack)})
	answered, _ := errors.AsType[smithy.APIError](err)
	switch {
	case err == nil:
		p.add(bootstrap, wiring.VerdictOK, "", "the stack %s is in %s", toolkitStack, cfg.Region)
	case answered != nil && strings.Contains(answered.ErrorMessage(), "does not exist"):
		p.add(bootstrap, wiring.VerdictFailed, "Run make bootstrap.",
			"the account is not prepared for the CDK in %s", cfg.Region)
	default:
		p.add(bootstrap, wiring.VerdictUnchecked, "", "not checked: cannot read the stack %s: %s", toolkitStack, reason(err))
	}
}

// reason returns the innermost part of an error of the AWS SDK, whose other parts are for developers.
func reason(err error) string {
	if answered, ok := errors.AsType[smithy.APIError](err); ok {
		return cmp.Or(answered.ErrorCode(), "no code") + ": " + answered.ErrorMessage()
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
