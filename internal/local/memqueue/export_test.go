package memqueue

import "time"

// Hidden returns how long a received message is still hidden, rounded up to whole
// seconds.
func (q *Queue) Hidden(receipt string) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := time.Until(q.inFlight[receipt].visible)
	return max((d + time.Second - 1).Truncate(time.Second), 0)
}

// InFlight reports whether a receipt handle is its message's last one.
func (q *Queue) InFlight(receipt string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inFlight[receipt] != nil
}
