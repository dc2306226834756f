package gateway

import (
	"strconv"
	"strings"
	"time"

	"qvpgw/internal/pool"
)

// lookIdle ends a client that has sent nothing for too long. A client's own
// idle_session_timeout is kept here, not by the server, whose session has other
// clients meanwhile (trap T8).
func (s *session) lookIdle(silent time.Duration) {
	var e *Error
	live := s.srv.live.Load()
	own := time.Duration(s.idle.Load()) * time.Millisecond
	switch inTx := s.inTx.Load(); {
	case inTx && live.IdleInTx > 0 && silent > live.IdleInTx:
		e = fatal("25P03", "terminating connection due to idle-in-transaction timeout", "limits.idle_in_transaction_timeout is "+live.IdleInTx.String()+".")
	case inTx:
		return
	case own > 0 && silent > own:
		e = fatal("57P05", "terminating connection due to idle-session timeout", "")
		e.File, e.Routine = "postgres.c", "ProcessInterrupts"
	case live.IdleTimeout > 0 && silent > live.IdleTimeout:
		e = fatal("57P05", "terminating connection due to idle-session timeout", "limits.client_idle_timeout is "+live.IdleTimeout.String()+".")
	default:
		return
	}
	if s.evicted.CompareAndSwap(nil, e) {
		s.wake()
	}
}

// noteIdle takes note of the idle_session_timeout in force.
func (s *session) noteIdle() {
	var d time.Duration
	if l := s.learned(); l != nil {
		d = l.Extra.(*contexts).idle
	} else {
		d = setTime(s.bucket)
	}
	if ms := uint32(d.Milliseconds()); s.idle.Load() != ms {
		s.idle.Store(ms)
	}
}

// setTime is the idle_session_timeout that a bucket sets, as far as it shows.
func setTime(b *pool.Bucket) time.Duration {
	_, value, _ := strings.Cut(b.Get("idle_session_timeout"), " TO ")
	return serverTime(strings.Trim(value, "' "))
}

// serverTime reads a duration as the server shows it: a whole number of milliseconds,
// or with a unit; 0 for what it is not.
func serverTime(text string) time.Duration {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return 0
	}
	unit := map[string]time.Duration{
		"": time.Millisecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.TrimSpace(text[len(number):])]
	return min(time.Duration(n)*unit, (1<<31-1)*time.Millisecond) // the server's most
}
