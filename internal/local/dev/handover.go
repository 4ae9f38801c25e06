package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi"
)

// Handover makes a run continue where an earlier one ended, such as after a change of the code.
type Handover struct {
	// File holds the state between two runs. If it exists at the start, the run continues with it, and deletes it. It
	// contains secrets.
	File string

	// Requested is closed to end the run, so that another one continues. Nil means never.
	Requested <-chan struct{}
}

// saved is what one run leaves to the next one.
type saved struct {
	Addr           string // with the port that the run listens on
	Token          string
	CompletionKeys string
	ArgumentKey    []byte // empty if no tool has encrypted arguments
	ReplayKey      []byte // of the arguments that are stored for replays
	Pipeline       pipeline.Saved
	Live           []vapi.Call
	Control        savedControl
	Screen         savedScreen
	Shop           map[string]string // the open requests
	Memory         savedMemory
	Links          []string // of the page, that were not opened
}

// savedScreen is what a screen knows, so that the next one shows tool calls in the same way, and nothing twice.
type savedScreen struct {
	ToolCalls map[string]savedToolCall
	Named     map[string]int
	Failed    map[string]bool
}

type savedToolCall struct {
	CallID, ID, Label string
	Colour            int
	Simulated         bool
}

// savedControl is what a controlClient knows.
type savedControl struct{ Admitted, Simulated map[string]bool }

// closeTimeout bounds the end of the requests that the run answers.
const closeTimeout = 5 * time.Second

// load reads what an earlier run has left. It does nothing if there is none.
func (r *run) load() error {
	text, err := os.ReadFile(r.cfg.Handover.File)
	if r.cfg.Handover.File == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		r.before = new(saved)
		err = json.Unmarshal(text, r.before)
	}
	if err != nil {
		return fmt.Errorf("cannot read the state of the run before: %w", err)
	}
	r.cfg.Addr, r.cfg.Demo = r.before.Addr, nil
	return nil
}

// restore continues with what the run before has left.
func (r *run) restore(ctx context.Context) error {
	if r.before == nil {
		return nil
	}
	if err := r.pipeline.Restore(ctx, r.before.Pipeline); err != nil {
		return fmt.Errorf("cannot continue the run before: %w", err)
	}
	r.live.calls = r.before.Live
	r.calls.restore(r.before.Control)
	r.terminal.restore(r.before.Screen)
	r.seller.Reopen(r.before.Shop)
	r.memory.restore(r.before.Memory)
	return os.Remove(r.cfg.Handover.File)
}

// argumentKey returns the key of encrypted arguments that the run before had, or nil.
func (r *run) argumentKey() (*memkey.Key, error) {
	if r.before == nil || len(r.before.ArgumentKey) == 0 {
		return nil, nil
	}
	return memkey.Parse(r.before.ArgumentKey)
}

// newReplayKey returns the key of the arguments that are stored for replays: that of the run before, or a new one.
func (r *run) newReplayKey() (*memkey.Envelope, error) {
	if r.before == nil {
		return memkey.NewEnvelope(nil)
	}
	return memkey.NewEnvelope(r.before.ReplayKey)
}

// handOver finishes the tools that are running, and leaves everything else to the next run. Meanwhile, webhooks are
// accepted, and their jobs wait.
func (r *run) handOver(ctx context.Context, stop func(), stopped <-chan struct{}) error {
	if running := r.running(); running != "" {
		r.terminal.say("\nThe code has changed. The run restarts when this tool has finished: %s.", running)
	}
	stop()
	select {
	case <-stopped:
	case <-ctx.Done():
		return fmt.Errorf("stopped while a tool was running, and lost, as the local run keeps nothing: %s",
			strings.Join(r.pending(), "; "))
	}
	r.page.Close()
	closing, end := context.WithTimeout(ctx, closeTimeout)
	defer end()
	for _, s := range r.servers {
		if s.Addr == r.gateway.Addr().String() {
			_ = s.Shutdown(closing) // what is open then is closed
		}
	}
	next := saved{
		Addr: r.gateway.Addr().String(), Token: r.token, CompletionKeys: r.keys, Live: r.live.all(), Control: r.calls.save(),
		Screen: r.terminal.save(), Shop: r.seller.Open(), Memory: r.memory.save(), Links: r.session.Links(),
	}
	next.ReplayKey = r.replayKey.Marshal()
	if r.pipeline.ArgumentKey != nil {
		next.ArgumentKey = r.pipeline.ArgumentKey.Marshal()
	}
	var err error
	if next.Pipeline, err = r.pipeline.Save(); err != nil {
		return err
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return os.WriteFile(r.cfg.Handover.File, text, 0o600)
}

// running names the tools that are running.
func (r *run) running() string {
	var names []string
	for _, record := range r.pipeline.Records.Records() {
		if record.State == job.StateRunning && record.Owner != "" {
			names = append(names, r.terminal.toolCallOf(record.ID, record.Tool).label)
		}
	}
	return strings.Join(names, ", ")
}

// save returns what the client knows.
func (c *controlClient) save() savedControl {
	c.mu.Lock()
	defer c.mu.Unlock()
	return savedControl{Admitted: c.admitted, Simulated: c.simulated}
}

// restore continues with what another client knew.
func (c *controlClient) restore(known savedControl) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known.Admitted != nil {
		c.admitted = known.Admitted
	}
	if known.Simulated != nil {
		c.simulated = known.Simulated
	}
}

// save returns what the screen knows.
func (s *screen) save() savedScreen {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := savedScreen{
		ToolCalls: make(map[string]savedToolCall), Named: maps.Clone(s.named), Failed: maps.Clone(s.failed),
	}
	for jobID, t := range s.toolCalls {
		saved.ToolCalls[jobID] = savedToolCall{
			CallID: t.callID, ID: t.id, Label: t.label, Colour: t.colour, Simulated: t.simulated,
		}
	}
	return saved
}

// restore continues with what another screen knew.
func (s *screen) restore(known savedScreen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for jobID, t := range known.ToolCalls {
		colour := t.Colour % len(colours) // a newer version may have fewer
		s.toolCalls[jobID] = &toolCall{
			callID: t.CallID, id: t.ID, label: t.Label, colour: colour, paint: colours[colour], simulated: t.Simulated,
		}
	}
	maps.Copy(s.named, known.Named)
	maps.Copy(s.failed, known.Failed)
}
