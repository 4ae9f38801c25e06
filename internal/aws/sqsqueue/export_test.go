package sqsqueue

import "testing"

// Waiting returns how many changes of visibility wait for a request.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Gather calls wait before a change of visibility makes a request, until the test ends.
func Gather(t *testing.T, wait func()) {
	before := gather
	t.Cleanup(func() { gather = before })
	gather = wait
}
