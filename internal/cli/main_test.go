package cli_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/operator"
)

// asProgram is the environment variable with which the program of these tests is the command line.
const asProgram = "RINGBACK_TEST_PROGRAM"

// shared is a folder for what several tests need. It is empty at first.
var shared string

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Run(shop.All, os.Args[1:], os.Stdout, os.Stderr))
	}
	var err error
	if shared, err = os.MkdirTemp("", "ringback-test-"); err != nil {
		panic(err)
	}
	m.Run()
	os.RemoveAll(shared)
}

// ringback returns the command line as a program of its own, in the folder of this checkout and with the tools of the
// shop. It has no credential and no settings but those in env. Tests that use it, and nothing else that belongs to the
// whole process, can run in parallel.
func ringback(t *testing.T, env []string, arguments ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, arguments...)
	c.Dir, c.WaitDelay = "../..", 10*time.Second
	c.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{
			"NO_COLOR", "WEBHOOK_AUTH", "RINGBACK_SECRET", "RINGBACK_BEARER", "RINGBACK_HMAC",
			"ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL",
		}, name)
	}), asProgram+"=1")
	c.Env = append(c.Env, env...)
	return c
}

// serveOwn serves a handler as the local run of this user, whose cache folder XDG_CACHE_HOME names. It returns its URL.
func serveOwn(t *testing.T, h http.Handler) string {
	t.Helper()
	token := guard.NewToken()
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle(operator.ProofPath, operator.ProofHandler(token))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	if _, err := guard.Store(server.Listener.Addr().String(), token); err != nil {
		t.Fatal(err)
	}
	return server.URL
}
