package hours_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/callback/hours"
)

// failer is implemented by tests and properties.
type failer interface {
	Helper()
	Fatal(...any)
}

func parse(t failer, text, zone string) hours.Hours {
	t.Helper()
	h, err := hours.Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNext(t *testing.T) {
	const berlin, newYork = "Europe/Berlin", "America/New_York"
	tests := map[string]struct {
		hours, zone, now string
		want             string // empty means now
	}{
		"inside":                       {"09:00-18:00", "", "2026-05-06T12:00:00Z", ""},
		"at the beginning":             {"09:00-18:00", "", "2026-05-06T09:00:00Z", ""},
		"just before":                  {"09:00-18:00", "", "2026-05-06T08:59:59.999999999Z", "2026-05-06T09:00:00Z"},
		"the last moment":              {"09:00-18:00", "", "2026-05-06T17:59:59.999999999Z", ""},
		"the end is outside":           {"09:00-18:00", "", "2026-05-06T18:00:00Z", "2026-05-07T09:00:00Z"},
		"the year's last night":        {"09:00-18:00", "", "2026-12-31T20:00:00Z", "2027-01-01T09:00:00Z"},
		"in a zone":                    {"09:00-18:00", berlin, "2026-07-01T07:00:00Z", ""},
		"in a zone, too early":         {"09:00-18:00", newYork, "2026-07-01T12:59:00Z", "2026-07-01T13:00:00Z"},
		"another day in the zone":      {"09:00-18:00", "Pacific/Auckland", "2026-07-01T20:59:00Z", "2026-07-01T21:00:00Z"},
		"an offset with half an hour":  {"09:00-18:00", "Asia/Kolkata", "2026-07-01T00:00:00Z", "2026-07-01T03:30:00Z"},
		"the whole day":                {"00:00-24:00", berlin, "2026-07-01T22:00:00Z", ""},
		"until midnight":               {"18:00-24:00", "", "2026-07-01T23:59:59Z", ""},
		"until midnight, too late":     {"18:00-24:00", "", "2026-07-02T00:00:00Z", "2026-07-02T18:00:00Z"},
		"until 0 means until midnight": {"18:00-00:00", "", "2026-07-01T23:59:59Z", ""},
		"until 0, too late":            {"18:00-00:00", "", "2026-07-02T00:00:00Z", "2026-07-02T18:00:00Z"},
		"past midnight, evening":       {"22:00-02:00", "", "2026-07-01T23:00:00Z", ""},
		"past midnight, night":         {"22:00-02:00", "", "2026-07-01T01:59:00Z", ""},
		"past midnight, too late":      {"22:00-02:00", "", "2026-07-01T02:00:00Z", "2026-07-01T22:00:00Z"},
		"all but an hour":              {"13:00-12:00", "", "2026-07-01T12:30:00Z", "2026-07-01T13:00:00Z"},
		"the night before summer time": {"09:00-18:00", berlin, "2026-03-28T20:00:00+01:00", "2026-03-29T09:00:00+02:00"},
		"the night before winter time": {"09:00-18:00", berlin, "2026-10-24T20:00:00+02:00", "2026-10-25T09:00:00+01:00"},
		// At 02:00, clocks are set to 03:00.
		"the beginning is skipped":      {"02:30-10:00", berlin, "2026-03-29T01:59:00+01:00", "2026-03-29T03:00:00+02:00"},
		"the beginning is skipped, USA": {"02:30-10:00", newYork, "2026-03-08T01:00:00-05:00", "2026-03-08T03:00:00-04:00"},
		"skipped, and now inside":       {"02:30-10:00", newYork, "2026-03-08T03:00:00-04:00", ""},
		"the hours are skipped":         {"02:15-02:45", berlin, "2026-03-29T01:59:00+01:00", "2026-03-30T02:15:00+02:00"},
		"skipped from the beginning":    {"02:00-02:30", berlin, "2026-03-29T01:30:00+01:00", "2026-03-30T02:00:00+02:00"},
		"the end is skipped":            {"01:00-02:30", newYork, "2026-03-08T03:00:00-04:00", "2026-03-09T01:00:00-04:00"},
		"the beginning is the change":   {"03:00-10:00", berlin, "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"},
		// Clocks are set back: at 03:00 to 02:00 in Berlin, at 02:00 to 01:00 in New York.
		"the first of two":         {"02:30-10:00", berlin, "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		"outside once more":        {"02:30-10:00", berlin, "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"},
		"inside once more":         {"01:15-01:45", newYork, "2026-11-01T01:50:00-04:00", "2026-11-01T01:15:00-05:00"},
		"inside once more, late":   {"01:15-01:45", newYork, "2026-11-01T01:50:00-05:00", "2026-11-02T01:15:00-05:00"},
		"back inside":              {"22:00-02:30", berlin, "2026-10-25T02:45:00+02:00", "2026-10-25T02:00:00+01:00"},
		"a day that did not exist": {"09:00-18:00", "Pacific/Apia", "2011-12-29T20:00:00-10:00", "2011-12-31T09:00:00+14:00"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.now
			}
			now, err := time.Parse(time.RFC3339Nano, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			want, err := time.Parse(time.RFC3339Nano, tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if got := parse(t, tt.hours, tt.zone).Next(now); !got.Equal(want) {
				t.Errorf("%s, want %s", got.Format(time.RFC3339Nano), tt.want)
			}
		})
	}
}

// within compares the local time as a text.
func within(from, to string, at time.Time) bool {
	wall := at.Format("15:04")
	if to < from {
		return from <= wall || wall < to
	}
	return from <= wall && wall < to
}

// checkNext fails if Next returns a time that is before now, outside of the hours or not
// the first.
func checkNext(t failer, from, to, zone string, now time.Time) {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	next := parse(t, from+"-"+to, zone).Next(now)
	result := func() string {
		return fmt.Sprintf("%s-%s %s, from %s on: %s", from, to, zone, now.In(location), next.In(location))
	}
	if next.Before(now) || !within(from, to, next.In(location)) {
		t.Fatal(result())
	}
	// Clocks change at whole minutes, and hours begin at whole minutes.
	for at := now; at.Before(next); at = at.Truncate(time.Minute).Add(time.Minute) {
		if within(from, to, at.In(location)) {
			t.Fatal(result() + ", but not " + at.In(location).String())
		}
	}
}

// changes are times at which clocks change.
var changes = []time.Time{
	time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC),
	time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC),
	// Lord Howe, by half an hour.
	time.Date(2026, 4, 4, 15, 0, 0, 0, time.UTC), time.Date(2026, 10, 3, 15, 30, 0, 0, time.UTC),
}

func TestNextIsTheFirst(t *testing.T) {
	minute := rapid.Custom(func(t *rapid.T) int { return rapid.IntRange(0, 24*60-1).Draw(t, "minute") })
	rapid.Check(t, func(t *rapid.T) {
		from, to := minute.Draw(t, "from"), rapid.OneOf(minute, rapid.Just(24*60)).Draw(t, "to")
		if rapid.Bool().Draw(t, "near") { // hours that a change can skip or repeat
			from = rapid.IntRange(0, 4*60).Draw(t, "from")
			to = from + rapid.IntRange(1, 90).Draw(t, "minutes")
		}
		if from == to {
			t.Skip("no hours")
		}
		clock := func(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }
		zone := rapid.SampledFrom([]string{
			"", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns",
		}).Draw(t, "zone")
		distance := rapid.Int64Range(int64(-30*time.Hour), int64(30*time.Hour)).Draw(t, "distance")
		now := rapid.SampledFrom(changes).Draw(t, "change").Add(time.Duration(distance))
		checkNext(t, clock(from), clock(to), zone, now)
	})
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "9-18", "9:00-18:00", "09:00-18:0", "09:00-18:00 ", " 09:00-18:00", "09.00-18.00", "09:00–18:00", "09:00",
		"-", "09:00-18:00\n", "09:60-18:00", "25:00-26:00", "09:00-24:01", "24:00-08:00", "24:00-24:00", "09:00-09:00",
		"00:00-00:00", "99:99-99:99", "+9:00-18:00", "-9:00-18:00", " 9:00-18:00", "09:+1-18:00", "09:00- 8:00",
		"0x:00-18:00", "٠٩:00-18:00",
	} {
		if _, err := hours.Parse(text, ""); err == nil || !strings.Contains(err.Error(), "like 09:00-18:00") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	for _, zone := range []string{"Europe/Atlantis", "CETX", "../etc/passwd", "/etc/passwd", "europe berlin"} {
		if _, err := hours.Parse("09:00-18:00", zone); err == nil || !strings.Contains(err.Error(), "Europe/Berlin") {
			t.Errorf("%q: error %v", zone, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"09:00-18:00", "00:00-24:00", "22:00-02:00", "+9:00-18:00", "24:00-24:00", "9:0-1:00", "09:00-18:00\x00", "\xff",
	} {
		f.Add(seed, int64(1774746000))
	}
	form := regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`)
	f.Fuzz(func(t *testing.T, text string, seconds int64) {
		h, err := hours.Parse(text, "Europe/Berlin")
		from, to, _ := strings.Cut(text, "-")
		if good := form.MatchString(text) && from != to; good != (err == nil) {
			t.Fatalf("%q: error %v", text, err)
		}
		if err != nil {
			return
		}
		// Any time within a few centuries.
		now := time.Unix(seconds%(1<<33), 0)
		if next := h.Next(now); next.Before(now) || next.Sub(now) > 50*time.Hour {
			t.Fatalf("%q: Next(%s) is %s", text, now, next)
		}
	})
}
