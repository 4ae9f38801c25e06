package simcall

import (
	"maps"
	"slices"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Saved are the simulated calls that another process continues, without their messages.
type Saved struct {
	GPTLive []vapi.Call
	Ended   []string
	Known   map[string]vapiclient.KnownCall
}

// Save returns the calls that have begun, and those that were ended.
func (c *Calls) Save() Saved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Saved{
		GPTLive: slices.Collect(maps.Values(c.live)), Ended: slices.Sorted(maps.Keys(c.ended)), Known: maps.Clone(c.known),
	}
}

// Restore adds and ends calls as they were saved.
func (c *Calls) Restore(saved Saved) {
	for _, call := range saved.GPTLive {
		c.AddGPTLive(call)
	}
	for _, id := range saved.Ended {
		c.End(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = saved.Known
}
