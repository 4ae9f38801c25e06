package function_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/aws/function"
)

// TestMain makes the test program a function if it is asked to.
func TestMain(m *testing.M) {
	switch os.Getenv("BE_A_FUNCTION") {
	case "that works":
		function.Start(func() (doubler, error) { return doubler{}, nil })
	case "that tells its runtime":
		function.Start(func() (settings, error) { return settings{}, nil })
	case "that only connects":
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		cloud, err := function.Load()
		if err == nil {
			err = cloud.ConnectSQS(ctx)
		}
		if err != nil {
			panic(err)
		}
	case "that cannot be built":
		function.Start(func() (doubler, error) { return doubler{}, errors.New("JOBS_TABLE is not set") })
	default:
		file, err := trust()
		if err != nil {
			panic(err)
		}
		code := m.Run()
		_ = os.Remove(file)
		os.Exit(code)
	}
}

// trust makes the certificate of net/http/httptest the only one that the tests trust. Go reads such a file once.
func trust() (file string, err error) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	f, err := os.CreateTemp("", "authority*.pem")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}); err != nil {
		return "", err
	}
	return f.Name(), errors.Join(os.Setenv("SSL_CERT_FILE", f.Name()), os.Setenv("SSL_CERT_DIR", f.Name()))
}

type doubler struct{}

func (doubler) Handle(_ context.Context, n int) (int, error) {
	slog.Info("doubled", "number", n, "took", time.Second)
	return 2 * n, nil
}

// settings answers with the processors, the growth of the heap in %, and its limit in MB.
type settings struct{}

func (settings) Handle(context.Context, int) ([]int64, error) {
	limit := debug.SetMemoryLimit(-1) >> 20
	return []int64{int64(runtime.GOMAXPROCS(0)), int64(debug.SetGCPercent(100)), limit}, nil
}

func TestFunction(t *testing.T) {
	answer, log := run(t, "that works")
	if answer != "/2018-06-01/runtime/invocation/request-1/response 42" {
		t.Errorf("answered with %s", answer)
	}
	record := logged(t, log)
	if record["message"] != "doubled" || record["level"] != "INFO" || record["took_ms"] != 1000.0 {
		t.Errorf("the log is %s", log)
	}
}

func TestRuntime(t *testing.T) {
	const unlimited = math.MaxInt64 >> 20
	for _, test := range []struct {
		environment              string
		processors, growth, most int
	}{
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", 1, 200, 96},
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1769", 1, 200, 1326},
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1770", min(2, runtime.NumCPU()), 200, 1327},
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=10240", min(6, runtime.NumCPU()), 200, 7680},
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128\nGOMAXPROCS=3", 3, 200, 96},
		{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128\nGOGC=50\nGOMEMLIMIT=64MiB", 1, 50, 64},
		{"", runtime.NumCPU(), 100, unlimited},
	} {
		answer, _ := run(t, "that tells its runtime", strings.Split(test.environment, "\n")...)
		want := fmt.Sprintf("[%d,%d,%d]", test.processors, test.growth, test.most)
		if _, got, _ := strings.Cut(answer, " "); got != want {
			t.Errorf("%q: the processors, the growth and the limit are %s, want %s", test.environment, got, want)
		}
	}
}

// run starts a function with an environment, and sends it the event 21. It returns where the answer was posted to,
// the answer, and the log.
func run(t *testing.T, function string, environment ...string) (answer, log string) {
	t.Helper()
	answered := make(chan string, 1)
	served := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/next") && !served:
			served = true
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "request-1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", "4102444800000")
			_, _ = io.WriteString(w, "21")
		case strings.HasSuffix(r.URL.Path, "/next"):
			<-r.Context().Done()
		default:
			body, _ := io.ReadAll(r.Body)
			answered <- r.URL.Path + " " + string(body)
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer api.Close()
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(environment, "BE_A_FUNCTION="+function, "AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"))
	var output strings.Builder
	process.Stdout, process.Stderr = &output, &output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case answer = <-answered:
	case <-time.After(time.Minute):
		t.Error("no answer")
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	return answer, output.String()
}

func TestFunctionThatCannotStart(t *testing.T) {
	function := exec.CommandContext(t.Context(), os.Args[0])
	function.Env = []string{"BE_A_FUNCTION=that cannot be built", "AWS_LAMBDA_LOG_FORMAT=JSON"}
	log, err := function.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if record := logged(t, string(log)); record["error"] != "JOBS_TABLE is not set" || record["level"] != "ERROR" {
		t.Errorf("the log is %s", log)
	}
}

// logged returns the only record of a log.
func logged(t *testing.T, log string) map[string]any {
	t.Helper()
	var record map[string]any
	if err := json.Unmarshal([]byte(log), &record); err != nil {
		t.Fatalf("the log is not one JSON record: %v: %s", err, log)
	}
	return record
}
