package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What is measured of a function, in nanoseconds. The size is in bytes.
const (
	started = "start"
	first   = "first call"
	both    = "start and first call"
	later   = "later call"
	cpu     = "CPU of a call"
	size    = "size"
)

// samples are the values of each thing that was measured of a function. Those of several functions with the same
// index were measured one after the other.
type samples map[string][]float64

func (s samples) add(what string, value float64) { s[what] = append(s[what], value) }

// ratio is the median of the ratios of pairs, with the interval that it is in with 95 %. The zero ratio is that of
// something that was not measured.
type ratio struct{ Median, Low, High float64 }

func (r ratio) String() string {
	switch {
	case r == ratio{}:
		return "–"
	case r.Low == r.High:
		return fmt.Sprintf("%.2f", r.Median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
}

// subject is a function, and how it is measured.
type subject struct {
	function, input string
	// event returns the next event. The function has not seen its ids before.
	event  func() ([]byte, error)
	others []string // which functions are measured beside it

	messages int  // in an event of the process or the callback function; 0 is one
	slow     bool // the services are slow

	// For starts only.
	environment []string // is added to that of all
	cold        bool     // read the executable from the disk
	quota       *quota   // of the first call; nil is none
}

// before is what the functions of another version have after their names.
const before = " before"

// path returns the executable of a function.
func (b *bench) path(name string) string {
	if function, ok := strings.CutSuffix(name, before); ok {
		return filepath.Join(b.beside, function, "bootstrap")
	}
	return filepath.Join(b.folder, name)
}

// inTurn calls do for each name of a function, and then for each in the opposite order, until every name had its
// turn this often. What changes slowly on this machine then affects the functions alike.
func inTurn(names []string, turns int, do func(name string) error) error {
	for turn := range turns {
		for i, name := range names {
			if turn%2 == 1 {
				name = names[len(names)-1-i]
			}
			if err := do(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// measure measures a function and those beside it. The result has an element for each of them, by its name.
func (b *bench) measure(s subject, starts, calls int) (map[string]samples, error) {
	defer b.stopHelpers()
	names := []string{s.function}
	if b.beside != "" {
		names = append(names, s.function+before)
	}
	names = append(names, s.others...)
	all := make(map[string]samples)
	for _, name := range names {
		info, err := os.Stat(b.path(name))
		if err != nil {
			return nil, err
		}
		all[name] = samples{size: {float64(info.Size())}}
	}
	err := inTurn(names, starts, func(name string) error { return b.start(s, name, all[name]) })
	if err != nil || calls == 0 {
		return all, err
	}

	running := make(map[string]*function)
	for _, name := range names {
		f, _, err := start(b.path(name), b.environment())
		if err != nil {
			return nil, err
		}
		defer f.stop()
		running[name] = f
	}
	err = inTurn(names, warmUp, func(name string) error { return b.block(s, block, name, running[name], samples{}) })
	if err != nil {
		return nil, err
	}
	return all, inTurn(names, calls/block, func(name string) error {
		return b.block(s, block, name, running[name], all[name])
	})
}

func (b *bench) stopHelpers() {
	for _, helper := range b.helpers {
		helper.stop()
	}
	b.helpers = nil
}

// start measures a start of a function, and its first call.
func (b *bench) start(s subject, name string, to samples) error {
	event, err := s.event()
	if err != nil {
		return err
	}
	if s.cold {
		if err := forget(b.path(name)); err != nil {
			return fmt.Errorf("%w: %w", errNotCold, err)
		}
	}
	f, took, err := start(b.path(name), append(b.environment(), s.environment...))
	if err != nil {
		return err
	}
	if s.quota != nil {
		err = s.quota.add(f.command.Process)
	}
	var call time.Duration
	if err == nil {
		call, err = b.call(s, name, f, event)
	}
	f.stop()
	if err == nil && s.cold && !readFromDisk(f.command.ProcessState) {
		err = errNotCold
	}
	to.add(started, float64(took))
	to.add(first, float64(call))
	to.add(both, float64(took+call))
	return err
}

var errNotCold = errors.New("an executable stays in the page cache")

// block is how many calls a function gets before it is another one's turn, and warmUp how many blocks precede the
// measured ones.
const block, warmUp = 10, 2

// block measures a block of calls.
func (b *bench) block(s subject, calls int, name string, f *function, to samples) error {
	var times []float64
	began, err := cpuTime(f.command.Process)
	for range calls {
		event, err := s.event()
		if err != nil {
			return err
		}
		took, err := b.call(s, name, f, event)
		if err != nil {
			return err
		}
		times = append(times, float64(took))
	}
	to.add(later, median(times))
	if err == nil {
		ended, _ := cpuTime(f.command.Process)
		to.add(cpu, float64(ended-began)/float64(calls))
	}
	return nil
}

// call invokes a function, and checks what it did unless it is the empty one.
func (b *bench) call(s subject, name string, f *function, event []byte) (time.Duration, error) {
	posts := b.services.controlPosts()
	b.services.slow.Store(s.slow)
	defer b.services.slow.Store(false)
	answer, took, err := f.invoke(event)
	if err == nil && name != "empty" {
		err = b.check(s, answer, posts)
	}
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, &f.log)
	}
	return took, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// compared returns the ratio of pairs. It resamples them to find the interval.
func compared(ours, others []float64) ratio {
	var all []float64
	for i := range min(len(ours), len(others)) {
		all = append(all, ours[i]/others[i])
	}
	if len(all) == 0 {
		return ratio{}
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same interval for the same numbers
	var medians []float64
	again := make([]float64, len(all))
	for range 1000 {
		for i := range again {
			again[i] = all[random.IntN(len(all))]
		}
		medians = append(medians, median(again))
	}
	slices.Sort(medians)
	return ratio{median(all), medians[25], medians[974]}
}
