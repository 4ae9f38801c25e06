// Package hours says within which hours of the day customers may be called.
package hours

import (
	"fmt"
	"regexp"
	"time"
)

// Hours are hours of each day in a time zone.
type Hours struct {
	from, to time.Duration // since midnight
	zone     *time.Location
}

// Parse reads hours like "09:00-18:00", in an IANA time zone such as
// "Europe/Berlin". An empty zone means UTC. Hours that end before they begin go
// past midnight; "00:00-24:00" is the whole day.
func Parse(text, zone string) (Hours, error) {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" { // which is nobody's who reads the setting
		return Hours{}, fmt.Errorf("there is no time zone %q; name one like Europe/Berlin", zone)
	}
	// Digits alone: Sscanf would take signs and spaces for numbers, too.
	var h [4]int
	if shape.MatchString(text) {
		_, err = fmt.Sscanf(text, "%2d:%2d-%2d:%2d", &h[0], &h[1], &h[2], &h[3])
	}
	from, to := clock(h[0], h[1]), clock(h[2], h[3])
	if err != nil || from < 0 || to < 0 || from == to || from == day {
		return Hours{}, fmt.Errorf("the hours are %q; they must be like 09:00-18:00", text)
	}
	return Hours{from: from, to: to, zone: location}, nil
}

var shape = regexp.MustCompile(`^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$`)

const day = 24 * time.Hour

// clock is a time of day; negative where there is no such one.
func clock(hour, minute int) time.Duration {
	d := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute
	if minute > 59 || d > day {
		return -1
	}
	return d
}

// Next is the first moment within the hours from now on: now itself, if it is.
func (h Hours) Next(now time.Time) time.Time {
	for at := now; ; {
		local := at.In(h.zone)
		wall := time.Duration(local.Hour())*time.Hour + time.Duration(local.Minute())*time.Minute +
			time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
		if h.within(wall) {
			return at
		}
		next := at.Add((h.from - wall + day) % day)
		_, change := local.ZoneBounds()
		if change.IsZero() || next.Before(change) {
			return next
		}
		// The clock on the wall is changed before, perhaps into the hours, or
		// past their beginning.
		at = change
	}
}

func (h Hours) within(wall time.Duration) bool {
	if h.to < h.from {
		return h.from <= wall || wall < h.to
	}
	return h.from <= wall && wall < h.to
}
