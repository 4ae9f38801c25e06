package functions_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/run/ack"
	"github.com/ringback/ringback/run/callback"
	"github.com/ringback/ringback/run/process"
)

// planted is what TestStart must find.
var planted = regexp.MustCompile("planted")

// maxTable is how many bytes a package may allocate before main, for errors and small maps. More of them take longer
// than a microsecond.
const maxTable = 1 << 10

// TestStart checks what the functions allocate until they ask for their first event: no regular expression of
// Ringback's, and no table of a package's variables. A caller waits for a start.
func TestStart(t *testing.T) {
	if planted.NumSubexp() != 0 {
		t.Fatal("the planted expression is not in the test program")
	}
	for _, name := range []string{"ack", "process", "callback"} {
		t.Run(name, func(t *testing.T) {
			self := exec.CommandContext(t.Context(), os.Args[0])
			self.Env = append(os.Environ(), "RINGBACK_START="+name, "GODEBUG=memprofilerate=1")
			out, err := self.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := []string{"functions_test.init: an expression", "functions_test: tables"}
			if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
				t.Errorf("the start makes %q", got)
			}
		})
	}
}

func TestMain(m *testing.M) {
	run := map[string]func(){"ack": ack.Run, "callback": callback.Run, "process": func() { process.Run(shop.All) }}
	name := os.Getenv("RINGBACK_START")
	if name == "" {
		os.Exit(m.Run())
	}
	// The runtime API of Lambda. Nothing is sent to AWS before the first event.
	lambda := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		_, _ = os.Stdout.WriteString(strings.Join(made(), "\n"))
		os.Exit(0)
	}))
	for variable, value := range map[string]string{
		"AWS_LAMBDA_RUNTIME_API": strings.TrimPrefix(lambda.URL, "http://"),
		"AWS_REGION":             "eu-central-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
		"AWS_ENDPOINT_URL": lambda.URL, "JOBS_QUEUE_URL": lambda.URL + "/jobs", "RESULTS_QUEUE_URL": lambda.URL + "/results",
		"JOBS_TABLE": "jobs", "EVENT_BUS_NAME": "bus", "SCHEDULE_GROUP": "group", "SCHEDULE_ROLE_ARN": "arn:role",
		"JOBS_QUEUE_ARN": "arn:jobs", "JOBS_DLQ_ARN": "arn:dead", "COMPLETION_URL": lambda.URL + "/results/",
		"COMPLETION_KEYS": `{"current":"0123456789abcdef0123456789abcdef"}`,
		"WEBHOOK_AUTH":    `{"type":"hmac","secretKey":"0123456789abcdef0123456789abcdef","algorithm":"sha256"}`,
		"WEBHOOK_SECRET":  "0123456789abcdef0123456789abcdef", "ORDERS_API_URL": lambda.URL,
		"CALL_BACK_HOURS": "09:00-18:00", "CALL_BACK_ZONE": "Europe/Berlin", "CALL_BACK_ASSISTANT_ID": "assistant",
		"CALL_BACK_PHONE_NUMBER_ID": "number", "VAPI_PRIVATE_KEY_SECRET_ID": "private", "VAPI_PUBLIC_KEY_SECRET_ID": "public",
		"OTEL_EXPORTER_OTLP_ENDPOINT": lambda.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=x",
	} {
		_ = os.Setenv(variable, value)
	}
	run[name]()
}

// made returns what Ringback's packages allocated that TestStart forbids.
func made() (found []string) {
	const module = "github.com/ringback/ringback/"
	for range 3 { // until the profile has all
		runtime.GC()
	}
	records := make([]runtime.MemProfileRecord, 100_000)
	n, ok := runtime.MemProfile(records, true)
	if !ok {
		return []string{strconv.Itoa(n) + " records"}
	}
	tables := make(map[string]int64) // bytes by package
	for _, r := range records[:n] {
		expression, last := false, ""
		for frames, more := runtime.CallersFrames(r.Stack()), true; more; { // from the inside out
			var f runtime.Frame
			f, more = frames.Next()
			name, ours := strings.CutPrefix(f.Function, module)
			switch {
			case f.Function == "regexp.compile":
				expression = true
			case expression && ours:
				expression, found = false, append(found, name+": an expression")
			case f.Function == "runtime.doInit1" && last != "": // the last frame is of a package's variables
				tables[last[:strings.LastIndex(last, "/")+1]+strings.Split(filepath.Base(last), ".")[0]] += r.AllocBytes
			}
			last = ""
			if ours {
				last = name
			}
		}
	}
	for name, bytes := range tables {
		if bytes > maxTable {
			found = append(found, name+": tables")
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
