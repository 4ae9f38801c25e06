package shop

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

type scheduledReportInput struct {
	CSV string `json:"csv"`
	At  string `json:"at"`
}

// scheduledReportState is the tool state while the job is suspended.
type scheduledReportState struct {
	Due time.Time `json:"due"` // with the caller's offset
}

const (
	// maxAhead is how far in the future a report may be due.
	maxAhead = 7 * 24 * time.Hour
	// maxScheduledCSV bounds the text, in bytes. A suspended job is stored with
	// its arguments, for which there is less room than in a message. This
	// length fits even if every character is escaped, which makes the text six
	// times as long.
	maxScheduledCSV = 30 << 10
	// spokenTime formats a time as people say it.
	spokenTime = "Monday, 2 January 2006 at 15:04"
)

// ScheduledReport returns a tool that makes the report of [SpendingReport] at a time
// that the caller chooses.
func ScheduledReport() asynctool.Definition {
	return asynctool.Tool[scheduledReportInput]{
		Name: "scheduled_report",
		Description: "Adds up a list of payments, as spending_report does, but at a later time: at most 7 days from now. " +
			"Needs the list as CSV text, and the time with its offset from UTC. The report follows at that time.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["csv"].Description = csvDescription
			s.Properties["at"].Format = "date-time" // for the model; it is not checked
			s.Properties["at"].Description = "when the report is due: date, time and offset from UTC as in RFC 3339, " +
				"for example 2026-03-04T09:00:00+01:00; ask the caller for the time zone if it is not clear"
		},
		Attempts: 2, // it only computes
		// There must be time to make and deliver a report that is due at the last
		// moment.
		Deadline: maxAhead + time.Hour,
		// When the report is due, the call has usually ended.
		AfterCall: asynctool.CallBack,
		// Nothing has happened before the report is due.
		Cancellable: true,
		Run: func(ctx context.Context, call asynctool.Call, in scheduledReportInput) (asynctool.Result, error) {
			state, err := asynctool.State[scheduledReportState](call)
			if err != nil {
				return asynctool.Result{}, err
			}
			// The first run reads the list, too: the caller can correct it now,
			// but not days later.
			report, err := readSpending(in.CSV, maxScheduledCSV)
			if err != nil {
				return asynctool.Result{}, err
			}
			if call.Resumes > 0 {
				return asynctool.Textf(
					"This is the report that was due on %s. %s", state.Due.Format(spokenTime), report.spoken()), nil
			}
			due, err := parseDue(in.At, time.Now())
			if err != nil {
				return asynctool.Result{}, err
			}
			call.Note(ctx, "The report is due on "+due.Format(spokenTime)+".")
			return asynctool.ResumeAt(due, scheduledReportState{Due: due}), nil
		},
	}
}

// parseDue parses the time at which a report is due. Its error asks the model for
// another time, and states the current time, which models do not know.
func parseDue(text string, now time.Time) (time.Time, error) {
	due, err := time.Parse(time.RFC3339, strings.TrimSpace(text))
	var wrong string
	switch {
	case err != nil:
		wrong = "at is not a date, a time and an offset from UTC as in 2026-03-04T09:00:00+01:00"
	case !due.After(now):
		wrong = "the time in at has passed"
	case due.After(now.Add(maxAhead)):
		wrong = "the time in at is more than 7 days ahead"
	default:
		return due, nil
	}
	return time.Time{}, &asynctool.ArgumentError{Message: fmt.Sprintf(
		"The tool scheduled_report was not run: %s. It is %s now. "+
			"Ask the caller for a time within the next 7 days, then call scheduled_report again.",
		wrong, now.UTC().Format(time.RFC3339))}
}
