package handoff

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// link is one end of a control socket. What goes over it are lines:
//
//	ready                    a successor serves
//	restart                  a successor was asked for its own successor
//	retire                   another process serves: stop accepting, end
//	cancel ID PID KEY        a cancel request for a client of the other side or beyond
//	done ID                  it was carried out or found nothing
type link struct {
	conn net.Conn

	mu      sync.Mutex // protects what follows, and writes
	next    uint64
	waiting map[uint64]chan struct{} // cancels that are not done, by id
}

func newLink(c net.Conn) *link { return &link{conn: c, waiting: map[uint64]chan struct{}{}} }

// send writes one line; an end that is gone is found by the reader.
func (l *link) send(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(l.conn, format+"\n", args...)
}

// cancel passes a cancel request and returns when the other side is done with it,
// since the client may send its next statement after that.
func (l *link) cancel(pid uint32, key []byte, timeout time.Duration) {
	done := make(chan struct{})
	l.mu.Lock()
	l.next++
	id := l.next
	l.waiting[id] = done
	l.mu.Unlock()
	l.send("cancel %d %d %s", id, pid, hex.EncodeToString(key))
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	l.mu.Lock()
	delete(l.waiting, id)
	l.mu.Unlock()
}

// read handles lines until the other end is gone. on gets those that are no part
// of a cancel; cancel carries one out.
func (l *link) read(on func(word string), cancel func(pid uint32, key []byte)) {
	lines := bufio.NewScanner(l.conn)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 4 && words[0] == "cancel":
			pid, err := strconv.ParseUint(words[2], 10, 32)
			if key, e := hex.DecodeString(words[3]); err == nil && e == nil {
				go func() {
					cancel(uint32(pid), key)
					l.send("done %s", words[1])
				}()
			}
		case len(words) == 2 && words[0] == "done":
			id, _ := strconv.ParseUint(words[1], 10, 64) // 0 is nobody's
			l.mu.Lock()
			if done := l.waiting[id]; done != nil {
				close(done)
				delete(l.waiting, id)
			}
			l.mu.Unlock()
		case len(words) == 1:
			on(words[0])
		}
	}
	l.mu.Lock()
	for id, done := range l.waiting {
		close(done)
		delete(l.waiting, id)
	}
	l.mu.Unlock()
}
