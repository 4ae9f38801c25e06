package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// step is something that a function does beyond its handler, for one job, for the n-th
// time.
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
	lostAnswer         // it took effect, and the caller gets an error; a tool panics
	timeoutKind        // nothing took effect, and no answer arrives until the caller's context ends
	lateAnswer         // it took effect, and no answer arrives until the caller's context ends; a tool ignores that
	repeatedKind       // it took effect, the answer was lost, and the client sent it again
	deathBefore        // the process dies before it takes effect
	deathAfter         // the process dies after it took effect
	slowKind           // it takes effect later, and the answer comes then; a tool takes longer
	beyondKind         // it took effect, and the answer comes later than every margin of a lease, whatever the context
	numberOfKinds int  = iota
)

// slow is how long slowKind takes: longer than most backoffs.
const slow = 7 * time.Second

// beyond is how long beyondKind takes: longer than the margin of a lease, and not so long that the lease
// itself is over.
const beyond = 20 * time.Second

var kindNames = [numberOfKinds]string{
	"none", "error", "lost answer", "timeout", "timeout after the effect", "repeated request",
	"death before", "death after", "slow", "later than every margin",
}

func (k kind) String() string { return kindNames[k] }

// kinds returns the faults that make sense at a step. A read has no effect, so a lost
// answer is an error like any other. The client never repeats a post. What the client
// of the table repeats is in the runs on DynamoDB. The scheduler only fails to send,
// or sends twice.
func (s step) kinds(dynamo bool) []kind {
	switch {
	case s.function == "scheduler":
		return []kind{errorKind, repeatedKind}
	case strings.HasPrefix(s.op, "load"), s.op == "query", s.op == "sweep", s.op == "call status":
		return []kind{errorKind, timeoutKind, deathBefore}
	case s.op == "receive":
		return []kind{errorKind, deathBefore}
	case s.op == "respond":
		return []kind{errorKind, timeoutKind, deathBefore}
	case strings.HasPrefix(s.op, "send"), s.op == "publish", s.op == "schedule",
		dynamo && strings.HasPrefix(s.op, "save"):
		return s.beyond(errorKind, lostAnswer, timeoutKind, lateAnswer, repeatedKind, deathBefore, deathAfter, slowKind)
	default:
		return s.beyond(errorKind, lostAnswer, timeoutKind, lateAnswer, deathBefore, deathAfter, slowKind)
	}
}

// beyond adds the fault of a step under a lease whose answer is later than every margin: a claim, the end of an
// attempt, a post or a mark.
func (s step) beyond(kinds ...kind) []kind {
	ops := map[string][]string{
		"process": {saveOp(job.StateRunning), saveOp(job.StateDone), saveOp(job.StateWaiting)},
		"callback": {
			saveOp(job.StateRunning), saveOp(job.StateDone), saveOp(job.StateDelivered), saveOp(job.StateUndelivered),
			saveOp(job.StateParked), "post", "post progress", "chat",
		},
	}
	if slices.Contains(ops[s.function], s.op) {
		kinds = append(kinds, beyondKind)
	}
	return kinds
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

// outage is a fault of one component, for a while.
type outage struct {
	name        string
	ops         []string // the beginnings of the names of the steps that fail
	function    string   // of the steps; empty means all
	kind        kind
	from, lasts time.Duration
}

func (o outage) hits(s step) bool {
	return (o.function == "" || o.function == s.function) &&
		slices.ContainsFunc(o.ops, func(op string) bool { return strings.HasPrefix(s.op, op) })
}

func (o outage) String() string {
	return fmt.Sprintf("%s (%s) from %s for %s", o.name, o.kind, o.from, o.lasts)
}

// faultsAt returns all faults at these steps.
func faultsAt(steps []step, dynamo bool) []fault {
	var all []fault
	for _, s := range steps {
		for _, k := range s.kinds(dynamo) {
			all = append(all, fault{s, k})
		}
	}
	return all
}
