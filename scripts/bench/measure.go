package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// row is what was measured of a function with one kind of input. The times are medians.
type row struct {
	Function, Input          string
	Start, First, Later, CPU time.Duration
	Size                     int64
	Ratios                   map[string]ratio // to those of the other function
}

// String returns a row of a table in Markdown.
func (r row) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
	return fmt.Sprintf("| %s, %s | %s | %s | %s | %s | %s | %s | %s | %s | %.2f MB | %s |", r.Function, r.Input,
		ms(r.Start), r.Ratios["start"], ms(r.First), r.Ratios["first call"], ms(r.Later), r.Ratios["later call"],
		ms(r.CPU), r.Ratios["CPU of a call"], float64(r.Size)/1e6, r.Ratios["size"])
}

// ratio is the median of the ratios of pairs, with the interval that it is in with 95 %.
type ratio struct{ Median, Low, High float64 }

func (r ratio) String() string {
	if r.Low == r.High {
		return fmt.Sprintf("%.2f", r.Median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
}

// exactly returns a ratio that has no interval.
func exactly(r float64) ratio { return ratio{r, r, r} }

// warmUp is how many calls precede the measured ones, and block how many calls a function gets before it is the
// other one's turn.
const warmUp, block = 20, 10

// measure measures a function beside the other one.
func (b *bench) measure(s subject, starts, calls int) (row, error) {
	defer func() {
		for _, helper := range b.helpers {
			helper.stop()
		}
		b.helpers = nil
	}()
	paths := [2]string{filepath.Join(b.folder, s.function), filepath.Join(b.folder, "empty")}
	if b.beside != "" {
		paths[1] = filepath.Join(b.beside, s.function, "bootstrap")
	}
	var started, first, cpu [2][]time.Duration
	for i := range starts {
		for j := range paths {
			which := (i + j) % 2 // which is first alternates
			event, err := s.event()
			if err != nil {
				return row{}, err
			}
			f, took, err := start(paths[which], b.environment())
			if err != nil {
				return row{}, err
			}
			call, err := b.call(s, f, which == 0 || b.beside != "", event)
			used := f.stop()
			if err != nil {
				return row{}, err
			}
			started[which], first[which] = append(started[which], took), append(first[which], call)
			cpu[which] = append(cpu[which], used)
		}
	}

	var both [2]*function
	var later [2][]time.Duration
	for which, path := range paths {
		var err error
		if both[which], _, err = start(path, b.environment()); err != nil {
			return row{}, err
		}
	}
	for done := 0; done < warmUp+calls; done += block {
		for which, f := range both {
			for range block {
				event, err := s.event()
				if err != nil {
					return row{}, err
				}
				took, err := b.call(s, f, which == 0 || b.beside != "", event)
				if err != nil {
					return row{}, err
				}
				if done >= warmUp {
					later[which] = append(later[which], took)
				}
			}
		}
	}
	used := [2]time.Duration{both[0].stop(), both[1].stop()}

	var size [2]int64
	for which, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return row{}, err
		}
		size[which] = info.Size()
	}
	all := time.Duration(len(later[0]) + warmUp - 1) // without the first, which cpu has
	for which := range used {
		used[which] = (used[which] - median(cpu[which])) / all
	}
	return row{
		Function: s.function, Input: s.input, Start: median(started[0]), First: median(first[0]), Later: median(later[0]),
		CPU: used[0], Size: size[0],
		Ratios: map[string]ratio{
			"start": ratios(started), "first call": ratios(first), "later call": ratios(later),
			"CPU of a call": exactly(float64(used[0]) / float64(used[1])), "size": exactly(float64(size[0]) / float64(size[1])),
		},
	}, nil
}

// call invokes a function, and checks what it did unless it is the empty one.
func (b *bench) call(s subject, f *function, works bool, event []byte) (time.Duration, error) {
	posts := b.services.controlPosts()
	answer, took, err := f.invoke(event)
	if err == nil && works {
		err = b.check(s, answer, posts)
	}
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, &f.log)
	}
	return took, nil
}

func median[T interface{ ~int64 | ~float64 }](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ratios compares pairs. It resamples them to find the interval.
func ratios(pairs [2][]time.Duration) ratio {
	var all []float64
	for i := range pairs[0] {
		all = append(all, float64(pairs[0][i])/float64(pairs[1][i]))
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
