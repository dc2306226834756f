package auth

import "sync"

// fair runs work a few at a time. Who must wait waits in the queue of its key, and
// the keys take turns: one that asks for much delays itself alone.
type fair struct {
	mu    sync.Mutex
	free  int
	queue map[string][]chan struct{}
	turns []string // the keys with a queue, next first
}

// newFair returns a fair for that many at a time, at least one.
func newFair(atOnce int) *fair {
	return &fair{free: max(atOnce, 1), queue: map[string][]chan struct{}{}}
}

// Do runs work when it is key's turn and returns when it is done. Its caller bounds
// how many wait.
func (f *fair) Do(key string, work func()) {
	f.mu.Lock()
	if f.free > 0 {
		f.free--
		f.mu.Unlock()
	} else {
		turn := make(chan struct{})
		if len(f.queue[key]) == 0 {
			f.turns = append(f.turns, key)
		}
		f.queue[key] = append(f.queue[key], turn)
		f.mu.Unlock()
		<-turn
	}
	defer f.done()
	work()
}

// done gives the place to the next key's oldest.
func (f *fair) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.turns) == 0 {
		f.free++
		return
	}
	key := f.turns[0]
	f.turns = f.turns[1:]
	q := f.queue[key]
	close(q[0])
	if len(q) == 1 {
		delete(f.queue, key)
		return
	}
	f.queue[key] = q[1:]
	f.turns = append(f.turns, key)
}
