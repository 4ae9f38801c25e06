package faults_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

// times are the constants of the packages that the limits of latency follow from.
type times struct {
	leaseMargin, maxLease, visibilityMargin time.Duration // of process
	deliveryLease                           time.Duration // of callback
	answer                                  time.Duration // lease of an answer
	pause                                   time.Duration // longest one of the scheduler in memory
	openCall                                time.Duration // how long another outbound call may hold one up
}

// theTimes returns the constants, as they are in the sources.
var theTimes = sync.OnceValue(func() times {
	process, callback := constantsOf("../process"), constantsOf("../callback")
	ack, scheduler := constantsOf("../ack"), constantsOf("../local/memqueue")
	return times{
		leaseMargin: process("leaseMargin"), maxLease: process("maxLease"),
		visibilityMargin: process("visibilityMargin"), deliveryLease: callback("deliveryLease"),
		answer: ack("answerLease"), pause: scheduler("maxPause"),
		openCall: constantsOf("../job")("unknownCallTime") + callback("openCallPause") + outboundTime,
	}
})

// constantsOf reads the constants of a package that are durations.
func constantsOf(folder string) func(name string) time.Duration {
	set := token.NewFileSet()
	found, err := build.ImportDir(folder, 0)
	if err != nil {
		panic(err)
	}
	var files []*ast.File
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(set, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			panic(err)
		}
		files = append(files, file)
	}
	// Only package time is needed. Everything else that is missing is an error that changes no constant.
	cfg := types.Config{
		IgnoreFuncBodies: true, Error: func(error) {}, Importer: timeAlone{importer.ForCompiler(set, "source", nil)},
	}
	checked, _ := cfg.Check(folder, set, files, nil)
	return func(name string) time.Duration {
		c, ok := checked.Scope().Lookup(name).(*types.Const)
		if !ok || c.Val().Kind() != constant.Int {
			panic(fmt.Sprintf("%s has no constant %s; adapt the limits of latency", folder, name))
		}
		n, _ := constant.Int64Val(c.Val())
		return time.Duration(n)
	}
}

// timeAlone imports package time.
type timeAlone struct{ types.Importer }

func (t timeAlone) Import(path string) (*types.Package, error) {
	if path != "time" {
		return nil, fmt.Errorf("%s is not needed", path)
	}
	return t.Importer.Import(path)
}

// lateness returns how much later than without faults a job may end because of a fault. timeout is that of
// its tool, and receives is how often its message may have been received. visible means that the process
// function died before it had hidden the message.
func (f fault) lateness(l queue.Limits, timeout time.Duration, receives int, visible bool) time.Duration {
	c := theTimes()
	switch f.function {
	case "ack", "completion":
		// It is posted again. A result that the answer was to hold waits for the lease of the answer.
		return ackTimeout + webhookPause + c.answer + batch.MaxBackoff
	case "operator":
		return operatorTimeout + webhookPause
	case "scheduler":
		return c.pause
	case "process":
		// The message is received after a backoff, or when the lease is over. Then the tool runs again.
		again := batch.MaxBackoff + timeout
		lease := min(timeout+c.leaseMargin, c.maxLease) + c.visibilityMargin*time.Duration(receives)
		if visible {
			lease = max(lease, l.JobsVisibility)
		}
		return again + f.holdsUp(lease, l.JobsVisibility)
	default: // the callback function
		return batch.MaxBackoff + c.deliveryLease + f.holdsUp(l.ResultVisibility, l.ResultVisibility)
	}
}

// holdsUp returns how long a fault of a function delays its message: by nothing but the fault, until the
// message is received although its function has died, or until the queue's own visibility timeout is over.
func (f fault) holdsUp(death, visibility time.Duration) time.Duration {
	switch {
	case f.op == "receive", f.op == "change visibility":
		return visibility
	case f.kind == slowKind:
		return slow
	case f.kind == beyondKind:
		return beyond
	case f.kind == errorKind, f.kind == lostAnswer, f.kind == repeatedKind:
		return 0
	}
	return death
}

// lateness is that of an outage: a fault of each function is left when it is over.
func (o outage) lateness(l queue.Limits, timeout time.Duration) time.Duration {
	late := o.lasts
	for _, function := range []string{"ack", "process", "callback"} {
		var most time.Duration
		for _, op := range o.ops {
			f := fault{step{function: function, op: op}, o.kind}
			most = max(most, f.lateness(l, timeout, l.JobsMaxReceives, true))
		}
		late += most
	}
	return late
}

// endings has how long after the beginning of a run each job ended, by its id.
type endings map[string]time.Duration

func (w *world) endedAfter() endings {
	e := make(endings)
	for id, at := range w.observed.ended {
		e[id] = at.Sub(w.began)
	}
	return e
}

// sharing returns how many other results may wait for an outbound call to the customer of a job. A fault can
// change which of them leads.
func (w *world) sharing(id string, records map[string]job.Record) (n int) {
	number := func(r job.Record) string { return w.webhook(r.CallID).number() }
	for other, r := range records {
		if other != id && r.Policy.AfterCall == policy.AfterCallOutboundCall &&
			records[id].Policy.AfterCall == policy.AfterCallOutboundCall && number(r) == number(records[id]) {
			n++
		}
	}
	return n
}

// judgeLatency checks that no job ended later than the planned faults explain.
func (w *world) judgeLatency(records map[string]job.Record) {
	for _, id := range w.ids() {
		at := w.observed.ended[id]
		without, ended := w.given.endings[id]
		r := records[id]
		if !ended || at.IsZero() || r.NextCallID != "" || r.Policy.AfterCall == policy.AfterCallNextCall {
			continue // it ended in another way, or waits for the customer
		}
		fromOutside := len(w.observed.completed[id]) > 0 || strings.HasPrefix(r.Reason, "cancelled by an operator")
		if w.withdraws(id) || w.endsFromOutside(id) && !fromOutside {
			continue // what would have ended it came too early, or was given up
		}
		if len(w.given.outages) > 0 && r.Policy.AfterCall == policy.AfterCallOutboundCall {
			continue // Vapi is asked until the deadline whether the call has ended
		}
		var timeout time.Duration
		receives := len(w.given.plan) + 1
		if tool, known := w.given.tools.Lookup(r.Tool); known {
			timeout, receives = tool.Timeout, receives+tool.Attempts
		}
		var most time.Duration
		for s, k := range w.given.plan {
			most += fault{s, k}.lateness(w.limits, timeout, receives, w.observed.visible[id])
		}
		for _, o := range w.given.outages {
			most += o.lateness(w.limits, timeout)
		}
		most += time.Duration(w.sharing(id, records)) * theTimes().openCall
		if late := at.Sub(w.began) - without; late > most {
			w.wrong("late", id, "it ended %s later than without faults; at most %s are explained", late, most)
		}
	}
}
