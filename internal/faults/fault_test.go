package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// step is one thing that a function does with the outside, for one job: the
// n-th time that it does it.
type step struct {
	function, op, job string
	n                 int
}

func (s step) String() string { return fmt.Sprintf("%s: %s %s #%d", s.function, s.op, s.job, s.n) }

// kind is a kind of fault.
type kind int

const (
	none          kind = iota
	errorKind          // nothing took effect, and the caller gets an error
	lostAnswer         // it took effect, and the caller gets an error; of a tool: it panics
	timeoutKind        // nothing took effect, and there is no answer until the caller's context ends
	lateAnswer         // it took effect, and there is no answer until the caller's context ends; of a tool: nor then
	repeatedKind       // it took effect, the answer was lost, and the client repeated it
	deathBefore        // the process dies, and it did not take effect
	deathAfter         // it took effect, and the process dies
	slowKind           // it takes effect after a while, and the answer comes then; of a tool: it takes longer
	numberOfKinds int  = iota
)

// slow is how long what is slow takes: longer than the backoff of most others.
const slow = 7 * time.Second

var kindNames = [numberOfKinds]string{
	"none", "error", "lost answer", "timeout", "timeout after the effect", "repeated request", "death before", "death after", "slow",
}

func (k kind) String() string { return kindNames[k] }

// kinds are the faults that make sense at a step. A read has no effect, so that
// to lose its answer is an error like any other. A post is never repeated by
// its client. What the table's client repeats is in the runs on DynamoDB. The
// scheduler itself only sends again, or twice.
func (s step) kinds(dynamo bool) []kind {
	switch {
	case s.function == "scheduler":
		return []kind{errorKind, repeatedKind}
	case strings.HasPrefix(s.op, "load"), s.op == "query":
		return []kind{errorKind, timeoutKind, deathBefore}
	case s.op == "receive":
		return []kind{errorKind, deathBefore}
	case s.op == "respond":
		return []kind{errorKind, timeoutKind, deathBefore}
	case strings.HasPrefix(s.op, "send"), s.op == "announce", s.op == "schedule", dynamo && strings.HasPrefix(s.op, "save"):
		return []kind{errorKind, lostAnswer, timeoutKind, lateAnswer, repeatedKind, deathBefore, deathAfter, slowKind}
	default:
		return []kind{errorKind, lostAnswer, timeoutKind, lateAnswer, deathBefore, deathAfter, slowKind}
	}
}

type fault struct {
	step
	kind
}

func (f fault) String() string { return f.kind.String() + " at " + f.step.String() }

type faultPlan []fault

func (p faultPlan) plan() map[step]kind {
	m := make(map[step]kind, len(p))
	for _, f := range p {
		m[f.step] = f.kind
	}
	return m
}

func (p faultPlan) String() string {
	texts := make([]string, len(p))
	for i, f := range p {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}

// outage is a fault of everything of one sort, for a while.
type outage struct {
	name        string
	ops         []string // what fails, by how it begins
	function    string   // where; empty means everywhere
	kind        kind
	from, lasts time.Duration

	// unmarked says that a result can stay "done" in its record although it
	// was told: the outage is longer than the mark is tried.
	unmarked bool
}

func (o outage) hits(s step) bool {
	return (o.function == "" || o.function == s.function) && slices.ContainsFunc(o.ops, func(op string) bool { return strings.HasPrefix(s.op, op) })
}

func (o outage) String() string {
	return fmt.Sprintf("%s (%s) from %s for %s", o.name, o.kind, o.from, o.lasts)
}

// faultsAt are all faults at the given steps.
func faultsAt(steps []step, dynamo bool) []fault {
	var all []fault
	for _, s := range steps {
		for _, k := range s.kinds(dynamo) {
			all = append(all, fault{s, k})
		}
	}
	return all
}
