package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRatios(t *testing.T) {
	var pairs [2][]time.Duration
	for i := range 41 {
		pairs[0], pairs[1] = append(pairs[0], time.Duration(200+i-20)), append(pairs[1], 100)
	}
	got := ratios(pairs)
	if got.Median != 2 || got.Low >= 2 || got.High <= 2 || got.Low < 1.8 || got.High > 2.2 {
		t.Errorf("the ratio is %+v", got)
	}
}

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "before.json")
	earlier := `[{"Function":"ack","Input":"2 KB","Ratios":{"start":{"Median":2,"Low":1.9,"High":2.1}}}]`
	if err := os.WriteFile(file, []byte(earlier), 0o600); err != nil {
		t.Fatal(err)
	}
	for now, worse := range map[ratio]bool{
		{2.2, 2.11, 2.3}: true, {2.2, 2.09, 2.3}: false, {1.5, 1.4, 1.6}: false, exactly(3): false,
	} {
		err := compare(file, []row{{Function: "ack", Input: "2 KB", Ratios: map[string]ratio{"start": now, "size": now}}})
		if (err != nil) != worse || worse && !strings.Contains(err.Error(), "ack, 2 KB: the start was 2.00 (1.90–2.10)") {
			t.Errorf("%s: %v", now, err)
		}
	}
}
