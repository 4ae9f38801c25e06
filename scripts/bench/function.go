package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// limit bounds a start, and an invocation.
const limit = time.Minute

// function is a process of a built function, behind a Lambda runtime API of its own.
type function struct {
	command *exec.Cmd
	server  *http.Server
	log     bytes.Buffer
	asked   chan time.Time // when the function asks for an event
	events  chan []byte
	sent    time.Time
	answers chan answer
	exited  chan error
}

type answer struct {
	body []byte
	took time.Duration // since the event was sent
	err  error
}

// start starts a function and returns how long it took until the function asked for its first event.
func start(path string, environment []string) (*function, time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	f := &function{
		asked: make(chan time.Time, 1), events: make(chan []byte), answers: make(chan answer), exited: make(chan error, 1),
	}
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(listener) }()
	f.command = exec.Command(path)
	f.command.Env = append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512",
	}, environment...)
	f.command.Stdout, f.command.Stderr = &f.log, &f.log
	began := time.Now()
	if err := f.command.Start(); err != nil {
		return nil, 0, err
	}
	go func() { f.exited <- f.command.Wait() }()
	select {
	case at := <-f.asked:
		return f, at.Sub(began), nil
	case err = <-f.exited:
	case <-time.After(limit):
	}
	return nil, 0, fmt.Errorf("%s does not start: %w\n%s", path, err, &f.log)
}

// ServeHTTP serves the runtime API.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/invocation/")
	if path == "next" {
		f.asked <- time.Now()
		select {
		case event := <-f.events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "bench")
			w.Header().Set("Content-Length", strconv.Itoa(len(event)))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(limit).UnixMilli(), 10))
			f.sent = time.Now()
			_, _ = w.Write(event)
		case <-r.Context().Done():
		}
		return
	}
	body, err := io.ReadAll(r.Body)
	took := time.Since(f.sent)
	w.WriteHeader(http.StatusAccepted)
	if err == nil && path != "bench/response" {
		err = fmt.Errorf("the function failed: %s", body)
	}
	f.answers <- answer{body, took, err}
}

// invoke returns a function's answer to an event, and how long it took. The function asks for the next event before
// invoke returns, so that its work for this one is over.
func (f *function) invoke(event []byte) ([]byte, time.Duration, error) {
	timeout := time.After(limit)
	select {
	case f.events <- event:
	case <-timeout:
		return nil, 0, fmt.Errorf("no question for an event\n%s", &f.log)
	}
	select {
	case a := <-f.answers:
		select {
		case <-f.asked:
			return a.body, a.took, a.err
		case <-timeout:
		}
	case <-timeout:
	}
	return nil, 0, fmt.Errorf("no answer\n%s", &f.log)
}

// stop ends the process.
func (f *function) stop() {
	_ = f.command.Process.Kill()
	<-f.exited
	_ = f.server.Close()
}
