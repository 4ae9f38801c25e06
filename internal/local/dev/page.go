package dev

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/page"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// LinkPath is the path at which a program with the token of the run gets another link to the page.
const LinkPath = "/link"

// servePage adds the page to the gateway.
func (r *run) servePage(
	front *http.ServeMux, jobs *operator.Jobs, replays *operator.Replays, dead *operator.Dead,
) (err error) {
	r.session = page.NewSession(r.address(), r.token, "For another link, use ringback ui "+r.flags()+".")
	if r.before != nil {
		r.session.Admit(r.before.Links...)
	}
	command := strings.Join(append([]string{cmp.Or(r.cfg.Try, "ringback call")}, r.callFlags()...), " ")
	r.page, err = page.New(page.Config{
		Jobs: jobs, Tools: r.tools, Place: "local run", Flags: r.flags(), Write: true, Log: r.log,
		Replay:  func(ctx context.Context, id string) (job.Job, error) { return r.replay(ctx, replays, id) },
		Redrive: dead.RedriveJob,
		Local: &page.Local{
			Start: r.startCall, Live: r.isLive, HangUp: r.hangUpCall, Changes: r.pipeline.Records.Changes,
			Undelivered: r.memory.events, ToolCall: r.memory.toolCall, Heard: r.memory.heardIn,
			Missing: r.missing, Command: command,
		},
	})
	if err != nil {
		return err
	}
	for _, path := range page.Paths {
		front.Handle(path, r.session.Handler(r.page))
	}
	front.HandleFunc("POST "+LinkPath, func(w http.ResponseWriter, request *http.Request) {
		if r.own.Verify(vapiauth.Request{Header: request.Header}, time.Now()) != nil {
			http.Error(w, "the token of the run is missing or wrong", http.StatusUnauthorized)
			return
		}
		io.WriteString(w, r.session.Link())
	})
	return nil
}

// simulatedNumber is that of the customers in the calls of the page. It is reserved for fiction.
const simulatedNumber = "+15550100123"

// startCall calls a tool in a new simulated call.
func (r *run) startCall(ctx context.Context, tool string, arguments map[string]any) (callID string, err error) {
	entry, ok := r.tools.Lookup(tool)
	if !ok {
		return "", errors.New("there is no such tool")
	}
	callID = "page-" + rand.Text()[:8]
	body, err := simcall.Webhook(simcall.Request{
		CallID: callID, ToolCallID: "call_" + rand.Text()[:8],
		ControlURL: "https://" + simcall.Host + "/" + callID + "/control",
		Number:     simulatedNumber, Tool: tool, Arguments: arguments, Static: entry.Static,
		Body: map[string]any{"type": "function", "async": !entry.SyncAck, "function": map[string]any{"name": tool}},
	}, time.Now())
	if err != nil {
		return "", err
	}
	body, err = simcall.Encrypt(body, r.encrypted, func() (*rsa.PublicKey, error) {
		return r.pipeline.ArgumentKey.Public(), nil
	})
	if err != nil {
		return "", err
	}
	answer, err := r.post(ctx, body)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var decoded struct{ Results []result }
	switch err := json.NewDecoder(answer.Body).Decode(&decoded); {
	case answer.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the webhook was answered with %s", answer.Status)
	case err == nil && len(decoded.Results) == 1 && decoded.Results[0].Error != "":
		return "", errors.New(decoded.Results[0].Error)
	}
	return callID, nil
}

// replay calls the tool of a job again, in a new simulated call.
func (r *run) replay(ctx context.Context, replays *operator.Replays, id string) (job.Job, error) {
	original, err := replays.Original(ctx, id)
	if err != nil {
		return job.Job{}, err
	}
	again := original.Replay(time.Now(), nil).WithoutCall()
	again.Call.ControlURL = "https://" + simcall.Host + "/" + again.Call.ID + "/control"
	call := vapi.Call{
		ID: again.Call.ID, Type: "inboundPhoneCall", ControlURL: again.Call.ControlURL,
		CustomerNumber: again.Call.CustomerNumber,
	}
	r.pipeline.Calls.Begin(call)
	r.calls.onThisMachine(call)
	r.memory.called(again.ID, page.ToolCall{Arguments: again.Arguments, Number: again.Call.CustomerNumber})
	long := slices.Contains(r.tools.LongerThan(queue.LongTool), again.Tool)
	return again, replays.Start(ctx, again, long)
}

// liveCall returns a simulated call that has not ended, by its name in logs.
func (r *run) liveCall(name string) (vapi.Call, bool) {
	calls := r.live.all()
	at := slices.IndexFunc(calls, func(c vapi.Call) bool {
		return job.CallHash(c.ID) == name && r.calls.simulates(c.ControlURL)
	})
	if at < 0 {
		return vapi.Call{}, false
	}
	return calls[at], true
}

func (r *run) isLive(name string) bool {
	_, live := r.liveCall(name)
	return live
}

// hangUpCall ends a simulated call, by its name in logs.
func (r *run) hangUpCall(ctx context.Context, name string) error {
	call, live := r.liveCall(name)
	if !live {
		return errors.New("the call is not simulated, or has ended")
	}
	return r.endCall(ctx, call)
}

// The bounds of what a run remembers for the page.
const (
	maxToolCalls = 2000
	maxHeard     = 200 // messages of a call
	maxEvents    = 1000
)

// memory is what the page shows, and no record contains. The zero value is ready to use.
type memory struct {
	mu    sync.Mutex
	saved savedMemory
}

// savedMemory is a memory that another process continues.
type savedMemory struct {
	ToolCalls map[string]page.ToolCall // by the id of the job
	Order     []string                 // the ids of the jobs, oldest first
	Heard     map[string][]page.Heard  // by the call's name in logs
	Events    []job.Undelivered
}

// called adds the tool call of a job.
func (m *memory) called(jobID string, t page.ToolCall) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.saved
	if s.ToolCalls == nil {
		s.ToolCalls = make(map[string]page.ToolCall)
	}
	if _, known := s.ToolCalls[jobID]; !known {
		s.Order = append(s.Order, jobID)
	}
	s.ToolCalls[jobID] = t
	if len(s.Order) > maxToolCalls {
		delete(s.ToolCalls, s.Order[0])
		s.Order = s.Order[1:]
	}
}

func (m *memory) toolCall(jobID string) (page.ToolCall, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.saved.ToolCalls[jobID]
	return t, ok
}

// heard adds a message that reached a simulated call.
func (m *memory) heard(callID string, message vapi.ControlMessage) {
	what, text := describe(message)
	what = strings.TrimSuffix(strings.TrimPrefix(what, delivered), ":")
	name := job.CallHash(callID)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.saved
	if s.Heard == nil || len(s.Heard) >= maxEvents && s.Heard[name] == nil {
		s.Heard = make(map[string][]page.Heard)
	}
	if len(s.Heard[name]) < maxHeard {
		s.Heard[name] = append(s.Heard[name], page.Heard{At: time.Now(), What: what, Text: text})
	}
}

func (m *memory) heardIn(call string) []page.Heard {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.saved.Heard[call])
}

// undelivered adds an event.
func (m *memory) undelivered(u job.Undelivered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := append(m.saved.Events, u)
	m.saved.Events = events[max(0, len(events)-maxEvents):]
}

func (m *memory) events() []job.Undelivered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.saved.Events)
}

func (m *memory) save() savedMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.saved
	s.ToolCalls, s.Order = maps.Clone(s.ToolCalls), slices.Clone(s.Order)
	s.Heard, s.Events = maps.Clone(s.Heard), slices.Clone(s.Events)
	return s
}

func (m *memory) restore(saved savedMemory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = saved
}
