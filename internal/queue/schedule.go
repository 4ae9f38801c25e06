package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
)

// ScheduleName is the name of the schedule of a job's wake. The same job and wake have
// the same name, so that scheduling it twice makes one schedule. Any job id
// makes a name that [CheckScheduleName] takes.
func ScheduleName(jobID string, wake int) string {
	// The number goes first: it ends at the space, whatever the id is.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", wake, jobID))
	return hex.EncodeToString(sum[:])
}

var scheduleName = regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`)

// CheckScheduleName fails where a name is not one that EventBridge Scheduler takes: 1
// to 64 letters, digits, hyphens, underscores and dots (EventBridge Scheduler
// API reference, CreateSchedule).
func CheckScheduleName(name string) error {
	if !scheduleName.MatchString(name) {
		return fmt.Errorf("%.80q is no name of a schedule; it takes 1 to 64 letters, digits, hyphens, underscores and dots", name)
	}
	return nil
}
