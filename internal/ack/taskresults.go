package ack

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

const (
	// maxResults is how many results task_status returns: the newest.
	maxResults = 5
	// maxResult bounds each of them, in characters.
	maxResult = 1500
)

// fates says what happened to a result.
var fates = map[job.State]string{
	job.StateDone:        "not delivered yet, and will also be announced",
	job.StateDelivered:   "delivered",
	job.StateUndelivered: "could not be delivered",
}

// resultsText returns the results of a call's finished jobs, newest first, in one line. In a GPT-Live call,
// delivered results reach the speaker only, and the reasoner must be able to use them in its next tool
// call (Vapi's documentation: "GPT-Live settings and compatibility"). In a classic call the model has
// them, and so has it in a chat.
func (h *Handler) resultsText(ctx context.Context, call job.Call, jobs []job.Summary) string {
	if call.Architecture == vapi.ArchitectureClassic || call.Chat() {
		return ""
	}
	finished := slices.DeleteFunc(otherJobs(jobs), func(s job.Summary) bool { return fates[s.State] == "" })
	slices.SortStableFunc(finished, func(a, b job.Summary) int { return b.Updated.Compare(a.Updated) })
	finished = finished[:min(len(finished), maxResults)]

	texts, failed := make([]string, len(finished)), make([]bool, len(finished))
	var loading sync.WaitGroup
	for i, s := range finished {
		loading.Go(func() {
			r, err := h.cfg.Jobs.Load(ctx, s.ID)
			switch {
			case err != nil:
				failed[i] = true
				h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot load a result for task_status",
					job.LogJob(s.ID), slog.Any("error", err))
			case r.Result != nil && spoken.Clean(r.Result.Content) != "": // an action may have no text
				texts[i] = spoken.Answer(r.Asked, r.Result.Content, maxResult)
			}
		})
	}
	loading.Wait()
	word := h.cfg.Marker.Word(texts...)
	var parts []string
	for i, text := range texts {
		part := spoken.Name(finished[i].Tool) + " (" + fates[finished[i].State] + "): "
		switch {
		case failed[i]:
			parts = append(parts, part+"I can't read it right now, so ask again in a moment.")
		case text != "":
			parts = append(parts, part+word.Quote(text))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Results, newest first. " + word.Sentence() + " " + strings.Join(parts, " ")
}
