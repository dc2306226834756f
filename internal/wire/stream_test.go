package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

// errWait stands for a deadline or for would-block: it may be tried again.
var errWait = errors.New("would block")

// chunks reads data in pieces; before each piece it fails once with errWait when
// waits is set.
type chunks struct {
	data  []byte
	next  func() int // length of the next piece, at least 1
	waits bool
	tried bool
	reads int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	if c.waits && !c.tried {
		c.tried = true
		return 0, errWait
	}
	c.tried = false
	c.reads++
	n := min(len(p), c.next(), len(c.data))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// writes counts the Writes that it takes.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(b []byte) (int, error) {
	w.n++
	return w.Buffer.Write(b)
}

func always(n int) func() int { return func() int { return n } }

// message makes one with a body of n bytes that differ from message to message.
func messageOf(typ byte, n int, salt byte) []byte {
	b := AppendHeader(nil, typ, n)
	for i := range n {
		b = append(b, byte(i)*7+salt)
	}
	return b
}

// verb is what is done with one message.
type verb uint8

const (
	verbForward verb = iota
	verbDrop
	verbReplace
	verbInject
	verbBody
	verbPrefix
	verbs
)

// again calls f until its error is not errWait.
func again(t *testing.T, f func() error) error {
	t.Helper()
	for range 1 << 24 {
		if err := f(); !errors.Is(err, errWait) {
			return err
		}
	}
	t.Fatal("waits for ever")
	return nil
}

// relay passes messages through a Stream doing what verbs say (the last one is
// repeated) and returns what a model that has each message whole says must come
// out.
func relay(t *testing.T, s *Stream, messages [][]byte, what []verb) (want []byte) {
	t.Helper()
	for i, m := range messages {
		var h Header
		if err := again(t, func() (err error) { h, err = s.Next(); return err }); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if h.Type != m[0] || h.Len != len(m)-5 {
			t.Fatalf("message %d is %q of %d bytes, want %q of %d", i, h.Type, h.Len, m[0], len(m)-5)
		}
		switch v := what[min(i, len(what)-1)]; v {
		case verbForward:
			s.Forward()
			want = append(want, m...)
		case verbDrop:
			s.Drop()
		case verbReplace:
			n := min(7, h.Len)
			var head []byte
			if err := again(t, func() (err error) { head, err = s.Prefix(n); return err }); err != nil {
				t.Fatal(err)
			}
			prefix := AppendHeader(nil, h.Type, h.Len-n+3)
			prefix = append(prefix, "new"...)
			if !bytes.Equal(head, m[5:5+n]) {
				t.Fatalf("prefix of message %d is %q, want %q", i, head, m[5:5+n])
			}
			s.Replace(5+n, prefix)
			want = append(append(want, prefix...), m[5+n:]...)
		case verbInject:
			ours := messageOf('N', i%40, byte(i))
			if err := s.Inject(ours); err != nil {
				t.Fatal(err)
			}
			s.Forward()
			want = append(append(want, ours...), m...)
		case verbBody, verbPrefix:
			n := h.Len
			if v == verbPrefix {
				n = h.Len / 2
			}
			var b []byte
			err := again(t, func() (err error) {
				if v == verbBody {
					b, err = s.Body(MaxMessage)
				} else {
					b, err = s.Prefix(n)
				}
				if errors.Is(err, errWait) { // as the gateway does: from the start
					if again, err := s.Next(); err != nil || again != h {
						t.Fatalf("Next after a wait gives %v, %v, want %v", again, err, h)
					}
				}
				return err
			})
			if err != nil || !bytes.Equal(b, m[5:5+n]) {
				t.Fatalf("message %d: %q, %v, want %q", i, b, err, m[5:5+n])
			}
			if v == verbBody && !bytes.Equal(s.Message(), m) {
				t.Fatalf("message %d whole is %q, want %q", i, s.Message(), m)
			}
			s.Forward()
			want = append(want, m...)
		}
	}
	return want
}

// ended reads to the end of the source and checks what came out.
func ended(t *testing.T, s *Stream, out *writes, want []byte) {
	t.Helper()
	if err := again(t, func() error { _, err := s.Next(); return err }); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("%d bytes came out, want %d; they differ from byte %d on", out.Len(), len(want), differs(out.Bytes(), want))
	}
	if !s.Clean() || s.Pending() || s.Midway() || s.Buffered() != 0 {
		t.Fatal("the stream is not clean at its end")
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// randomMessages are mostly small, now and then larger than a buffer.
func randomMessages(r *rand.Rand, n int) (messages [][]byte, what []verb) {
	sizes := []int{0, 1, 4, 15, 60, 170, 500, 507, 508, 2900}
	for i := range n {
		size := sizes[r.IntN(len(sizes))]
		if r.IntN(20) == 0 {
			size = []int{runBuffer - 5, runBuffer, 30_000, largeBuffer - 5, largeBuffer + 1, 200_000}[r.IntN(6)]
		}
		messages = append(messages, messageOf("TDCZ1s"[r.IntN(6)], size, byte(i)))
		v := verbForward
		if r.IntN(3) == 0 {
			v = verb(r.IntN(int(verbs)))
		}
		what = append(what, v)
	}
	return messages, what
}

func TestAStreamPassesWhatANaiveModelWould(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	readers := map[string]func([]byte) io.Reader{
		"whole":    func(b []byte) io.Reader { return bytes.NewReader(b) },
		"one byte": func(b []byte) io.Reader { return iotest.OneByteReader(bytes.NewReader(b)) },
		"half":     func(b []byte) io.Reader { return iotest.HalfReader(bytes.NewReader(b)) },
		"data with EOF": func(b []byte) io.Reader {
			return iotest.DataErrReader(bytes.NewReader(b))
		},
		"random": func(b []byte) io.Reader {
			return &chunks{data: b, next: func() int { return 1 + r.IntN(1+r.IntN(5000)) }}
		},
		"random, would block": func(b []byte) io.Reader {
			return &chunks{data: b, waits: true, next: func() int { return 1 + r.IntN(1+r.IntN(5000)) }}
		},
	}
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			var s Stream
			for range 8 {
				messages, what := randomMessages(r, 60)
				var out writes
				s.Reset(reader(bytes.Join(messages, nil)), &out)
				ended(t, &s, &out, relay(t, &s, messages, what))
				s.Release()
			}
		})
	}
}

// Trap T12: a deadline or a would-block may come at any byte.
func TestAStreamGoesOnAfterAWaitAtEveryByte(t *testing.T) {
	messages := [][]byte{
		messageOf('T', 30, 0), messageOf('D', 0, 1), messageOf('D', 700, 2), messageOf('C', 13, 3),
		messageOf('Z', 1, 4), messageOf('D', 9, 5),
	}
	all := bytes.Join(messages, nil)
	for v := range verbs {
		var out writes
		var s Stream
		s.Reset(&chunks{data: all, next: always(1), waits: true}, &out)
		ended(t, &s, &out, relay(t, &s, messages, []verb{v}))
	}
	// One wait, at each place in turn.
	for at := range all {
		src := io.MultiReader(bytes.NewReader(all[:at]), &chunks{data: all[at:], next: always(1 << 20), waits: true})
		var out writes
		var s Stream
		s.Reset(src, &out)
		what := []verb{verbBody, verbReplace, verbPrefix, verbInject, verbDrop, verbForward}
		ended(t, &s, &out, relay(t, &s, messages, what))
	}
}

// What was forwarded leaves before the stream waits: who waits for it would
// otherwise wait for ever.
func TestNothingIsHeldBackWhileAStreamWaits(t *testing.T) {
	first, second := messageOf('D', 20, 0), messageOf('Z', 1, 1)
	var out writes
	var s Stream
	s.Reset(io.MultiReader(bytes.NewReader(append(first, second[:3]...)), iotest.ErrReader(errWait)), &out)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Forward()
	if !s.Pending() || out.Len() != 0 {
		t.Fatal("a forwarded message does not wait for its run")
	}
	if _, err := s.Next(); !errors.Is(err, errWait) {
		t.Fatalf("Next: %v", err)
	}
	if !bytes.Equal(out.Bytes(), first) || s.Pending() {
		t.Fatalf("%q left before the wait, want %q", out.Bytes(), first)
	}
	if s.Clean() || s.Buffered() != 3 {
		t.Fatalf("%d bytes are read ahead, want 3", s.Buffered())
	}
	s.Release()
	if s.Buffered() != 3 {
		t.Fatal("Release lost what was read ahead")
	}
}

func TestAStreamIsMidwayWhileAForwardedMessageHasNotArrived(t *testing.T) {
	m := messageOf('D', 5000, 0)
	src := &chunks{data: m, next: always(100)}
	var out writes
	var s Stream
	s.Reset(src, &out)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	if s.Midway() {
		t.Fatal("midway before Forward")
	}
	s.Forward()
	if !s.Midway() || s.Clean() {
		t.Fatal("not midway after Forward")
	}
	ended(t, &s, &out, m)

	src = &chunks{data: m, next: always(100)}
	out.Reset()
	s.Reset(src, &out)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Drop()
	if s.Midway() || s.Clean() {
		t.Fatal("a message that is dropped must not count as midway, nor as clean before it has passed")
	}
	ended(t, &s, &out, nil)
}

func TestEachReadLeavesInOneWrite(t *testing.T) {
	for _, size := range []int{15, 170, 2900, 30_000} {
		var messages [][]byte
		for i := range 400 {
			messages = append(messages, messageOf('D', size, byte(i)))
		}
		for _, piece := range []int{100, 4096, 1 << 20} {
			src := &chunks{data: bytes.Join(messages, nil), next: always(piece)}
			var out writes
			var s Stream
			s.Reset(src, &out)
			ended(t, &s, &out, relay(t, &s, messages, []verb{verbForward}))
			if out.n > src.reads {
				t.Errorf("messages of %d bytes in pieces of %d: %d Writes for %d Reads", size, piece, out.n, src.reads)
			}
		}
	}
}

// What is injected, replaced and dropped leaves with what is around it.
func TestAMixedRunLeavesInOneWrite(t *testing.T) {
	var messages [][]byte
	for i := range 12 {
		messages = append(messages, messageOf('D', 20, byte(i)))
	}
	src := &chunks{data: bytes.Join(messages, nil), next: always(1 << 20)}
	var out writes
	var s Stream
	s.Reset(src, &out)
	what := []verb{verbForward, verbDrop, verbReplace, verbInject, verbForward, verbForward, verbDrop, verbInject, verbBody, verbPrefix, verbReplace, verbForward}
	ended(t, &s, &out, relay(t, &s, messages, what))
	if src.reads != 1 || out.n != 1 {
		t.Errorf("%d Reads and %d Writes, want one of each", src.reads, out.n)
	}
}

func TestAStreamRefusesLengthsThatCannotBe(t *testing.T) {
	for _, n := range []uint32{0, 1, 2, 3, MaxMessage + 1, 1 << 31, 1<<32 - 1} {
		b := binary.BigEndian.AppendUint32([]byte{'D'}, n)
		good := messageOf('D', 10, 0)
		var out writes
		var s Stream
		s.Reset(bytes.NewReader(append(slices.Clone(good), b...)), &out)
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
		s.Forward()
		for range 2 {
			if _, err := s.Next(); !errors.Is(err, ErrMessageLength) {
				t.Errorf("length %d: %v", n, err)
			}
		}
		if err := s.Flush(); err != nil || !bytes.Equal(out.Bytes(), good) {
			t.Errorf("length %d: %q left, %v", n, out.Bytes(), err)
		}
	}
	for _, n := range []uint32{4, MaxMessage} {
		var s Stream
		s.Reset(bytes.NewReader(binary.BigEndian.AppendUint32([]byte{'D'}, n)), io.Discard)
		if h, err := s.Next(); err != nil || h.Len != int(n)-4 {
			t.Errorf("length %d: %v, %v", n, h, err)
		}
	}
}

// A length alone costs nothing: memory follows the bytes that arrive.
func TestAStreamTakesNoMemoryForAClaimedLength(t *testing.T) {
	b := append(binary.BigEndian.AppendUint32([]byte{'D'}, MaxMessage), make([]byte, 1000)...)
	var s Stream
	s.Reset(&chunks{data: b, next: always(300)}, io.Discard)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Forward()
	if _, err := s.Next(); err != io.ErrUnexpectedEOF {
		t.Fatalf("the source ended inside a message: %v", err)
	}
	if len(s.buf) > largeBuffer {
		t.Errorf("the buffer has %d bytes", len(s.buf))
	}
}

func TestABodyBeyondItsLimitIsLeftToBeForwarded(t *testing.T) {
	m := messageOf('Q', 5000, 0)
	var out writes
	var s Stream
	s.Reset(&chunks{data: m, next: always(700)}, &out)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Body(4999); !errors.Is(err, ErrBodyTooLarge) {
		t.Fatalf("Body: %v", err)
	}
	s.Forward()
	ended(t, &s, &out, m)
}

func TestTheEndOfTheSourceInsideAMessageIsUnexpected(t *testing.T) {
	m := messageOf('D', 40, 0)
	for at := 1; at < len(m); at++ {
		var s Stream
		s.Reset(bytes.NewReader(m[:at]), io.Discard)
		_, err := s.Next()
		if err == nil {
			if _, err = s.Body(100); err == io.ErrUnexpectedEOF {
				s.Forward()
				_, err = s.Next()
			}
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("after %d bytes: %v", at, err)
		}
	}
	var s Stream
	s.Reset(bytes.NewReader(nil), io.Discard)
	if _, err := s.Next(); err != io.EOF {
		t.Errorf("between two messages: %v", err)
	}
}

func TestAFailedWriteIsToldFromAFailedRead(t *testing.T) {
	gone := errors.New("gone")
	r, w := io.Pipe()
	_ = r.CloseWithError(gone)
	var s Stream
	s.Reset(bytes.NewReader(messageOf('D', 10, 0)), w)
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Forward()
	_, err := s.Next()
	var we *WriteError
	if !errors.As(err, &we) || !errors.Is(err, gone) {
		t.Fatalf("Next: %v", err)
	}
}

func TestAReaderThatGivesNothingIsNotAskedForEver(t *testing.T) {
	var s Stream
	s.Reset(readerFunc(func([]byte) (int, error) { return 0, nil }), io.Discard)
	if _, err := s.Next(); err != io.ErrNoProgress {
		t.Fatalf("Next: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAnIdleStreamHoldsItsInlineBufferAlone(t *testing.T) {
	for _, size := range []int{100, 3000, 20_000, 1 << 20} {
		for _, v := range []verb{verbForward, verbBody} {
			m := messageOf('D', size, 0)
			var out writes
			var s Stream
			s.Reset(&chunks{data: bytes.Repeat(m, 3), next: always(1 << 20)}, &out)
			ended(t, &s, &out, relay(t, &s, [][]byte{m, m, m}, []verb{v}))
			if err := s.Inject(make([]byte, 40_000)); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			s.Release()
			if s.buf != nil || s.pooled != nil || cap(s.out) > runBuffer {
				t.Errorf("messages of %d bytes: after Release it holds %d bytes of buffer and %d to inject", size, len(s.buf), cap(s.out))
			}
		}
	}
}

func TestAWholeTurnOfTheRelayAllocatesNothing(t *testing.T) {
	for _, size := range []int{15, 170, 2900, 30_000, 300_000} {
		var data []byte
		for i := range min(50, 1<<20/size) {
			data = append(data, messageOf('D', size, byte(i))...)
		}
		src := bytes.NewReader(data)
		reader := iotest.HalfReader(src)
		var s Stream
		s.Reset(reader, io.Discard)
		turn := func() {
			src.Reset(data)
			for {
				h, err := s.Next()
				if err == io.EOF {
					break
				}
				if err != nil || h.Len != size {
					t.Fatal(h, err)
				}
				s.Forward()
			}
			s.Release()
		}
		turn()
		if n := testing.AllocsPerRun(100, turn); n != 0 {
			t.Errorf("messages of %d bytes: %v allocations a turn", size, n)
		}
	}
}

func TestForwardWithoutNextIsABug(t *testing.T) {
	var s Stream
	s.Reset(bytes.NewReader(nil), io.Discard)
	mustPanic(t, s.Forward)
	mustPanic(t, s.Drop)
}

// FuzzStream takes the messages' lengths, what is done with each and the pieces
// they are read in from three strings.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 1, 2}, []byte{0, 1, 2, 3, 4, 5}, []byte{1})
	f.Add([]byte{250, 3, 255, 9}, []byte{4, 2, 0}, []byte{0, 200, 7})
	f.Add([]byte{17, 255, 255, 1, 0}, []byte{5, 5, 3}, []byte{130, 131, 5, 255})
	f.Fuzz(func(t *testing.T, lengths, what, pieces []byte) {
		if len(lengths) > 64 || len(what) == 0 || len(pieces) == 0 {
			return
		}
		var messages [][]byte
		for i, n := range lengths {
			size := int(n)
			if size >= 250 {
				size = (size - 249) * 11_003
			}
			messages = append(messages, messageOf("TDCZ"[i%4], size, byte(i)))
		}
		todo := make([]verb, len(what))
		for i, w := range what {
			todo[i] = verb(w) % verbs
		}
		i := 0
		src := &chunks{data: bytes.Join(messages, nil), waits: pieces[0]&1 == 1, next: func() int {
			i++
			n := int(pieces[i%len(pieces)])
			return 1 + n*n
		}}
		var out writes
		var s Stream
		s.Reset(src, &out)
		ended(t, &s, &out, relay(t, &s, messages, todo))
		if src.reads > 0 && out.n > 2*src.reads+len(messages) {
			t.Errorf("%d Writes for %d Reads", out.n, src.reads)
		}
	})
}

// BenchmarkRelay is one turn of a server's stream to a client. The sizes are a
// short completion, a small row, a row with a vector of 384 floats as text and a
// page of a document.
func BenchmarkRelay(b *testing.B) {
	for _, c := range []struct{ count, size int }{{1000, 15}, {1000, 170}, {500, 2900}, {100, 30_000}} {
		b.Run(fmt.Sprintf("%dx%d", c.count, c.size), func(b *testing.B) {
			data := bytes.Repeat(messageOf('D', c.size, 0), c.count)
			src := bytes.NewReader(data)
			var s Stream
			s.Reset(src, io.Discard)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(data)
				for {
					if _, err := s.Next(); err != nil {
						break
					}
					s.Forward()
				}
				s.Release()
			}
		})
	}
}
