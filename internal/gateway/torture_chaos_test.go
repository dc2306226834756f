package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// copyRows sends n rows of COPY data for torture_rows and returns their numbers.
func (c *client) copyRows(n int) (seqs []int64) {
	var b strings.Builder
	for range n {
		tag := c.tag()
		fmt.Fprintf(&b, "%d\t%d\t%s\n", c.n, c.seq, tag)
		seqs = append(seqs, c.seq)
		if b.Len() > 2000 {
			c.front.Send(&pgproto3.CopyData{Data: []byte(b.String())})
			b.Reset()
		}
	}
	c.front.Send(&pgproto3.CopyData{Data: []byte(b.String())})
	return seqs
}

// startCopy begins a COPY FROM STDIN, by either protocol.
func (c *client) startCopy() (extended, started bool, err error) {
	const sql = "COPY torture_rows FROM STDIN"
	w := want{first: true}
	if extended = c.rng.IntN(2) == 0; extended {
		c.parse("", sql)
		c.execute("", nil, false)
		c.front.Send(&pgproto3.Flush{})
		w.silent = 2
	} else {
		c.front.Send(&pgproto3.Query{String: sql})
	}
	if err := c.flush(); err != nil {
		return extended, false, err
	}
	o, err := c.read(w)
	if err != nil || !o.failed {
		return extended, err == nil, err
	}
	if extended {
		_, err = c.sync()
		return extended, false, err
	}
	return extended, false, nil
}

// endCopy sends the end of a COPY and reads its outcome.
func (c *client) endCopy(extended bool, end pgproto3.FrontendMessage, w want) (outcome, error) {
	c.front.Send(end)
	if extended {
		c.front.Send(&pgproto3.Sync{})
	}
	if err := c.flush(); err != nil {
		return outcome{}, err
	}
	return c.read(w)
}

func (c *client) copyIn() error {
	extended, started, err := c.startCopy()
	if err != nil || !started {
		return err
	}
	seqs := c.copyRows(c.rng.IntN(300))
	o, err := c.endCopy(extended, &pgproto3.CopyDone{}, command())
	if err == nil {
		c.told(!o.failed, seqs...)
	}
	return err
}

// copyInFails has a row in the middle that the server does not take.
func (c *client) copyInFails() error {
	extended, started, err := c.startCopy()
	if err != nil || !started {
		return err
	}
	seqs := c.copyRows(c.rng.IntN(50))
	tag := c.tag()
	c.front.Send(&pgproto3.CopyData{Data: []byte(tag + "\t1\tx\n")})
	seqs = append(seqs, c.copyRows(c.rng.IntN(1000))...)
	if _, err = c.endCopy(extended, &pgproto3.CopyDone{}, failing("22P02", tag)); err == nil {
		c.told(false, seqs...)
	}
	return err
}

func (c *client) copyFail() error {
	extended, started, err := c.startCopy()
	if err != nil || !started {
		return err
	}
	seqs := c.copyRows(c.rng.IntN(50))
	tag := c.tag()
	if _, err = c.endCopy(extended, &pgproto3.CopyFail{Message: tag}, failing("57014", tag)); err == nil {
		c.told(false, seqs...)
	}
	return err
}

func (c *client) copyOut() error {
	tag, n := c.tag(), c.rng.IntN(500)
	_, err := c.query(fmt.Sprintf("COPY (SELECT '%s', i FROM generate_series(1, %d) i) TO STDOUT", tag, n), want{
		rows: n, row: func(i int, v [][]byte) bool { return string(v[0]) == fmt.Sprintf("%s\t%d\n", tag, i+1) },
	})
	return err
}

// sleepCancelled cancels a statement that runs.
func (c *client) sleepCancelled() error {
	tag := c.tag()
	c.cancel(time.Duration(1+c.rng.IntN(10)) * time.Millisecond)
	_, err := c.query(fmt.Sprintf("SELECT '%s' FROM pg_sleep(0.05)", tag), one(tag))
	return err
}

// vanish closes the connection in the middle of something.
func (c *client) vanish() error {
	tag := c.tag()
	send := func(sql string) { c.front.Send(&pgproto3.Query{String: sql}) }
	var err error
	switch c.rng.IntN(9) {
	case 0: // of a query
		send(fmt.Sprintf("SELECT '%s' FROM pg_sleep(%g)", tag, c.rng.Float64()/20))
		err = c.flush()
	case 1: // right behind it, its answer not read
		send(fmt.Sprintf("SELECT '%s'", tag))
		err = c.flush()
	case 2: // of a result
		send(fmt.Sprintf("SELECT '%s' || repeat('x', 1000) FROM generate_series(1, 20000)", tag))
		if err = c.flush(); err == nil {
			_, err = c.next()
		}
	case 3: // of a COPY FROM
		var started bool
		if _, started, err = c.startCopy(); err == nil && started {
			c.copyRows(c.rng.IntN(300))
			err = c.flush()
		}
	case 4: // of a COPY TO
		send(fmt.Sprintf("COPY (SELECT '%s' || repeat('x', 1000) FROM generate_series(1, 20000)) TO STDOUT", tag))
		if err = c.flush(); err == nil {
			_, err = c.next()
		}
	case 5: // of a transaction
		var o outcome
		if o, err = c.query("BEGIN", command()); err == nil && !o.failed {
			insert, seq := c.insert()
			if o, err = c.query(insert, command()); err == nil {
				c.told(false, seq)
			}
		}
	case 6: // of a message
		b := []byte{'Q', 0, 0, 0, 0, 'S', 'E', 'L', 'E', 'C', 'T'}
		binary.BigEndian.PutUint32(b[1:], uint32(100+c.rng.IntN(100_000)))
		_, err = c.conn.Write(b[:1+c.rng.IntN(len(b))])
	case 7: // of a pipeline, without its Sync
		for range 1 + c.rng.IntN(20) {
			c.parse("", "SELECT $1::text")
			c.execute("", []string{tag}, false)
		}
		err = c.flush()
	case 8: // of a message that is being passed on
		c.parse("", "SELECT $1::text")
		if err = c.flush(); err == nil {
			b := append([]byte{'B', 0, 3, 0, 0}, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0)
			_, err = c.conn.Write(append(b, make([]byte, c.rng.IntN(100_000))...))
		}
	}
	if errors.Is(err, errLost) || errors.Is(err, errAstray) {
		return err
	}
	return c.hangUp()
}
