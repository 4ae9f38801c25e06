package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestQuota(t *testing.T) {
	q, err := newQuota(0.1)
	if err != nil {
		t.Skipf("no control groups without the rights of root: %v", err)
	}
	busy := exec.Command("sh", "-c", "while :; do :; done")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	err = q.add(busy.Process)
	began := time.Now()
	time.Sleep(time.Second)
	used, clock := cpuTime(busy.Process)
	passed := time.Since(began)
	_ = busy.Process.Kill()
	_ = busy.Wait()
	if err != nil || clock != nil || used == 0 || used > passed/4 {
		t.Errorf("a process with a tenth of a CPU uses %s in %s: %v, %v", used, passed, err, clock)
	}
	q.remove()
	if _, err := os.Stat(q.folder); !os.IsNotExist(err) {
		t.Errorf("the control group stays: %v", err)
	}
}
