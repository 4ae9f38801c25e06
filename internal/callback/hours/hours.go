// Package hours defines the hours of the day in which customers may be called.
package hours

import (
	"fmt"
	"strings"
	"time"
)

// Hours are a period of each day in a time zone.
type Hours struct {
	from, to time.Duration // since midnight
	zone     *time.Location
}

// Parse parses hours such as "09:00-18:00", in an IANA time zone such as
// "Europe/Berlin". An empty zone means UTC. If the end is before the beginning, the
// hours span midnight. "00:00-24:00" is the whole day.
func Parse(text, zone string) (Hours, error) {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" { // the server's zone is not the customers'
		return Hours{}, fmt.Errorf("there is no time zone %q; use one like Europe/Berlin", zone)
	}
	// Check for digits first, because Sscanf also accepts signs and spaces.
	var h [4]int
	if strings.Map(zero, text) == "00:00-00:00" {
		_, err = fmt.Sscanf(text, "%2d:%2d-%2d:%2d", &h[0], &h[1], &h[2], &h[3])
	}
	from, to := clock(h[0], h[1]), clock(h[2], h[3])
	if err != nil || from < 0 || to < 0 || from == to || from == day {
		return Hours{}, fmt.Errorf("the hours are %q; they must be like 09:00-18:00", text)
	}
	return Hours{from: from, to: to, zone: location}, nil
}

// zero returns 0 for a digit.
func zero(r rune) rune {
	if '0' <= r && r <= '9' {
		return '0'
	}
	return r
}

const day = 24 * time.Hour

// clock returns a time of day, or a negative duration if there is no such time.
func clock(hour, minute int) time.Duration {
	d := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute
	if minute > 59 || d > day {
		return -1
	}
	return d
}

// Next returns the first time within the hours that is not before now.
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
		// The zone's offset changes earlier. The change may lead into the hours, or
		// skip their beginning.
		at = change
	}
}

func (h Hours) within(wall time.Duration) bool {
	if h.to < h.from {
		return h.from <= wall || wall < h.to
	}
	return h.from <= wall && wall < h.to
}
