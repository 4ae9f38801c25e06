package wiring

import (
	"slices"
	"strings"

	"github.com/ringback/ringback/asynctool"
)

// gptLivePrompts checks the prompts of a GPT-Live assistant. The speaker's may be the
// system prompt. A custom prompt of the reasoner replaces Vapi's, which knows no tool by
// name (Vapi's documentation, "GPT-Live settings and compatibility": prompt defaults).
func (e *examination) gptLivePrompts(about string, s settings) {
	speaker := s.Model.SystemPrompt + "\n" + s.systemPrompt()
	if s.Model.Speaker.Instructions != nil {
		speaker = *s.Model.Speaker.Instructions
	}
	e.mentions(about, "speaker's prompt", speaker, e.slowTools(),
		"Paste the first part of ringback prompt --gpt-live into model.speaker.instructions.")
	reasoner := s.Model.Reasoner.Instructions
	for _, skill := range s.Model.Reasoner.Skills {
		reasoner += "\n" + skill.Content
	}
	e.mentions(about, "reasoner's prompt", reasoner, e.Tools.Entries(),
		"Paste the second part of ringback prompt --gpt-live into model.reasoner.instructions.")
}

// slowTools returns the tools whose answer to the webhook is a placeholder.
func (e *examination) slowTools() []*asynctool.Entry {
	return slices.DeleteFunc(e.Tools.Entries(), func(entry *asynctool.Entry) bool { return entry.Status })
}

// gptLive names what a GPT-Live assistant cannot do with the tools (Vapi's documentation,
// "GPT-Live settings and compatibility" and "Build with tools").
func (e *examination) gptLive(about string) {
	const name = "GPT-Live"
	var slow []string
	for _, entry := range e.slowTools() {
		slow = append(slow, entry.Name)
		var limits []string
		if entry.Delivery == asynctool.Say {
			limits = append(limits, "the assistant is asked to say its result, and may change the words (Delivery)")
		}
		if entry.Hold != "" {
			limits = append(limits, "its hold message is conveyed in the assistant's own words (Hold)")
		}
		if len(limits) > 0 {
			e.add(name, about+" "+entry.Name, VerdictWarning, "", "%s", strings.Join(limits, ", and "))
		}
	}
	_, status := e.Tools.Lookup(asynctool.TaskStatusName)
	switch {
	case len(slow) == 0:
		return
	case status:
		e.add(name, about, VerdictOK, "",
			"the reasoner takes the answer to a webhook for the final result, and can fetch the real one with task_status")
	default:
		e.add(name, about, VerdictWarning,
			"Add asynctool.TaskStatus() to the list in tools/tools.go, deploy, and run ringback sync.",
			"the reasoner takes the answer to the webhook of %s for the final result, whether the tool is async or not. "+
				"Results reach the speaker only, so without task_status no next tool call can use them",
			strings.Join(slow, ", "))
	}
	e.add(name, about, VerdictUnchecked, "", "a tool decides while it runs whether it returns an action. "+
		"Handoff and Control (muting, SayFirstMessage) do not exist here: the result becomes an undelivered event. "+
		"Transfer works in phone calls only. There are no squads, and Vapi does not speak the messages of tools, "+
		"such as request-start")
}
