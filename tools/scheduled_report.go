package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

type scheduledReportInput struct {
	CSV string `json:"csv" jsonschema:"the spending as CSV text: a header line that names at least the columns category and amount, then a row for each payment"`
	At  string `json:"at" jsonschema:"when the report is due: date, time and offset from UTC as in RFC 3339, for example 2026-03-04T09:00:00+01:00; ask the caller for the time zone where it is not clear"`
}

// scheduledReportState is what the tool remembers while it waits.
type scheduledReportState struct {
	Due time.Time `json:"due"` // with the caller's own offset
}

const (
	// maxAhead is how far in the future a report may be due.
	maxAhead = 7 * 24 * time.Hour
	// maxScheduledCSV bounds the text, in bytes. A job that waits is kept with
	// its arguments, for which there is less room than in a message: even if
	// every character has to be escaped, which makes it six times as long,
	// this much fits.
	maxScheduledCSV = 30 << 10
	// spokenTime is a time as it is said, by the caller's clock.
	spokenTime = "Monday, 2 January 2006 at 15:04"
)

// ScheduledReport is [SpendingReport] at a time that the caller names.
func ScheduledReport() asynctool.Definition {
	return asynctool.Tool[scheduledReportInput]{
		Name: "scheduled_report",
		Description: "Adds up a list of payments, as spending_report does, but at a later time: at most 7 days from now. " +
			"Needs the list as CSV text, and the time with its offset from UTC. The report is told at that time.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["at"].Format = "date-time" // for the model; it is not checked
		},
		Attempts: 2, // it only computes
		// A report that is due at the last moment still has to be made and told.
		Deadline: maxAhead + time.Hour,
		// At the time that the caller has named, the call is mostly over.
		AfterCall: asynctool.CallBack,
		Run: func(ctx context.Context, call asynctool.Call, in scheduledReportInput) (asynctool.Result, error) {
			state, err := asynctool.State[scheduledReportState](call)
			if err != nil {
				return asynctool.Result{}, err
			}
			// On the first run, too: what is wrong with the list can be mended
			// now, and not days later.
			report, err := readSpending(in.CSV, maxScheduledCSV)
			if err != nil {
				return asynctool.Result{}, err
			}
			if call.Resumes > 0 {
				return asynctool.Textf("This is the report that was due on %s. %s", state.Due.Format(spokenTime), report.spoken()), nil
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

// parseDue reads when a report is due. Its error asks the model for another
// time, and says what the time is now, which models do not know.
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
		"The tool scheduled_report was not run: %s. It is %s now. Ask the caller for a time within the next 7 days, then call scheduled_report again.",
		wrong, now.UTC().Format(time.RFC3339))}
}
