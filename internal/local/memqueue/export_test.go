package memqueue

import "time"

// Hidden is for how many whole seconds a received message is hidden from now
// on, rounded up.
func (q *Queue) Hidden(receipt string) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := time.Until(q.inFlight[receipt].visible)
	return max((d + time.Second - 1).Truncate(time.Second), 0)
}

// InFlight says whether a receipt handle is its message's last one.
func (q *Queue) InFlight(receipt string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inFlight[receipt] != nil
}
