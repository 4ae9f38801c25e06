package process_test

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/process"
)

var encryptedOrder = tool{Encrypted: []string{"order"}}

// encrypt encrypts the arguments of a job, as Vapi does.
func (w *world) encrypt(j job.Job) job.Job {
	w.t.Helper()
	public := func() (*rsa.PublicKey, error) { return w.key.Public(), nil }
	var err error
	if j.Arguments, err = encryption.Encrypt(j.Arguments, []string{"order"}, public); err != nil {
		w.t.Fatal(err)
	}
	return j
}

// stored returns all that the function has stored and sent, as JSON.
func (w *world) stored() string {
	w.t.Helper()
	all, err := json.Marshal([]any{w.store.Records(), w.out.sent})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(all)
}

// TestEncryptedArguments: the tool gets plain values in each run and each attempt. Nothing else does.
func TestEncryptedArguments(t *testing.T) {
	var got []string
	definition := encryptedOrder
	definition.Attempts = 2
	inWorld(t, does(definition, func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		got = append(got, in.Order)
		switch {
		case call.Resumes == 0:
			return asynctool.ResumeIn(time.Hour/2, nil), nil
		case call.Attempt == 1:
			return asynctool.Result{}, errors.New("it is closed")
		}
		return asynctool.Text("Done."), nil
	}), func(t *testing.T, w *world) {
		j := w.encrypt(w.job("a", "tool"))
		w.send(j)
		w.run(time.Minute)
		if stored := w.record(j).StoredJob; stored == nil || string(stored.Arguments) != string(j.Arguments) {
			t.Errorf("the suspended job is stored as %+v", stored)
		}
		w.run(time.Hour)
		w.want(done, 0, 0)
		if want := argument + argument + argument; strings.Join(got, "") != want {
			t.Errorf("the tool got %q", got)
		}
		if stored := w.stored(); strings.Contains(stored, argument) {
			t.Errorf("the decrypted value is stored: %s", stored)
		}
		if asked := w.record(j).Asked; asked != "" {
			t.Errorf("the frame would name %s", asked)
		}
	})
}

// TestRefusedArguments: an attacker, or a tool at Vapi that differs from the deployment's, sends something else.
// The tool does not run, and no text has a value.
func TestRefusedArguments(t *testing.T) {
	for name, arguments := range map[string]string{
		"plain":          `{"order":"` + argument + `"}`,
		"a number":       `{"order":17}`,
		"an object":      `{"order":{"` + argument + `":"` + argument + `"}}`,
		"another key":    `{"order":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`,
		"a larger key":   `{"order":"` + base64.StdEncoding.EncodeToString(make([]byte, 512)) + `"}`,
		"extremely long": `{"order":"` + strings.Repeat("A", 500_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			definition := encryptedOrder
			definition.Attempts, definition.FailureText = 3, "I can't pay that."
			inWorld(t, does(definition, notRun(t)), func(t *testing.T, w *world) {
				j := w.job("a", "tool")
				j.Arguments = json.RawMessage(arguments)
				w.send(j)
				w.run(time.Minute)
				w.want(fails("I can't pay that."), 0, 0)
				r := w.record(j)
				if !strings.HasPrefix(r.Reason, "the argument order ") || !strings.Contains(r.Reason, "ringback sync") ||
					r.Attempt != 1 || strings.Contains(w.stored(), argument) {
					t.Errorf("the record is %+v", r)
				}
			})
		})
	}
}

// TestCheckOfDecryptedArguments: the schema applies to the plain value, and the text for the model does not quote it.
func TestCheckOfDecryptedArguments(t *testing.T) {
	definition := encryptedOrder
	definition.Refine = func(s *jsonschema.Schema) { s.Properties["order"].Pattern = "^[0-9]+$" }
	inWorld(t, does(definition, notRun(t)), func(t *testing.T, w *world) {
		j := w.encrypt(w.job("a", "tool"))
		w.send(j)
		w.run(time.Minute)
		if got := w.out.results(); len(got) != 1 || !strings.Contains(got[0].Content, "order (the order's number) must be") {
			t.Errorf("the assistant reads %v", got)
		}
		if stored := w.stored(); strings.Contains(stored, argument) {
			t.Errorf("the decrypted value is stored: %s", stored)
		}
	})
}

// TestKeyOutage: the tool starts when the key is back, and an outage costs none of its attempts.
func TestKeyOutage(t *testing.T) {
	for name, outage := range map[string]func(w *world){
		"it fails":          func(w *world) { w.failingTimes("decrypt", 4) },
		"it does not reply": func(w *world) { w.slow = slowFor("decrypt", 2, time.Hour) },
		"its reply is late": func(w *world) {
			late := forSome("decrypt", 2, 11*time.Second)
			w.stuck = late
		},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			inWorld(t, does(encryptedOrder, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				runs++
				if call.Attempt != 1 {
					t.Errorf("it is attempt %d", call.Attempt)
				}
				return asynctool.Text("Done."), nil
			}), func(t *testing.T, w *world) {
				outage(w)
				w.send(w.encrypt(w.job("a", "tool")))
				w.run(3 * time.Minute)
				w.want(done, 0, 0)
				if runs != 1 {
					t.Errorf("the tool ran %d times", runs)
				}
			})
		})
	}
}

func slowFor(name string, n int, d time.Duration) func(string) (time.Duration, time.Duration) {
	before := forSome(name, n, d)
	return func(s string) (time.Duration, time.Duration) { return before(s), 0 }
}

// TestLongKeyOutage: an outage ends as one of the jobs table does.
func TestLongKeyOutage(t *testing.T) {
	var ends []string
	for _, fault := range []string{"decrypt", "admit"} {
		inWorld(t, does(encryptedOrder, notRun(t)), func(t *testing.T, w *world) {
			w.failing(fault, errDown)
			j := w.encrypt(w.job("a", "tool"))
			w.send(j)
			w.run(2 * time.Hour)
			r := w.record(j)
			ends = append(ends, fmt.Sprint(r.State, r.Attempt, r.Result, w.jobs.Len(), w.dead.Len(), w.out.results()))
		})
	}
	if len(ends) != 2 || ends[0] != ends[1] {
		t.Errorf("the jobs ended with %q", ends)
	}
}

// TestPlainArguments: a run without Vapi takes what its user types.
func TestPlainArguments(t *testing.T) {
	inWorld(t, does(encryptedOrder, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
		return asynctool.Text(in.Order), nil
	}), func(t *testing.T, w *world) {
		w.plain = true
		w.deploy()
		w.send(w.job("a", "tool"))
		w.run(time.Minute)
		w.want(responds(argument), 0, 0)
	})
}

func TestKeyIsMissing(t *testing.T) {
	inWorld(t, does(encryptedOrder, returns(asynctool.Text("Done."), nil)), func(t *testing.T, w *world) {
		a := around{w}
		_, err := process.New(process.Config{
			Tools: w.set, Table: a, Outcomes: outcomes{w}, Jobs: jobs{w, w.jobs}, Schedules: a,
			Admission: a, CallTracker: a, Customers: a,
		})
		if err == nil || !strings.Contains(err.Error(), "ARGUMENT_KEY_ARN") {
			t.Errorf("without a key: %v", err)
		}
		w.log.Info("nothing else is logged here")
	})
}
