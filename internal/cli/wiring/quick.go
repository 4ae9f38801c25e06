package wiring

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
)

const (
	// defaultRate is assumed if the rate of webhooks is unknown, per second.
	defaultRate = 1

	// defaultConcurrency is how many executions of functions a new AWS account may run at the same
	// time (AWS Lambda quotas).
	defaultConcurrency = 10

	// answerMargin is how much longer Vapi waits than the answer to a quick tool does: the time for
	// the way there and back, and for the claim of the result.
	answerMargin = 5 * time.Second
)

// timeoutSeconds returns how long Vapi waits for the webhook's answer.
func timeoutSeconds(e *asynctool.Entry) int {
	quick := int((e.Quick + answerMargin + time.Second - 1) / time.Second)
	if e.Quick == 0 {
		quick = 0
	}
	return max(webhookTimeout, quick)
}

// quick checks whether the answers that wait for results leave enough of the account's concurrency. The
// front function runs as long as an answer waits.
func (e *examination) quick() {
	var longest time.Duration
	for _, entry := range e.Tools.Entries() {
		longest = max(longest, entry.Quick)
	}
	if longest == 0 {
		return
	}
	const name = "quick answers"
	rate, concurrency := cmp.Or(e.Rate, defaultRate), cmp.Or(e.Concurrency, defaultConcurrency)
	needed := rate * longest.Seconds()
	detail := fmt.Sprintf("an answer waits for up to %s, so %g webhooks a second need up to %.0f of %d concurrent "+
		"executions", longest, rate, needed, concurrency)
	if needed > float64(concurrency) {
		e.add(name, "", VerdictWarning, "Request a higher limit for the account, or lower the tool's Quick. "+
			"Use --rate and --concurrency if your values differ.",
			"%s. Lambda refuses what exceeds that, and no tool runs", detail)
	} else {
		e.add(name, "", VerdictOK, "", "%s", detail)
	}
}

// ignoredQuick names the tools whose Quick has no effect in the calls of a classic assistant.
func (e *examination) ignoredQuick(about string) {
	var ignored []string
	for _, entry := range e.Tools.Entries() {
		if entry.Quick > 0 && !entry.SyncAck {
			ignored = append(ignored, entry.Name)
		}
	}
	if len(ignored) > 0 {
		e.add("quick answers", about, VerdictWarning, "Set SyncAck (sync_ack in http.yaml), or remove Quick.",
			"Vapi does not use the answers of %s, as they are async at Vapi", strings.Join(ignored, ", "))
	}
}
