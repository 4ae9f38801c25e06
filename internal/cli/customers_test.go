package cli_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
)

// TestCustomersOfADeployment forgets a customer with a parked result and a suspended job.
func TestCustomersOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	waiting(t, table, "c1", "a")
	waiting(t, table, "c2", "b")
	result := job.Result{Status: job.StatusOK, Content: "planted result", Delivery: policy.DeliveryRespond}
	for _, rule := range []job.Rule{job.Complete(time.Now(), result), job.Settle(time.Now(), job.StateParked, "")} {
		if _, err := table.Change(t.Context(), "c2/b", rule); err != nil {
			t.Fatal(err)
		}
	}
	forget := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		return runs(t, append([]string{"customers", "forget", "--stack", "Ringback"}, more...), code)
	}
	if out, errOut := forget(1, "+15550100100"); out != "" || !strings.Contains(errOut, "use --yes to delete") {
		t.Errorf("without a terminal: %q, %q", out, errOut)
	}
	if r, err := table.Load(t.Context(), "c2/b"); err != nil || r.State != job.StateParked || len(a.sent) != 0 {
		t.Errorf("without consent: %+v, %v, sent %q", r, err, a.sent)
	}
	out, errOut := forget(0, "+1 555 010-0100", "--yes")
	if !strings.Contains(out, "To delete: 1 parked results, the number in 1 other records, 0 lists.\n") ||
		!strings.Contains(out, "result  c2/b  approval  2") || !strings.Contains(out, "number  c1/a  approval  2") ||
		!strings.Contains(out, "Deleted: 1 parked results, the number in 1 other records, 0 lists.\n") {
		t.Errorf("%s%s", out, errOut)
	}
	if strings.Contains(out+errOut, "planted") || strings.Contains(out+errOut, "0100100") {
		t.Errorf("the output repeats what was deleted:\n%s%s", out, errOut)
	}
	if len(a.sent) != 1 || !strings.HasPrefix(a.sent[0], "results ") || strings.Contains(a.sent[0], "5550100") ||
		strings.Contains(a.sent[0], "planted result") {
		t.Errorf("sent %q", a.sent)
	}
	if out, errOut := forget(0, "+15550100100", "--yes"); out != "Nothing is stored under this number.\n" {
		t.Errorf("%q, %q", out, errOut)
	}
	for name, row := range map[string]struct {
		code int
		more []string
		err  string
	}{
		"no number":       {80, nil, "expected \"<number>\""},
		"a word":          {1, []string{"anonymous", "--yes"}, "write it like +15550100123"},
		"a national one":  {1, []string{"0555 0100100", "--yes"}, "write it like +15550100123"},
		"another address": {1, []string{"+15550100100", "--yes", "--addr", "127.0.0.1:1"}, "--addr requires --local"},
	} {
		if out, errOut := forget(row.code, row.more...); out != "" || !strings.Contains(errOut, row.err) {
			t.Errorf("%s: %q, %q", name, out, errOut)
		}
	}
	delete(a.outputs, "CompletionSecretArn")
	if _, errOut := forget(1, "+15550100100", "--yes"); !strings.Contains(errOut, "has no output CompletionSecretArn") {
		t.Error(errOut)
	}
}

// TestCustomersOfALocalRun forgets the customer of a job that waits.
func TestCustomersOfALocalRun(t *testing.T) {
	withoutSettings(t)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Hour})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	if code, out, errOut := run(t, "send", "../../events/vapi/notify-when-ready.json", "--url", at); code != 0 {
		t.Fatalf("code %d, %s%s", code, out, errOut)
	}
	forget := func() string {
		t.Helper()
		out, _ := runs(t, []string{"customers", "forget", "--local", "--addr", addr, "+15550100123", "--yes"}, 0)
		return out
	}
	out := ""
	for end := time.Now().Add(patience); !strings.Contains(out, "the number in 1 other records"); out = forget() {
		if time.Now().After(end) {
			t.Fatalf("no job waits:\n%s", out)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(out, "Deleted: 0 parked results, the number in 1 other records, 0 lists.\n") {
		t.Error(out)
	}
	if out := forget(); out != "Nothing is stored under this number.\n" {
		t.Error(out)
	}
}
