package simcall

import (
	"maps"
	"slices"

	"github.com/ringback/ringback/vapi"
)

// Saved are the simulated calls that another process continues, without their messages.
type Saved struct {
	GPTLive []vapi.Call
	Ended   []string
}

// Save returns the calls that were added or ended.
func (c *Calls) Save() Saved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Saved{GPTLive: slices.Collect(maps.Values(c.live)), Ended: slices.Sorted(maps.Keys(c.ended))}
}

// Restore adds and ends calls as they were saved.
func (c *Calls) Restore(saved Saved) {
	for _, call := range saved.GPTLive {
		c.AddGPTLive(call)
	}
	for _, id := range saved.Ended {
		c.End(id)
	}
}
