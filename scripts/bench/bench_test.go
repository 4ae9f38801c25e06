package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCompared(t *testing.T) {
	var ours, others []float64
	for i := range 41 {
		ours, others = append(ours, float64(200+i-20)), append(others, 100)
	}
	got := compared(ours, others)
	if got.Median != 2 || got.Low >= 2 || got.High <= 2 || got.Low < 1.8 || got.High > 2.2 {
		t.Errorf("the ratio is %+v", got)
	}
	// The pairs count. The ratio of the medians is 1 here.
	if got := compared([]float64{1, 10, 100}, []float64{10, 100, 1}); got.Median != 0.1 {
		t.Errorf("the ratio of pairs is %+v", got)
	}
	for want, r := range map[string]ratio{
		"–": compared(nil, others), "1.50": compared([]float64{3}, []float64{2}), "2.00 (1.95–2.04)": {2, 1.95, 2.04},
	} {
		if r.String() != want {
			t.Errorf("%+v is printed as %s, want %s", r, r, want)
		}
	}
}

func TestInTurn(t *testing.T) {
	var turns []string
	names := []string{"a", "b", "c"}
	err := inTurn(names, 3, func(name string) error {
		turns = append(turns, name)
		return nil
	})
	if got := strings.Join(turns, ""); got != "abccbaabc" || err != nil {
		t.Errorf("the turns are %s, %v", got, err)
	}
	want := errors.New("broken")
	if err := inTurn(names, 3, func(string) error { return want }); !errors.Is(err, want) {
		t.Errorf("the error of a turn is %v", err)
	}
}

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "before.json")
	earlier := `{"ack: start":{"Median":2,"Low":1.9,"High":2.1},"ack: size":{"Median":2,"Low":2,"High":2},"none":{}}`
	if err := os.WriteFile(file, []byte(earlier), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		now   ratio
		worse string // "" means not worse
	}{
		{"ack: start", ratio{2.2, 2.11, 2.3}, "ack: start was 2.00 (1.90–2.10) and is 2.20 (2.11–2.30)"},
		{"ack: start", ratio{2.2, 2.09, 2.3}, ""},
		{"ack: start", ratio{1.5, 1.4, 1.6}, ""},
		{"ack: start", ratio{}, ""},
		{"ack: size", ratio{2.01, 2.01, 2.01}, ""},
		{"ack: size", ratio{2.1, 2.1, 2.1}, "ack: size was 2.00 and is 2.10"},
		{"none", ratio{2, 1, 3}, ""},
		{"new", ratio{2, 1, 3}, ""},
	} {
		err := compare(file, map[string]ratio{row.name: row.now})
		if (err != nil) != (row.worse != "") || err != nil && !strings.Contains(err.Error(), row.worse) {
			t.Errorf("%s, %s: %v", row.name, row.now, err)
		}
	}
	if err := compare(file+"?", nil); err == nil {
		t.Error("no error without the file")
	}
}

// TestBatch measures batches. The functions must handle all of their messages.
func TestBatch(t *testing.T) {
	t.Chdir("../..")
	b, err := newBench("")
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.build("./functions/ack", "./functions/process"); err != nil {
		t.Fatal(err)
	}
	one, ten, err := b.batch(subject{function: "process", event: b.jobs}, "process", false, 2)
	if err != nil || len(one[later]) != 2 || len(ten[later]) != 2 || slices.Min(ten[later]) <= 0 {
		t.Fatalf("the values are %v and %v, %v", one[later], ten[later], err)
	}
	f, _, err := start(b.path("process"), b.environment())
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	slow := subject{function: "process", slow: true}
	for messages, ok := range map[int]bool{1: false, 2: true, 3: false} {
		event, err := batchOf(2, b.jobs)()
		if err != nil {
			t.Fatal(err)
		}
		slow.messages = messages
		took, err := b.call(slow, "process", f, event)
		if (err == nil) != ok || ok && took < slowOrder {
			t.Errorf("%d messages of 2 take %s, %v", messages, took, err)
		}
	}
}

// TestMeasure measures the functions that the front function is compared with. They must do the work.
func TestMeasure(t *testing.T) {
	t.Chdir("../..")
	b, err := newBench("")
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.build("./scripts/bench/empty", "./scripts/bench/bare", "./scripts/bench/ordinary"); err != nil {
		t.Fatal(err)
	}
	s := subject{function: "ordinary", input: "2 KB", event: b.webhooks(2<<10, 3), others: []string{"bare", "empty"}}
	if s.environment, err = b.tls(); err != nil {
		t.Fatal(err)
	}
	all, err := b.measure(s, 2, 2*block)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"ordinary": 3, "bare": 1, "empty": 0} {
		f, _, err := start(b.path(name), b.environment())
		if err != nil {
			t.Fatal(err)
		}
		defer f.stop()
		event, err := s.event()
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := f.invoke(event)
		if sent := b.services.take(); err != nil || len(sent) != want {
			t.Errorf("%s sends %q, and answers %s, %v", name, sent, answer, err)
		}
		for what, n := range map[string]int{started: 2, first: 2, both: 2, later: 2, cpu: 2, size: 1} {
			if values := all[name][what]; len(values) != n || slices.Min(values) <= 0 {
				t.Errorf("%s: the values of %s are %v", name, what, values)
			}
		}
		if name != "ordinary" {
			continue
		}
		if answer, _, err := f.invoke([]byte(strings.Replace(string(event), "A-1", "A-2", 1))); err != nil ||
			len(b.services.take()) > 0 || !json.Valid(answer) || !strings.Contains(string(answer), `"statusCode":401`) {
			t.Errorf("the answer to a wrong signature is %s, %v", answer, err)
		}
	}
}
