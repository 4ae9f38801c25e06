package faults_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
)

// deploying is how long two versions of the functions run in [TestTwoVersions].
const deploying = 15 * time.Minute

// TestTwoVersions runs the scenarios while two versions of the functions run, as during a deployment.
// Half of the functions are older ones, which cannot read the messages of the newer ones. Every fifth
// record is unreadable, too. All others contain members of a newer version, which none may lose.
func TestTwoVersions(t *testing.T) {
	random := chosenSeed()
	for name, scenario := range map[string][]webhook{
		"everything": everything, "long work": longWork, "in a row": inARow, "GPT-Live": gptLive,
	} {
		t.Run(name, func(t *testing.T) {
			var older *olderFunctions
			w := run(t, setting{
				scenario: scenario,
				store: func(t *testing.T, w *world, own *memtable.Store) (jobtable.Stores, func() []job.Record) {
					return store{newerStore{own, w}, w}, own.Records
				},
				function: func(w *world, handler memqueue.Handler) memqueue.Handler {
					if older == nil {
						older = &olderFunctions{world: w, random: rand.New(rand.NewPCG(random, 0))}
					}
					return older.decorate(handler)
				},
			})
			for _, v := range w.violations() {
				t.Errorf("%s (seed %d)", v, random)
			}
			if older.unread == 0 || len(w.DeadJobs.Bodies()) > len(w.records()) {
				t.Errorf("%d messages were not read, and %d are dead", older.unread, len(w.DeadJobs.Bodies()))
			}
		})
	}
}

// olderFunctions are functions of which half are of the older version, at random.
type olderFunctions struct {
	world  *world
	mu     sync.Mutex
	random *rand.Rand
	unread int // messages
}

func (f *olderFunctions) decorate(handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		f.mu.Lock()
		older := time.Since(f.world.began) < deploying && f.random.IntN(2) == 0
		if older {
			f.unread += len(event.Records)
		}
		f.mu.Unlock()
		if older {
			records := make([]events.SQSMessage, len(event.Records))
			for i, m := range event.Records {
				m.Body = strings.Replace(m.Body, `"version":1`, `"version":9`, 1)
				records[i] = m
			}
			event.Records = records
		}
		return handler(ctx, event)
	}
}

// newerMembers are what a newer version adds to each record.
const newerMembers job.Unknown = `"newer":{"list":[1,"<é>"]}`

// newerStore keeps records as a table does that a newer version shares.
type newerStore struct {
	*memtable.Store
	world *world
}

func (s newerStore) Load(ctx context.Context, id string) (job.Record, error) {
	since, sum := time.Since(s.world.began), fnv.New32()
	_, _ = sum.Write([]byte(id))
	if since > time.Second && since < deploying && sum.Sum32()%5 == 0 {
		return job.Record{}, fmt.Errorf("%w: version 9", job.ErrUnreadable)
	}
	return s.Store.Load(ctx, id)
}

func (s newerStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if r.Revision == 0 {
		r.Unknown, r.Policy.Unknown = newerMembers, newerMembers
	} else if r.Policy.Unknown != newerMembers {
		s.world.lose(r.ID, "the policy's")
	}
	return saveNewer(ctx, s.Store, s.world, r, r.Unknown)
}

func (s newerStore) Calls() jobtable.Store[job.CallRecord] {
	return newerRecords[job.CallRecord]{
		s.Store.Calls(), s.world, func(r *job.CallRecord) *job.Unknown { return &r.Unknown },
	}
}

func (s newerStore) Customers() jobtable.Store[job.CustomerRecord] {
	return newerRecords[job.CustomerRecord]{
		s.Store.Customers(), s.world, func(r *job.CustomerRecord) *job.Unknown { return &r.Unknown },
	}
}

// newerRecords are the records of calls or customers in a [newerStore].
type newerRecords[R jobtable.Record[R]] struct {
	jobtable.Store[R]
	world   *world
	unknown func(*R) *job.Unknown
}

func (s newerRecords[R]) Save(ctx context.Context, r R) (R, error) {
	if r.SavedRevision() == 0 {
		*s.unknown(&r) = newerMembers
	}
	return saveNewer(ctx, s.Store, s.world, r, *s.unknown(&r))
}

// saveNewer saves a record as a table does: as JSON.
func saveNewer[R jobtable.Record[R]](
	ctx context.Context, s jobtable.Store[R], w *world, r R, unknown job.Unknown,
) (R, error) {
	if unknown != newerMembers {
		w.lose(r.Key(), "its")
	}
	var read R
	b, err := job.EncodeRecord(r)
	if err == nil {
		err = job.DecodeRecord(b, &read)
	}
	if err != nil {
		return read, err
	}
	return s.Save(ctx, read.WithRevision(r.SavedRevision()))
}

// lose notes that a record has lost what a newer version had added.
func (w *world) lose(id, whose string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong("record", id, "%s newer members were lost", whose)
}
