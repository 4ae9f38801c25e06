package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ScheduleName returns the name of the schedule for a job's wake-up with a number. The
// same wake-up has the same name, so that scheduling it twice makes one schedule. The
// name passes [CheckScheduleName] for any job id.
func ScheduleName(jobID string, wakeUp int) string {
	// The number is first and ends at the space, so that different pairs have different
	// texts.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", wakeUp, jobID))
	return hex.EncodeToString(sum[:])
}

// CheckScheduleName fails if EventBridge Scheduler would refuse the name. A name has 1 to
// 64 letters, digits, hyphens, underscores and dots (EventBridge Scheduler API reference,
// CreateSchedule).
func CheckScheduleName(name string) error {
	other := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '.' && r != '-'
	}
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, other) {
		return fmt.Errorf("schedule name %.80q; use 1 to 64 letters, digits, hyphens, underscores and dots", name)
	}
	return nil
}
