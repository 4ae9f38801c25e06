package pipeline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// awsPrice is one of AWS's prices in us-east-1, without free allowances.
type awsPrice struct {
	name    string
	dollars float64 // per million, or per unit that unit names
	unit    string
	source  string
	date    string
	second  bool // the source is not AWS
}

// awsPrices is the only place with prices. To update one, change it here and write docs/cost.md again.
var awsPrices = []awsPrice{
	{"API Gateway", 1.00, "million HTTP API requests of at most 512 KB",
		"https://awsforengineers.com/blog/aws-api-gateway-pricing-explained", "May 2025", true},
	{"Lambda request", 0.20, "million requests", "https://cloudchipr.com/blog/aws-lambda-pricing", "2024", true},
	{"Lambda time", 13.3334, "million GB-seconds on arm64", "https://cloudchipr.com/blog/aws-lambda-pricing", "2024", true},
	{"SQS", 0.40, "million requests of at most 64 KB", "https://cloudburn.io/blog/amazon-sqs-pricing", "March 2026", true},
	{"DynamoDB write", 0.625, "million write request units of 1 KB",
		"https://airbyte.com/data-engineering-resources/dynamodb-pricing", "July 2025", true},
	{"DynamoDB read", 0.125, "million read request units of 4 KB",
		"https://airbyte.com/data-engineering-resources/dynamodb-pricing", "July 2025", true},
	{"Scheduler", 1.00, "million invocations", "https://cloudburn.io/blog/amazon-eventbridge-pricing", "March 2026", true},
	{"EventBridge", 1.00, "million custom events of at most 64 KB",
		"https://cloudburn.io/blog/amazon-eventbridge-pricing", "March 2026", true},
	{"CloudWatch Logs", 0.50, "GB",
		"https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/", "June 2026", true},
	{"KMS", 3.00, "million requests with a symmetric key, or one of RSA 2048",
		"https://www.wring.co/blog/aws-kms-pricing-guide", "March 2026", true},
	{"Secrets Manager", 5.00, "million requests", "https://raw.githubusercontent.com/api-evangelist/" +
		"amazon-secrets-manager/refs/heads/main/plans/amazon-secrets-manager-plans-pricing.yml", "September 2026", true},
	{"X-Ray", 5.00, "million traces", "https://aws.amazon.com/de/xray/pricing/", "no date", false},
	{"Step Functions", 25.00, "million state transitions of standard workflows",
		"https://aws.amazon.com/step-functions/pricing/", "no date", false},
}

// pricesRead is when the sources were last read.
const pricesRead = "26 November 2026"

// price returns the dollars for one unit in each of a million tool calls.
func price(name string) float64 {
	for _, p := range awsPrices {
		if p.name == name {
			if p.unit == "GB" {
				return p.dollars * 1e6
			}
			return p.dollars
		}
	}
	panic("there is no price of " + name)
}

func pricesTable() string {
	var s strings.Builder
	fmt.Fprintf(&s, "Each source was read on %s, in a stored copy:\n\n", pricesRead)
	s.WriteString("| what | price | per | source | of |\n|---|--:|---|---|---|\n")
	for _, p := range awsPrices {
		by := "AWS"
		if p.second {
			by = "secondary"
		}
		fmt.Fprintf(&s, "| %s | $%s | %s | [%s](%s) | %s |\n", p.name, digits(p.dollars), p.unit, by, p.source, p.date)
	}
	return s.String()
}

// digits returns a price with at least two decimals.
func digits(d float64) string {
	s := fmt.Sprintf("%.4f", d)
	for strings.HasSuffix(s, "0") && len(s)-strings.Index(s, ".") > 3 {
		s = strings.TrimSuffix(s, "0")
	}
	return s
}

const docs = "../../../docs"

// regenerate is the command that writes the pages again.
const regenerate = "make costs"

// generated compares the parts of a page between markers with texts, which follow their names. With -update, it writes
// them instead.
func generated(t *testing.T, page string, parts ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, page))
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for i := 0; i < len(parts); i += 2 {
		begin, end := "<!-- generated: "+parts[i]+" -->\n", "<!-- end -->"
		before, rest, found := strings.Cut(want, begin)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("docs/%s has no part %s", page, begin)
		}
		want = before + begin + "\n" + parts[i+1] + "\n" + end + after
	}
	generatedFile(t, page, want)
}

// generatedFile compares a file of docs with its text. With -update, it writes it instead.
func generatedFile(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(docs, name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(text), "\n")
	for i, line := range strings.Split(want, "\n") {
		if i == len(got) || got[i] != line {
			t.Errorf("docs/%s is not current; run %s. Line %d should be %s", name, regenerate, i+1, line)
			return
		}
	}
	if string(text) != want {
		t.Errorf("docs/%s is too long; run %s", name, regenerate)
	}
}
