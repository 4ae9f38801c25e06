//go:build !linux

package main

import (
	"errors"
	"os"
	"time"
)

// Only Linux can measure the CPU time of another process, empty the page cache for a file, and limit CPU.

func cpuTime(*os.Process) (time.Duration, error) { return 0, errors.ErrUnsupported }

func forget(string) error { return errors.ErrUnsupported }

func readFromDisk(*os.ProcessState) bool { return false }

type quota struct{}

func newQuota(float64) (*quota, error) { return nil, errors.ErrUnsupported }

func (*quota) add(*os.Process) error { return nil }

func (*quota) remove() {}
