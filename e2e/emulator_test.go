//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	region  = "us-east-1"
	account = "000000000000"
)

// emulator is a running MiniStack, and what the CDK CLI needs to deploy into it.
type emulator struct {
	address  string // host:port
	endpoint string // https://host:port
	client   *http.Client
	env      []string // of the CDK CLI
	folder   string   // of temporary files
}

// startEmulator installs MiniStack into a new virtual environment and starts it on a free port. It ends
// with the test.
func startEmulator(t *testing.T, ctx context.Context) *emulator {
	t.Helper()
	folder := t.TempDir()
	run(t, ctx, folder, nil, "python3", "-m", "venv", "venv")
	requirements, err := filepath.Abs("../scripts/requirements/ministack.txt")
	if err != nil {
		t.Fatal(err)
	}
	run(t, ctx, folder, nil, "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", requirements)

	certificate, key, pool := makeCertificate(t, folder)
	e := &emulator{address: freeAddress(t), folder: folder}
	e.endpoint = "https://" + e.address
	_, port, _ := net.SplitHostPort(e.address)
	aws := []string{
		"AWS_ENDPOINT_URL=" + e.endpoint, "AWS_ENDPOINT_URL_S3=" + e.endpoint,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
	}
	e.env = append(append(os.Environ(), aws...),
		"NODE_EXTRA_CA_CERTS="+forNode(t, certificate), "AWS_CA_BUNDLE="+certificate, "CDK_DISABLE_CLI_TELEMETRY=true")
	e.client = &http.Client{
		Timeout: unbounded,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool},
			// Names such as <api>.execute-api.localhost belong to the emulator.
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, e.address)
			},
		},
	}

	temporary := filepath.Join(folder, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "ministack.log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(folder, "venv/bin/ministack"))
	server.Dir = folder
	server.Stdout, server.Stderr = log, log
	server.Env = append(append(os.Environ(), aws...),
		"GATEWAY_PORT="+port, "BIND_HOST=127.0.0.1", "TMPDIR="+temporary, "STATE_DIR="+temporary,
		"USE_SSL=1", "MINISTACK_SSL_CERT="+certificate, "MINISTACK_SSL_KEY="+key,
		"SSL_CERT_FILE="+certificate, // for the functions, which get this environment too
		"AUTH=true",                  // each function may do only what its role allows
	)
	// The emulator has a process group of its own, so that its functions can be ended with it. If this
	// process is killed, the kernel ends the emulator.
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		// The kernel sends Pdeathsig when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- server.Start()
		_ = server.Wait() // how it ends does not matter
		close(ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
		}
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		<-ended
		log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("the end of MiniStack's log:\n%s", text[max(0, len(text)-4000):])
			}
		}
	})
	eventually(t, ctx, unbounded, "MiniStack to answer", func() error {
		select {
		case <-ended:
			t.Fatal("MiniStack ended by itself")
		default:
		}
		response, err := e.client.Get(e.endpoint + "/_ministack/health")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		return nil
	})
	return e
}

// forNode returns a file with the certificate and those that Node.js trusts on this machine, which npm may need to
// reach its registry.
func forNode(t *testing.T, certificate string) string {
	t.Helper()
	var all []byte
	for _, file := range []string{certificate, os.Getenv("NODE_EXTRA_CA_CERTS")} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, text...), '\n')
	}
	file := filepath.Join(filepath.Dir(certificate), "node.pem")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// makeCertificate creates a certificate for this machine's own names. It returns the certificate's file
// and that of its key.
func makeCertificate(t *testing.T, folder string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames:    []string{"localhost", "*.localhost", "*.execute-api.localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true, // self-signed
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificatePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	for name, content := range map[string][]byte{
		certificate: certificatePEM,
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certificatePEM)
	return certificate, key, pool
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// run runs a command and returns its output, including stderr. If the command fails, the test fails.
func run(t *testing.T, ctx context.Context, folder string, env []string, name string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir, command.Env = folder, env
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	// The processes that it started end with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	if err := command.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, output.String())
	}
	return output.String()
}

// eventually tries until there is no error, and fails the test after the limit. If a try takes long, as
// on a busy machine, it tries less often.
func eventually(t *testing.T, ctx context.Context, limit time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	for {
		tried := time.Now()
		err := try()
		if err == nil {
			t.Logf("waited %s for %s", time.Since(started).Round(100*time.Millisecond), what)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s; last error: %v", what, err)
		case <-time.After(max(200*time.Millisecond, time.Since(tried))):
		}
	}
}

// post posts a webhook to the deployed API.
func (e *emulator) post(ctx context.Context, to, token string, body []byte) (int, string, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return e.send(ctx, to, header, body)
}

// postAs posts a body of another content type to the deployed API.
func (e *emulator) postAs(ctx context.Context, to, contentType string, body []byte) (int, string, error) {
	return e.send(ctx, to, http.Header{"Content-Type": {contentType}}, body)
}

func (e *emulator) send(ctx context.Context, to string, header http.Header, body []byte) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header = header
	response, err := e.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}
