package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ringback/ringback/internal/job"
)

var (
	full = flag.Bool("faults.full", false, "try everything instead of a selection: all pairs, more random runs")
	seed = flag.Uint64("faults.seed", 0, "seed of the random choices; 0 means 1, or a new one with -faults.full")
)

// TestMain makes the garbage collector run less often. The runs allocate much and keep little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}

// chosenSeed returns the seed of a run. Without -faults.full, it is the same in every run, so that a change
// and not chance decides whether the tests pass.
func chosenSeed() uint64 {
	switch {
	case *seed == 0 && *full:
		*seed = rand.Uint64()
	case *seed == 0:
		*seed = 1
	}
	return *seed
}

// TestWithoutFaults checks that the scenarios end as they should.
func TestWithoutFaults(t *testing.T) {
	for name, s := range map[string]setting{
		"memory":      {scenario: everything, store: inMemory},
		"DynamoDB":    {scenario: everything, store: inDynamoDB},
		"unreachable": {scenario: unreachable, store: inMemory},

		"long work":              {scenario: longWork, store: inMemory},
		"long work, on DynamoDB": {scenario: longWork, store: inDynamoDB},
		"in a row":               {scenario: inARow, store: inMemory},

		"GPT-Live":              {scenario: gptLive, store: inMemory},
		"GPT-Live, on DynamoDB": {scenario: gptLive, store: inDynamoDB},

		"quick answers":              {scenario: quickAnswers, store: inMemory},
		"quick answers, on DynamoDB": {scenario: quickAnswers, store: inDynamoDB},
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t, s)
			for _, v := range append(w.violations(), w.unexpected()...) {
				t.Error(v)
			}
		})
	}
}

// TestFaults breaks everything that can break: one at a time, in pairs, at random and
// for a while. It fails if a promise is broken.
func TestFaults(t *testing.T) {
	t.Parallel() // beside TestProcessDeath, which mostly waits
	random := rand.New(rand.NewPCG(chosenSeed(), 0))
	started := time.Now()
	r := &report{t: t, points: make(map[step]bool)}

	// Singly, with everything at the same time, so that a fault of one job meets the
	// other jobs of its batch. The short run tries a few of them, and all of them with
	// each part on its own.
	singles := make([][]fault, len(scenarios))
	for i, sc := range scenarios {
		s := setting{scenario: sc.webhooks, store: inMemory}
		singles[i] = faultsAt(run(t, s).trace, false)
		parts := [][]webhook{sc.webhooks}
		if !*full {
			r.try("singly"+sc.name, pick(random, plans(slices.Clone(singles[i])), 300), s)
			parts = groups(sc.webhooks)
		}
		for _, part := range parts {
			s.scenario, s.store = part, inMemory
			r.try("singly"+sc.name, plans(faultsAt(run(t, s).trace, false)), s)
			s.store = inDynamoDB
			dynamo := faultsAt(run(t, s).trace, true)
			if !*full {
				// What memory cannot show: writes whose answers are lost.
				dynamo = slices.DeleteFunc(dynamo, func(f fault) bool {
					return !strings.HasPrefix(f.op, "save") || f.kind != lostAnswer && f.kind != lateAnswer && f.kind != repeatedKind
				})
			}
			r.try("singly"+sc.name+", on DynamoDB", plans(dynamo), s)
		}
	}

	// In pairs, with each part on its own.
	for _, sc := range scenarios[:3] {
		for _, part := range groups(sc.webhooks) {
			s := setting{scenario: part, store: inMemory}
			pairs := pairsOf(t, random, s)
			r.try("in pairs"+sc.name, pairs, s)
		}
	}
	// And across jobs. There are too many of these to try them all.
	for i, sc := range scenarios[:3] {
		var across, many []faultPlan
		for range choose(150, 4000) {
			across = append(across, choice(random, singles[i], 2))
		}
		for range choose(150, 4000) {
			many = append(many, choice(random, singles[i], 3+random.IntN(4)))
		}
		s := setting{scenario: sc.webhooks, store: inMemory}
		r.try("in pairs across jobs, at random"+sc.name, across, s)
		s.poison = shortPoison
		r.try("three to six, at random"+sc.name, many, s)
	}
	r.tryOutages()

	r.print(started)
}

// scenarios are the scenarios in which the faults are tried.
var scenarios = []struct {
	name     string
	webhooks []webhook
}{
	{"", everything}, {", long work", longWork}, {", quick answers", quickAnswers}, {", in a row", inARow},
	{", GPT-Live", gptLive},
}

// shortPoison is poison without the large messages, which take long to read.
var shortPoison = poison[:6]

func choose(short, all int) int {
	if *full {
		return all
	}
	return short
}

func plans(faults []fault) []faultPlan {
	all := make([]faultPlan, len(faults))
	for i, f := range faults {
		all[i] = faultPlan{f}
	}
	return all
}

func pick(random *rand.Rand, all []faultPlan, n int) []faultPlan {
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

func choice(random *rand.Rand, faults []fault, n int) faultPlan {
	var p faultPlan
	for range n {
		p = append(p, faults[random.IntN(len(faults))])
	}
	return p
}

// mostPairs is how many pairs of a part the full run tries at most. If a part has more,
// they are chosen at random.
const mostPairs = 5000

// pairsOf returns pairs of faults of a scenario: a fault, and another one at any step
// that a run with the first one reaches after it.
func pairsOf(t *testing.T, random *rand.Rand, s setting) []faultPlan {
	firsts := plans(faultsAt(distinct(run(t, s).trace), false))
	most := choose(100, mostPairs)
	if !*full {
		// These give enough pairs. To find the second faults, each first one is run.
		firsts = pick(random, firsts, 15)
	}
	var pairs []faultPlan
	for _, first := range firsts {
		s.plan = first.plan()
		trace := run(t, s).trace
		for _, second := range faultsAt(distinct(trace[slices.Index(trace, first[0].step)+1:]), false) {
			pairs = append(pairs, faultPlan{first[0], second})
		}
	}
	return pick(random, pairs, most)
}

// distinct drops the end of the path to the dead-letter queue, because the same steps
// repeat.
func distinct(trace []step) []step {
	return slices.DeleteFunc(slices.Clone(trace), func(s step) bool { return s.n > 6 })
}

// report counts the runs.
type report struct {
	t *testing.T

	mu     sync.Mutex
	rows   []*row
	points map[step]bool
	broken int // runs
}

type row struct {
	name                      string
	kind                      kind // none means any
	points                    map[step]bool
	runs, missed, again       int
	lost, twice, record, more int
}

// enough is the number of broken runs after which no more are tried.
const enough = 25

func (r *report) hasEnough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken >= enough
}

func (r *report) row(name string, kind kind) *row {
	for _, row := range r.rows {
		if row.name == name && row.kind == kind {
			return row
		}
	}
	r.rows = append(r.rows, &row{name: name, kind: kind, points: make(map[step]bool)})
	return r.rows[len(r.rows)-1]
}

// try runs the plans and counts their violations.
func (r *report) try(name string, plans []faultPlan, s setting) {
	s.endings = run(r.t, s).endedAfter()
	next := make(chan faultPlan)
	go func() {
		defer close(next)
		for _, p := range plans {
			if r.hasEnough() {
				return
			}
			next <- p
		}
	}()
	r.t.Run(name, func(t *testing.T) {
		for i := range workers {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for p := range next {
					s := s
					s.plan = p.plan()
					w := run(t, s)
					kind := p[0].kind
					if strings.Contains(name, "random") {
						kind = none
					}
					r.count(t, name, kind, p.String(), w, p)
				}
			})
		}
	})
}

const workers = 2

func (r *report) count(t *testing.T, name string, kind kind, what string, w *world, p faultPlan) {
	violations := w.violations()
	r.mu.Lock()
	defer r.mu.Unlock()
	row := r.row(name, kind)
	row.runs++
	for _, f := range p {
		r.points[f.step] = true
		row.points[f.step] = true
	}
	if len(w.hit) < len(p.plan()) {
		row.missed++
	}
	for _, id := range w.ids() {
		if o := w.observed; len(o.delivered[id])+len(o.published[id])+len(o.called[id])+min(1, len(o.answered[id])) > 1 {
			row.again++
			break
		}
	}
	broken := make(map[string]bool)
	for _, v := range violations {
		broken[v.what] = true
	}
	for what := range broken {
		switch what {
		case "lost":
			row.lost++
		case "twice":
			row.twice++
		case "record":
			row.record++
		default:
			row.more++
		}
	}
	if len(violations) == 0 {
		return
	}
	t.Fail()
	if r.broken++; r.broken <= 10 {
		t.Errorf("%s: %s", name, what)
		for _, v := range violations {
			t.Logf("    %.600s", v)
		}
	}
}

// tryOutages breaks one component for a while, from different moments on. docs/faults.md
// says how long the promises hold.
func (r *report) tryOutages() {
	type try struct {
		scenario []webhook
		outage   outage
		copies   bool
	}
	var all []try
	moments := []time.Duration{58, 88, 118, 298, 595, 1290, 1795} // seconds
	parts := []time.Duration{10, 3, 1}                            // an outage lasts this part of its bound
	if !*full {
		moments, parts = []time.Duration{58, 595, 1795}, []time.Duration{5, 1}
	}
	for _, o := range []struct {
		outage
		bound time.Duration
	}{
		{outage{name: "table", ops: []string{"load", "save", "query", "sweep"}}, 5 * time.Minute},
		{outage{name: "marks", ops: []string{
			saveOp(job.StateDelivered), saveOp(job.StateUndelivered), saveOp(job.StateParked),
		}}, 5 * time.Minute},
		{outage{name: "jobs queue", ops: []string{"send job"}}, 15 * time.Second},
		{outage{name: "results queue", ops: []string{"send outcome"}}, 5 * time.Minute},
		{outage{name: "visibility", ops: []string{"change visibility"}}, 20 * time.Minute},
		{outage{name: "control URLs", ops: []string{"post"}}, 5 * time.Minute},
		{outage{name: "event bus", ops: []string{"publish"}}, 10 * time.Minute},
		{outage{name: "every function dies", ops: []string{"respond"}}, 10 * time.Minute},
		{outage{name: "scheduler", ops: []string{"schedule", "cancel schedule"}}, 5 * time.Minute},
		{outage{name: "wake-ups", ops: []string{"send wake-up"}}, 5 * time.Minute},
		{outage{name: "completion", function: "completion", ops: []string{""}}, 10 * time.Minute},
		{outage{name: "Vapi's API", ops: []string{"call status", "outbound call", "chat"}}, 5 * time.Minute},
	} {
		for _, k := range []kind{errorKind, timeoutKind, deathBefore} {
			o.kind = k
			for _, part := range parts {
				o.lasts = o.bound / part
				for o.from = 0; o.from < 12*time.Second; o.from += time.Duration(choose(3000, 300)) * time.Millisecond {
					all = append(all, try{everything, o.outage, false}, try{longWork, o.outage, false})
				}
				// And just before suspended jobs are resumed.
				for _, moment := range moments {
					o.from = moment * time.Second
					all = append(all, try{longWork, o.outage, false})
				}
			}
		}
	}
	// The table, or its marks alone, between two steps of a batch, while there is a copy of each outcome.
	for _, o := range []outage{
		{name: "table, and copies", ops: []string{"load", "save"}, function: "callback"},
		{name: "marks, and copies", ops: []string{saveOp(job.StateDelivered), saveOp(job.StateUndelivered)}},
	} {
		for _, o.kind = range []kind{errorKind, timeoutKind} {
			for _, o.lasts = range []time.Duration{time.Second, 20 * time.Second, time.Minute, 5 * time.Minute} {
				for o.from = time.Second; o.from < 5*time.Second; o.from += time.Duration(choose(1000, 100)) * time.Millisecond {
					all = append(all, try{everything, o, true})
				}
			}
		}
	}
	without := map[string]endings{
		everything[0].call: run(r.t, setting{scenario: everything, store: inMemory}).endedAfter(),
		longWork[0].call:   run(r.t, setting{scenario: longWork, store: inMemory}).endedAfter(),
	}
	next := make(chan try)
	go func() {
		defer close(next)
		for _, try := range all {
			if r.hasEnough() {
				return
			}
			next <- try
		}
	}()
	r.t.Run("outages", func(t *testing.T) {
		for i := range workers {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for try := range next {
					w := run(t, setting{
						scenario: try.scenario, outages: []outage{try.outage}, copies: try.copies, store: inMemory,
						endings: without[try.scenario[0].call],
					})
					r.count(t, "outage: "+try.outage.name, try.outage.kind, try.outage.String(), w, nil)
				}
			})
		}
	})
}

// print prints the table.
func (r *report) print(started time.Time) {
	slices.SortStableFunc(r.rows, func(a, b *row) int {
		if a.name != b.name {
			return 0
		}
		return int(a.kind) - int(b.kind)
	})
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "faults\tkind\tpoints\truns\tlost\ttwice\trecord wrong\tother\trepeated by the exception")
	sum := row{points: r.points}
	line := func(name, kind string, w *row) {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
			name, kind, len(w.points), w.runs, w.lost, w.twice, w.record, w.more, w.again)
	}
	for _, w := range r.rows {
		kind := w.kind.String()
		if w.kind == none {
			kind = "any"
		}
		line(w.name, kind, w)
		sum.runs += w.runs
		sum.missed += w.missed
		sum.again += w.again
		sum.lost += w.lost
		sum.twice += w.twice
		sum.record += w.record
		sum.more += w.more
	}
	line("all", "", &sum)
	table.Flush()
	if r.broken >= enough {
		fmt.Printf("stopped after %d broken runs\n", r.broken)
	}
	fmt.Printf("seed %d, %s; in %d runs with several faults, one fault prevented another\n",
		*seed, time.Since(started).Round(time.Second/10), sum.missed)
}
