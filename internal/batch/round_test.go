package batch_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/batch"
)

// TestRound tests members that are ready for their last step at different times.
func TestRound(t *testing.T) {
	const wait = time.Second
	for name, tt := range map[string]struct {
		comes map[string]time.Duration // when it is ready; negative means that it leaves
		group map[string]string
		want  [][]string
		took  time.Duration
	}{
		"together": {
			map[string]time.Duration{"a": 0, "b": wait / 2}, map[string]string{"a": "x", "b": "x"}, [][]string{{"a", "b"}},
			wait / 2,
		},
		"too late": {
			map[string]time.Duration{"a": 0, "b": 5 * wait}, map[string]string{"a": "x", "b": "x"}, [][]string{{"a"}, {"b"}},
			5 * wait,
		},
		"the other leaves": {
			map[string]time.Duration{"a": 0, "b": -1}, map[string]string{"a": "x", "b": "x"}, [][]string{{"a"}}, 0,
		},
		"other groups": {
			map[string]time.Duration{"a": 0, "b": 0, "c": 0, "d": 0}, map[string]string{"a": "x", "b": "y", "c": "x", "d": "y"},
			[][]string{{"a", "c"}, {"b", "d"}}, 0,
		},
		"no group": {
			map[string]time.Duration{"a": 0, "b": 0}, map[string]string{"a": "", "b": ""}, [][]string{{"a"}, {"b"}}, 0,
		},
		"alone": {map[string]time.Duration{"a": 0}, map[string]string{"a": "x"}, [][]string{{"a"}}, 0},
		"ten": {
			map[string]time.Duration{"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6},
			map[string]string{"a": "x", "b": "x", "c": "x", "d": "x", "e": "x", "f": "x", "g": "x"},
			[][]string{{"a", "b", "c", "d", "e", "f", "g"}}, 6,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				rounds := batch.Rounds[string, int](tt.group)
				var mu sync.Mutex
				var did [][]string
				var running sync.WaitGroup
				for member, comes := range tt.comes {
					running.Go(func() {
						defer rounds[member].Leave(member)
						if comes < 0 {
							return
						}
						time.Sleep(comes)
						got := rounds[member].Together(member, member, wait, func(all []string) int {
							mu.Lock()
							defer mu.Unlock()
							all = slices.Sorted(slices.Values(all))
							did = append(did, all)
							return len(all)
						}, -1)
						if got < 1 {
							t.Errorf("%s got %d", member, got)
						}
					})
				}
				running.Wait()
				slices.SortFunc(did, slices.Compare)
				if diff := cmp.Diff(tt.want, did); diff != "" || time.Since(started) != tt.took {
					t.Errorf("after %s:\n%s", time.Since(started), diff)
				}
			})
		})
	}
}

// TestRoundPanics tests that no member is left waiting.
func TestRoundPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rounds := batch.Rounds[int, string](map[string]string{"a": "x", "b": "x"})
		results := make(chan string, 2)
		for i, member := range []string{"a", "b"} {
			go func() {
				defer func() {
					if p := recover(); p != nil {
						results <- "panicked"
					}
				}()
				results <- rounds[member].Together(member, i, time.Second, func([]int) string { panic("oh") }, "otherwise")
			}()
		}
		got := []string{<-results, <-results}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"otherwise", "panicked"}, got); diff != "" {
			t.Error(diff)
		}
	})
}
