package shop_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/tooltest"
)

const (
	payments       = "category,amount\nFood,3.50\nRent,1200\n"
	spokenPayments = " Spending by category: Rent 1200.00; Food 3.50. The grand total is 1203.50."
)

// schedule runs the tool for the first time.
func schedule(t *testing.T, h *tooltest.Host, csv, at string) (asynctool.Result, error) {
	t.Helper()
	return scheduleAgain(t, asynctool.Call{Host: h}, csv, at)
}

func scheduleAgain(t *testing.T, c asynctool.Call, csv, at string) (asynctool.Result, error) {
	t.Helper()
	arguments, err := json.Marshal(map[string]string{"csv": csv, "at": at})
	if err != nil {
		t.Fatal(err)
	}
	return tooltest.CallWith(t, t.Context(), c, shop.ScheduledReport(), string(arguments))
}

// The report is made when it is due.
func TestScheduledReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // starts at midnight of 1 January 2000, UTC
		var h tooltest.Host
		first, err := schedule(t, &h, payments, " 2000-01-03T09:30:00+01:00 ")
		if err != nil || first.Later == nil || first.Later.Outside {
			t.Fatalf("got %+v, %v", first, err)
		}
		if want := time.Date(2000, 1, 3, 8, 30, 0, 0, time.UTC); !first.Later.At.Equal(want) {
			t.Errorf("it resumes at %s, want %s", first.Later.At, want)
		}
		if want := []string{"silent: The report is due on Monday, 3 January 2000 at 09:30."}; !slices.Equal(h.Notes, want) {
			t.Errorf("noted %q, want %q", h.Notes, want)
		}
		memory, err := first.Later.Memory()
		if err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Until(first.Later.At))
		again := asynctool.Call{Resumes: 1, State: memory, Host: &h}
		second, err := scheduleAgain(t, again, payments, "2000-01-03T09:30:00+01:00")
		want{Text: "This is the report that was due on Monday, 3 January 2000 at 09:30." + spokenPayments}.
			Check(t, second, err)
		if len(h.Notes) != 1 {
			t.Errorf("noted %q", h.Notes)
		}
	})
}

// For an invalid time, the model learns what to ask for, and the current time.
func TestScheduledReportAsksForAnotherTime(t *testing.T) {
	for name, row := range map[string]struct{ at, want string }{
		"past":            {"1999-12-31T23:59:59Z", "the time in at has passed"},
		"now":             {"2000-01-01T01:00:00+01:00", "the time in at has passed"},
		"past elsewhere":  {"2000-01-01T00:30:00+01:00", "the time in at has passed"},
		"too far ahead":   {"2000-01-08T00:00:01Z", "more than 7 days ahead"},
		"no offset":       {"2000-01-02T09:00:00", "an offset from UTC"},
		"a date":          {"2000-01-02", "an offset from UTC"},
		"words":           {"tomorrow at nine", "an offset from UTC"},
		"nothing":         {"", "an offset from UTC"},
		"no such day":     {"2000-02-30T09:00:00Z", "an offset from UTC"},
		"a year too long": {"12000-01-02T09:00:00Z", "an offset from UTC"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result, err := schedule(t, new(tooltest.Host), payments, row.at)
				said, ok := errors.AsType[*asynctool.ArgumentError](err)
				if !ok {
					t.Fatalf("got %+v, %v, want an *asynctool.ArgumentError", result, err)
				}
				for _, part := range []string{row.want, "It is 2000-01-01T00:00:00Z now.", "Ask the caller"} {
					if !strings.Contains(said.Message, part) {
						t.Errorf("%q, want it to contain %q", said.Message, part)
					}
				}
				if row.at != "" && strings.Contains(said.Message, row.at) {
					t.Errorf("%q repeats the argument", said.Message)
				}
			})
		})
	}
	t.Run("the last moment", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			result, err := schedule(t, new(tooltest.Host), payments, "2000-01-08T00:00:00Z")
			if err != nil || result.Later == nil {
				t.Errorf("got %+v, %v", result, err)
			}
		})
	})
}

// A mistake in the list is reported at once, and not when the report is due.
func TestScheduledReportReadsTheListAtOnce(t *testing.T) {
	tomorrow := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	for name, row := range map[string]struct{ csv, want string }{
		"empty": {"", "The list is empty." + neededList},
		"too long": {"category,amount\n" + strings.Repeat("a,1\n", 30<<8),
			"The list is too long. It can have at most 30 kilobytes."},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := schedule(t, new(tooltest.Host), row.csv, tomorrow)
			want{Spoken: row.want}.Check(t, result, err)
		})
	}
}

func TestScheduledReportOfAnUnreadableState(t *testing.T) {
	c := asynctool.Call{Resumes: 1, State: json.RawMessage(`{"due":"tomorrow"}`)}
	result, err := scheduleAgain(t, c, payments, "2000-01-03T09:30:00Z")
	want{Log: "cannot read the state of an earlier run"}.Check(t, result, err)
}

// The functions run the tool twice, and the caller hears the report once.
func TestScheduledReportIsDelivered(t *testing.T) {
	due := time.Now().Add(26 * time.Hour).Truncate(time.Second)
	arguments, err := json.Marshal(map[string]string{"csv": payments, "at": due.Format(time.RFC3339)})
	if err != nil {
		t.Fatal(err)
	}
	webhook := asynctooltest.Webhook(t, "scheduled_report", string(arguments))
	got := asynctooltest.Run(t, shop.ScheduledReport(), webhook)
	if got.Later == nil || got.Later.Outside || len(got.Messages) != 0 || len(got.Progress) != 1 ||
		!got.Progress[0].Silent {
		t.Fatal(got)
	}
	if wait := time.Until(due); got.Later.In < wait-time.Minute || got.Later.In > wait+time.Minute {
		t.Errorf("it resumes in %s, want %s", got.Later.In, wait)
	}
	got = asynctooltest.Run(t, shop.ScheduledReport(), webhook, asynctooltest.Resumed(got.Later.State, 1))
	want := "This is the report that was due on " + due.Format("Monday, 2 January 2006 at 15:04") + "." + spokenPayments
	if got.Text != want || got.Status != "ok" || len(got.Messages) != 1 {
		t.Error(got)
	}
}

// The longest list can be stored while the job waits, however it is escaped.
func TestScheduledReportStoresTheLongestList(t *testing.T) {
	list := payments + "<&>,1\n"
	list += strings.Repeat("<", 30<<10-len(list))
	arguments, err := json.Marshal(map[string]string{"csv": list, "at": time.Now().Add(time.Hour).Format(time.RFC3339)})
	if err != nil {
		t.Fatal(err)
	}
	webhook := asynctooltest.Webhook(t, "scheduled_report", string(arguments))
	if got := asynctooltest.Run(t, shop.ScheduledReport(), webhook); got.Later == nil {
		t.Error(got)
	}
}
