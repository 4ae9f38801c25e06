package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how much CPU time a process has used so far.
func cpuTime(p *os.Process) (time.Duration, error) {
	// The clock of a process, as clock_getcpuclockid(3) computes it: ^pid<<3 | CPUCLOCK_SCHED.
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.Pid<<3|2), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// forget removes a file from the page cache. It does nothing in a file system that is in memory.
func forget(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	// Pages that are not yet written stay in the cache.
	err = errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED))
	return errors.Join(err, file.Close())
}

// readFromDisk reports whether an ended process waited for a page from a disk.
func readFromDisk(state *os.ProcessState) bool {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	return ok && usage.Majflt > 0
}

// quota is a control group whose processes share a part of a CPU.
type quota struct{ folder string }

// newQuota makes a control group, for which a process needs the rights of root. Lambda's period is 20 ms, too.
func newQuota(cpus float64) (*quota, error) {
	const root, period = "/sys/fs/cgroup", 20_000
	share := int(cpus * period)
	parent, files := root, map[string]string{"cpu.max": fmt.Sprint(share, " ", period)}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0) // it may be there
	} else { // version 1
		parent = filepath.Join(root, "cpu")
		files = map[string]string{"cpu.cfs_period_us": fmt.Sprint(period), "cpu.cfs_quota_us": fmt.Sprint(share)}
	}
	folder, err := os.MkdirTemp(parent, "bench")
	if err != nil {
		return nil, err
	}
	q := &quota{folder}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0); err != nil {
			q.remove()
			return nil, err
		}
	}
	return q, nil
}

// add moves a process into the group. The process stops meanwhile, because it must not run without the quota.
func (q *quota) add(p *os.Process) error {
	err := p.Signal(syscall.SIGSTOP)
	if err == nil {
		err = os.WriteFile(filepath.Join(q.folder, "cgroup.procs"), []byte(strconv.Itoa(p.Pid)), 0)
	}
	return errors.Join(err, p.Signal(syscall.SIGCONT))
}

// remove removes the group, whose processes have ended. The kernel needs a moment to notice that.
func (q *quota) remove() {
	for range 100 {
		if err := os.Remove(q.folder); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
