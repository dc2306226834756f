package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/wire"
)

// readBuffer is what a client of a run reads with, in bytes.
const readBuffer = 8 << 10

// Run says what clients do.
type Run struct {
	Script   *Script
	Protocol Protocol
	Requests *Requests     // instead of a script
	Duration time.Duration // transactions begin for so long
	Count    int           // transactions of each client if Duration is 0
}

// Result is what came of a run.
type Result struct {
	Transactions int64 // that were answered without an error
	Errors       int64 // transactions with an ErrorResponse, or whose connection was lost
	FirstError   error // one of them; nil: none
	Elapsed      time.Duration
	Latencies    *Latencies // of Transactions
}

// TPS is transactions a second.
func (r Result) TPS() float64 { return float64(r.Transactions) / r.Elapsed.Seconds() }

// Run lets the clients work and waits for them. Statements are prepared before the clock
// starts. The end of ctx ends the run's connections. The error says why nothing could
// be measured; single failures are in the result.
func (f *Fleet) Run(ctx context.Context, r Run) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	var (
		res         = Result{Latencies: new(Latencies)}
		errs, lost  atomic.Int64
		first       atomic.Pointer[error]
		unprepared  atomic.Pointer[error]
		ready, done sync.WaitGroup
		begin       = make(chan struct{})
	)
	failed := func(err error) {
		errs.Add(1)
		first.CompareAndSwap(nil, &err)
	}
	ready.Add(len(f.clients))
	for n, c := range f.clients {
		done.Go(func() {
			next := r.next(n)
			stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) })
			defer stop()
			w := worker{client: c, r: bufio.NewReaderSize(c.conn, readBuffer)}
			if err := w.prepare(r); err != nil {
				unprepared.CompareAndSwap(nil, &err)
			}
			ready.Done()
			if <-begin; unprepared.Load() != nil {
				return
			}
			for i, start := 0, time.Now(); !c.dead && (i < r.Count || time.Since(start) < r.Duration); i++ {
				before := time.Now()
				if err := w.transaction(r, next); err != nil {
					failed(err)
					continue
				}
				res.Latencies.add(time.Since(before))
			}
			if c.dead {
				lost.Add(1)
			}
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	res.Elapsed = time.Since(start)
	res.Transactions, res.Errors = res.Latencies.Count(), errs.Load()
	if err := first.Load(); err != nil {
		res.FirstError = *err
	}
	if err := ctx.Err(); err != nil {
		return res, err
	}
	if err := unprepared.Load(); err != nil {
		return res, *err
	}
	if lost.Load() == int64(len(f.clients)) {
		return res, fmt.Errorf("all %d connections were lost: %w", lost.Load(), res.FirstError)
	}
	return res, nil
}

// next makes a client's requests; nil: it runs a script.
func (r Run) next(client int) func(dst []byte) []byte {
	if r.Requests == nil {
		return nil
	}
	return r.Requests.Next(client)
}

func (r Run) check() error {
	if (r.Script == nil) == (r.Requests == nil) || (r.Duration <= 0) == (r.Count <= 0) {
		return errors.New("cannot run: a script or requests, and either a duration or a count are needed")
	}
	return nil
}

// worker is a client at work.
type worker struct {
	*client
	r   *bufio.Reader
	out []byte
}

// prepare sends the script's statements to be prepared, once for each client.
func (w *worker) prepare(r Run) error {
	if q := r.Requests; q != nil && !w.dead && !w.ready[string(q.Prepare)] && len(q.Prepare) > 0 {
		w.ready[string(q.Prepare)] = true
		w.out = append(w.out[:0], q.Prepare...)
		if err := w.ask(); err != nil {
			return fmt.Errorf("cannot prepare the requests: %w", err)
		}
	}
	if r.Protocol != Prepared || w.dead || w.prepared[r.Script] != "" {
		return nil
	}
	prefix := "bench_" + strconv.Itoa(len(w.prepared)) + "_"
	for i := range r.Script.statements {
		w.out = wire.AppendParse(w.out[:0], prefix+strconv.Itoa(i), r.Script.statements[i].parameterised(), nil)
		w.out = wire.AppendSync(w.out)
		if err := w.ask(); err != nil {
			return fmt.Errorf("cannot prepare statement %d: %w", i+1, err)
		}
	}
	w.prepared[r.Script] = prefix
	return nil
}

// transaction runs the script once; after an error its other statements are sent all
// the same, as what ends a transaction may be among them.
func (w *worker) transaction(r Run, next func(dst []byte) []byte) error {
	if next != nil {
		w.out = next(w.out[:0])
		return w.ask()
	}
	var failure error
	for i := range r.Script.statements {
		name := ""
		if r.Protocol == Prepared {
			name = w.prepared[r.Script] + strconv.Itoa(i)
		}
		w.out = r.Script.statements[i].appendTo(w.out[:0], r.Protocol, name)
		if err := w.ask(); err != nil && failure == nil {
			failure = err
		}
		if w.dead {
			return failure
		}
	}
	return failure
}

// ask sends w.out and reads up to ReadyForQuery. An error of the server is returned;
// any other one makes the client dead.
func (w *worker) ask() error {
	if w.dead {
		return errors.New("the connection was lost")
	}
	_, err := w.conn.Write(w.out)
	var told error
	for err == nil {
		var done bool
		done, err = w.message(&told)
		if done {
			return told
		}
	}
	w.dead = true
	_ = w.conn.Close() // the first error says it
	return errors.Join(told, err)
}

// message reads one message and says whether it was ReadyForQuery. The first error
// that the server told is put into told.
func (w *worker) message(told *error) (done bool, err error) {
	h, err := w.r.Peek(5)
	if err != nil {
		return false, err
	}
	typ, size := h[0], int(binary.BigEndian.Uint32(h[1:]))-4
	if size < 0 || size > wire.MaxMessage {
		return false, wire.ErrMessageLength
	}
	if _, err := w.r.Discard(5); err != nil {
		return false, err
	}
	if typ == wire.CopyInResponse || typ == wire.CopyBothResponse {
		return false, errors.New("cannot run a COPY from the client: there is nothing to send")
	}
	if typ != wire.ErrorResponse || *told != nil {
		_, err := w.r.Discard(size)
		return typ == wire.ReadyForQuery, err
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return false, err
	}
	fields, err := wire.ParseErrorFields(body)
	if err != nil {
		return false, err
	}
	*told = fields
	return false, nil
}
