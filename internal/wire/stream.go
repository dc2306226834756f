package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Sizes of a Stream's buffer, in bytes. An idle stream has none; a reading one
// takes a run buffer from a pool and, when a read fills that, a large one for the
// rest of the turn. One Write per Read at 16 KiB moves small rows at a hundred
// times the speed of one Write per message; 64 KiB is worth its memory only for
// rows above 2 kB.
const (
	runBuffer   = 16 << 10
	largeBuffer = 64 << 10
)

var (
	runBuffers   = sync.Pool{New: func() any { b := make([]byte, runBuffer); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}
)

// ErrMessageLength means that a length field is below 4 or above MaxMessage: the
// peer does not speak the protocol, and the stream cannot be read any further.
var ErrMessageLength = errors.New("message length out of range")

// ErrBodyTooLarge means that Body was asked for a message longer than the limit.
// The message is untouched: it can still be forwarded or dropped.
var ErrBodyTooLarge = errors.New("message too large to look into")

// WriteError is a failure of the destination, so that the reader of a Stream can
// tell which of its two peers is gone.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "cannot write: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

// Stream reads messages from one peer and passes them to the other in runs.
// For each message the caller calls Next and then exactly one of Forward, Replace
// or Drop; Body, Prefix and Message may come between. Adjacent forwarded messages
// leave in one Write, at the latest before Next would block in a Read.
//
// A Stream never blocks by itself: when the source's Read returns an error (a
// deadline, would-block), Next returns it and may be called again, nothing is
// lost. It must not be copied and is used by one goroutine at a time.
type Stream struct {
	src io.Reader
	dst io.Writer

	buf    []byte
	run    int    // buf[run:r] was forwarded and is not yet written
	r      int    // start of the current message or of the next
	w      int    // end of what was read
	size   int    // length of the current message with its header; 0: none
	mark   int    // begin of what Rewind goes back to; -1: it is gone
	tail   int    // bytes of the last forwarded or dropped message still to arrive
	drop   bool   // what becomes of the tail
	full   bool   // the last Read filled the buffer
	out    []byte // leaves before buf[run:r]
	in     int64  // bytes read since Reset
	sent   int64  // bytes written since Reset
	pooled *[]byte
}

// Reset makes the stream read from src and write to dst and forgets all else.
func (s *Stream) Reset(src io.Reader, dst io.Writer) {
	s.putBuffer()
	s.src, s.dst = src, dst
	s.buf = nil
	s.run, s.r, s.w, s.size, s.tail = 0, 0, 0, 0, 0
	s.drop, s.full, s.mark = false, false, -1
	s.in, s.sent = 0, 0
	s.out = s.out[:0]
}

// SetDst changes the destination; what is pending must have been flushed.
func (s *Stream) SetDst(dst io.Writer) { s.dst = dst }

// Counts returns the bytes read from the source and written to the destination.
func (s *Stream) Counts() (read, written int64) { return s.in, s.sent }

// Buffered says how many bytes were read beyond the current position.
func (s *Stream) Buffered() int { return s.w - s.r }

// Unread returns the bytes that were read beyond the current position, which must
// be between two messages; valid until the next call of any other method.
func (s *Stream) Unread() []byte { return s.buf[s.r:s.w] }

// Whole returns what Unread does; false inside a message.
func (s *Stream) Whole() (b []byte, ok bool) {
	if s.tail > 0 || s.size > 0 {
		return nil, false
	}
	return s.buf[s.r:s.w], true
}

// ForwardRun adds to the run the next n bytes of those that Whole returned: messages
// without the rest of one.
func (s *Stream) ForwardRun(n int) { s.r += n }

// Fill reads once from the source, without a look at what comes. Errors as of Next.
func (s *Stream) Fill() error { return s.fillFor(s.w - s.r + 1) }

// Pending says whether a run waits to be written.
func (s *Stream) Pending() bool { return s.run < s.r || len(s.out) > 0 }

// Midway says whether a message was forwarded of which a part has not arrived.
func (s *Stream) Midway() bool { return s.tail > 0 && !s.drop }

// Clean says whether the stream stands between two messages with nothing read
// ahead and nothing to write.
func (s *Stream) Clean() bool { return s.r == s.w && s.tail == 0 && s.size == 0 && !s.Pending() }

// Release gives the buffers back when nothing is in them; the stream can be used
// on as before.
func (s *Stream) Release() {
	if !s.Clean() {
		return
	}
	s.putBuffer()
	s.buf = nil
	s.run, s.r, s.w, s.full, s.mark = 0, 0, 0, false, -1
	if cap(s.out) > runBuffer {
		s.out = nil
	}
}

// Mark notes the current position, between two messages, for Rewind.
func (s *Stream) Mark() { s.mark = s.r }

// Marked returns what was read between Mark and the current position, nothing if
// it is gone; valid as long as Unread's result.
func (s *Stream) Marked() []byte {
	if s.mark < 0 {
		return nil
	}
	return s.buf[s.mark:s.r]
}

// Rewind goes back to the position of Mark and forgets what is pending. False: a
// read has overwritten what stood there, and nothing has changed.
func (s *Stream) Rewind() bool {
	if s.mark < 0 {
		return false
	}
	s.out = s.out[:0]
	s.r, s.run, s.size, s.tail, s.drop = s.mark, s.mark, 0, 0, false
	return true
}

// Rest forgets all but a run buffer, for a clean stream that is used again soon.
func (s *Stream) Rest() {
	b, pooled := s.buf, s.pooled
	if len(b) == runBuffer {
		s.pooled = nil
	}
	s.Reset(nil, nil)
	if len(b) == runBuffer {
		s.buf, s.pooled = b, pooled
	}
	if cap(s.out) > runBuffer {
		s.out = nil
	}
}

// SetSrc changes the source of a clean stream.
func (s *Stream) SetSrc(src io.Reader) { s.src = src }

func (s *Stream) putBuffer() {
	switch {
	case s.pooled == nil:
	case len(*s.pooled) == runBuffer:
		runBuffers.Put(s.pooled)
	case len(*s.pooled) == largeBuffer:
		largeBuffers.Put(s.pooled)
	}
	s.pooled = nil
}

// Next returns the header of the next message. Only the five bytes of the header
// need have arrived. It flushes the pending run before it would block.
//
// Errors: ErrMessageLength, *WriteError, or what the source's Read returned;
// io.ErrUnexpectedEOF when the source ended inside a message.
func (s *Stream) Next() (Header, error) {
	if err := s.Finish(); err != nil {
		return Header{}, err
	}
	for s.w-s.r < 5 {
		if err := s.fill(); err != nil {
			if s.r < s.w {
				err = s.cut(err)
			}
			return Header{}, err
		}
	}
	n := binary.BigEndian.Uint32(s.buf[s.r+1:])
	if n < 4 || n > MaxMessage {
		return Header{}, fmt.Errorf("cannot read message %q: %w (%d)", s.buf[s.r], ErrMessageLength, n)
	}
	s.size = int(n) + 1
	return Header{Type: s.buf[s.r], Len: int(n) - 4}, nil
}

// Finish takes in what has not arrived yet of the last message that was forwarded
// or dropped. Next does so too; Finish is for whoever has to inject bytes behind
// that message, or waits for an answer to it. Errors as of Next.
func (s *Stream) Finish() error {
	for s.tail > 0 {
		if n := min(s.tail, s.w-s.r); n > 0 {
			s.r += n
			s.tail -= n
			if s.drop {
				s.run = s.r
			}
			continue
		}
		if err := s.fill(); err != nil {
			return s.cut(err)
		}
	}
	return nil
}

// cut turns the end of the source inside a message into io.ErrUnexpectedEOF.
func (s *Stream) cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Forward adds the current message to the run. Its tail need not have arrived.
func (s *Stream) Forward() {
	s.mustHave(1)
	s.advance(false)
}

// Drop leaves the current message out.
func (s *Stream) Drop() {
	s.mustHave(1)
	s.cutRun()
	s.advance(true)
	s.run = s.r
}

// Replace forwards the current message with its first n bytes (header included)
// exchanged for prefix, which carries the new header. The n bytes must have
// arrived: see Prefix.
func (s *Stream) Replace(n int, prefix []byte) {
	s.mustHave(n)
	s.cutRun()
	s.out = append(s.out, prefix...)
	s.r += n
	s.size -= n
	s.run = s.r
	s.advance(false)
}

// mustHave panics unless there is a current message of at least n bytes.
func (s *Stream) mustHave(n int) {
	if s.size < n {
		panic("BUG: Forward, Drop or Replace without Next")
	}
}

func (s *Stream) advance(drop bool) {
	n := min(s.size, s.w-s.r)
	s.r += n
	s.tail = s.size - n
	s.drop = drop
	s.size = 0
}

// cutRun moves the pending run to out, since what follows it is not adjacent.
func (s *Stream) cutRun() {
	if s.run < s.r {
		s.out = append(s.out, s.buf[s.run:s.r]...)
		s.run = s.r
	}
}

// Inject puts bytes of our own before the current (or next) message.
func (s *Stream) Inject(b []byte) error {
	s.cutRun()
	s.out = append(s.out, b...)
	if len(s.out) >= largeBuffer {
		return s.Flush()
	}
	return nil
}

// Body returns the whole body of the current message, at most limit bytes. The
// slice aliases the buffer and is valid until the next call of Next, Body or
// Prefix.
func (s *Stream) Body(limit int) ([]byte, error) {
	if s.size-5 > limit {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrBodyTooLarge, s.size-5, limit)
	}
	return s.Prefix(s.size - 5)
}

// Prefix returns the first n bytes of the current message's body, or all of it
// when it is shorter; valid as long as Body's result.
func (s *Stream) Prefix(n int) ([]byte, error) {
	n = min(n+5, s.size)
	for s.w-s.r < n {
		if err := s.fillFor(n); err != nil {
			return nil, s.cut(err)
		}
	}
	return s.buf[s.r+5 : s.r+n], nil
}

// Message returns the current message with its header, of which Body was called;
// valid as long as Body's result.
func (s *Stream) Message() []byte { return s.buf[s.r : s.r+s.size] }

// Flush writes the pending run.
func (s *Stream) Flush() error {
	if len(s.out) > 0 {
		if s.r-s.run <= runBuffer {
			s.cutRun()
		}
		b := s.out
		s.out = s.out[:0]
		s.sent += int64(len(b))
		if _, err := s.dst.Write(b); err != nil {
			return &WriteError{err}
		}
	}
	if s.run < s.r {
		b := s.buf[s.run:s.r]
		s.run = s.r
		s.sent += int64(len(b))
		if _, err := s.dst.Write(b); err != nil {
			return &WriteError{err}
		}
	}
	return nil
}

func (s *Stream) fill() error { return s.fillFor(5) }

// fillFor flushes, makes room so that a message's first n bytes fit, and reads
// once.
func (s *Stream) fillFor(n int) error {
	if s.Pending() {
		if err := s.Flush(); err != nil {
			return err
		}
	}
	if s.mark != s.r {
		s.mark = -1
	}
	switch {
	case n > len(s.buf) || s.full && len(s.buf) < largeBuffer:
		s.grow(max(n, min(len(s.buf)+1, largeBuffer)))
	case s.r > 0:
		// What is moved is less than n bytes, and the read has the whole buffer.
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.run, s.r = 0, 0
	}
	if s.mark >= 0 {
		s.mark = s.r
	}
	for range 8 {
		m, err := s.src.Read(s.buf[s.w:])
		s.w += m
		s.in += int64(m)
		s.full = s.w == len(s.buf)
		if m > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// grow moves the unread bytes to a buffer of at least n bytes.
func (s *Stream) grow(n int) {
	var pooled *[]byte
	var buf []byte
	switch {
	case n <= runBuffer:
		pooled = runBuffers.Get().(*[]byte)
		buf = *pooled
	case n <= largeBuffer:
		pooled = largeBuffers.Get().(*[]byte)
		buf = *pooled
	default:
		buf = make([]byte, n)
	}
	s.w = copy(buf, s.buf[s.r:s.w])
	s.run, s.r = 0, 0
	s.putBuffer()
	s.buf, s.pooled, s.full = buf, pooled, false
}
