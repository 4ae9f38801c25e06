// Package schedule says how one-off schedules are named: messages that come on
// a queue at a time further away than a message can be delayed. The packages
// below it keep the schedules.
package schedule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
)

// Name is the name of the schedule of a job's wake. The same job and wake have
// the same name, so that scheduling it twice makes one schedule. Any job id
// makes a name that [CheckName] takes.
func Name(jobID string, wake int) string {
	// The number goes first: it ends at the space, whatever the id is.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", wake, jobID))
	return hex.EncodeToString(sum[:])
}

var valid = regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`)

// CheckName fails where a name is not one that EventBridge Scheduler takes: 1
// to 64 letters, digits, hyphens, underscores and dots (EventBridge Scheduler
// API reference, CreateSchedule).
func CheckName(name string) error {
	if !valid.MatchString(name) {
		return fmt.Errorf("%.80q is no name of a schedule; it takes 1 to 64 letters, digits, hyphens, underscores and dots", name)
	}
	return nil
}
