package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tables measures the functions, prints the tables in Markdown, and returns the ratios by their names.
func (b *bench) tables(starts, calls int) (map[string]ratio, error) {
	ratios := make(map[string]ratio)
	other := "empty"
	if b.beside != "" {
		other = "before"
	}
	fmt.Println(strings.ReplaceAll(`| function | start | ÷ other | first call | ÷ other | later call | ÷ other `+
		`| CPU of a call | ÷ other | size | ÷ other |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|`, "other", other))
	small := subject{function: "ack", input: "2 KB", event: b.webhooks(2<<10, 1), others: []string{"bare", "empty"}}
	medium := subject{function: "ack", input: "40 KB, three tool calls", event: b.webhooks(40<<10, 3),
		others: []string{"bare", "empty", "ordinary"}}
	large := subject{function: "ack", input: "1 MB", event: b.webhooks(1<<20, 1), others: medium.others}
	measured := make(map[string]map[string]samples) // by the input, and then by the function
	for _, s := range []subject{
		small, medium, large,
		{function: "process", input: "one job", event: b.jobs, others: []string{"empty"}},
		{function: "callback", input: "one outcome", event: b.outcomes, others: []string{"empty"}},
	} {
		all, err := b.measure(s, starts, calls)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", s.function, s.input, err)
		}
		measured[s.input] = all
		row := "| " + s.function + ", " + s.input
		for _, what := range []string{started, first, later, cpu, size} {
			with := "empty"
			if b.beside != "" {
				with = s.function + before
			}
			r := compared(all[s.function][what], all[with][what])
			ratios[fmt.Sprintf("%s, %s: %s ÷ %s", s.function, s.input, what, other)] = r
			row += fmt.Sprintf(" | %s | %s", amount(what, all[s.function][what]), r)
		}
		fmt.Println(row + " |")
	}

	if err := b.batches(max(calls/60, 1), ratios); err != nil {
		return nil, err
	}

	cold := small
	cold.cold, cold.others = true, []string{"empty"}
	coldAll, err := b.measure(cold, starts, 0)
	if errors.Is(err, errNotCold) {
		coldAll = nil // not measured
	} else if err != nil {
		return nil, fmt.Errorf("%s, cold page cache: %w", cold.function, err)
	}
	limited := medium
	limited.others = []string{"ordinary"}
	limitedName := "start and first call ÷ ordinary, 40 KB, three tool calls, TLS, "
	if limited.environment, err = b.tls(); err != nil {
		return nil, err
	}
	if limited.quota, err = newQuota(0.29); err == nil {
		defer limited.quota.remove()
		limitedName += "0.29 CPU"
	} else {
		limitedName += "without a CPU quota"
	}
	limitedAll, err := b.measure(limited, starts, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", limitedName, err)
	}

	fmt.Println()
	if b.beside == "" {
		fmt.Print("| front function | ratio |\n|---|--:|\n")
	} else {
		fmt.Print("| front function | before | now |\n|---|--:|--:|\n")
	}
	for _, row := range []struct {
		name        string
		of          map[string]samples
		what, other string
	}{
		{"start ÷ empty, warm page cache", measured[small.input], started, "empty"},
		{"start ÷ empty, cold page cache", coldAll, started, "empty"},
		{limitedName, limitedAll, both, "ordinary"},
		{"later call ÷ bare, 2 KB", measured[small.input], later, "bare"},
		{"later call ÷ bare, 40 KB, three tool calls", measured[medium.input], later, "bare"},
		{"later call ÷ bare, 1 MB", measured[large.input], later, "bare"},
		{"CPU of a call ÷ ordinary, 40 KB, three tool calls", measured[medium.input], cpu, "ordinary"},
		{"CPU of a call ÷ ordinary, 1 MB", measured[large.input], cpu, "ordinary"},
		{"size ÷ empty", measured[small.input], size, "empty"},
	} {
		of := func(name string) ratio { return compared(row.of[name][row.what], row.of[row.other][row.what]) }
		ratios["front function: "+row.name] = of("ack")
		fmt.Print("| ", row.name)
		if b.beside != "" {
			fmt.Print(" | ", of("ack"+before))
		}
		fmt.Println(" |", of("ack"), "|")
	}
	return ratios, nil
}

// amount returns the median of values for a table.
func amount(what string, values []float64) string {
	switch {
	case len(values) == 0:
		return "–"
	case what == size:
		return fmt.Sprintf("%.2f MB", values[0]/1e6)
	}
	return fmt.Sprintf("%.2f ms", median(values)/float64(time.Millisecond))
}

// tls returns the environment of a function that reaches SQS with TLS. It trusts the authorities that this machine
// trusts, because loading them takes time. AWS_CA_BUNDLE makes the SDK load them at a function's start, when it has a
// whole CPU, and not in its first call. That is for the benefit of the ordinary function.
func (b *bench) tls() ([]string, error) {
	var roots []byte
	for _, file := range []string{
		os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, Amazon Linux
		"/etc/ssl/ca-bundle.pem",             // SUSE
		"/etc/ssl/cert.pem",                  // Alpine, macOS
	} {
		var err error
		if roots, err = os.ReadFile(file); err == nil {
			break
		}
	}
	if roots == nil {
		return nil, errors.New("found no certificates of authorities; set SSL_CERT_FILE to the file that has them")
	}
	server := b.servers[1]
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	file := filepath.Join(b.folder, "roots.pem")
	if err := os.WriteFile(file, append(append(roots, '\n'), own...), 0o600); err != nil {
		return nil, err
	}
	return []string{
		"SSL_CERT_FILE=" + file, "SSL_CERT_DIR=" + filepath.Join(b.folder, "none"), "AWS_CA_BUNDLE=" + file,
		"AWS_ENDPOINT_URL=" + server.URL, "JOBS_QUEUE_URL=" + server.URL + "/jobs",
		"RESULTS_QUEUE_URL=" + server.URL + "/results",
	}, nil
}
