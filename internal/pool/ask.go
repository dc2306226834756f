package pool

import (
	"errors"
	"fmt"
	"io"
	"time"

	"qvpgw/internal/wire"
)

// Ask runs one statement with parameters, for control work as Query does, and
// returns its rows. Names in it that have no schema are those of pg_catalog,
// whatever the role's or the database's search_path says.
func (p *Pool) Ask(sql string, args []string, timeout time.Duration) ([][]*string, error) {
	return p.ours(func(c *Conn) ([][]*string, error) { return c.ask(sql, args, timeout) }, timeout)
}

// pins hold up to the next Sync. pg_temp is named, since it would be first otherwise.
// What the gateway asks takes milliseconds, but the planner may take a long text for
// an expensive one: compiling it would take seconds.
const pins = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true), " +
	"pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)"

func (c *Conn) ask(sql string, args []string, timeout time.Duration) ([][]*string, error) {
	if timeout > 0 {
		_ = c.Net.SetDeadline(time.Now().Add(timeout))
		defer c.Net.SetDeadline(time.Time{})
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	var b []byte
	for _, x := range []struct {
		sql    string
		values [][]byte
	}{{pins, nil}, {sql, values}} {
		b = wire.AppendParse(b, "", x.sql, nil)
		b = wire.AppendBind(b, "", "", nil, x.values, nil)
		b = wire.AppendExecute(b, "", 0)
	}
	c.Unnamed = 0
	c.Stream.SetDst(io.Discard)
	if _, err := c.Net.Write(wire.AppendSync(b)); err != nil {
		return nil, err
	}
	rows, err := c.Collect()
	if err != nil {
		return nil, err
	}
	return rows[1:], nil // without set_config's
}

// Spare runs work of our own that nobody waits for, on a connection that nobody needs
// now; had says whether there was one (trap T16). query is for use in work alone; after
// an error of it that is no ServerError it cannot be used any more. timeout is that of
// each statement. A connection that was opened for it is closed afterwards.
func (p *Pool) Spare(timeout time.Duration, work func(query func(sql string) ([][]*string, error)) error) (had bool, err error) {
	c, dialled, err := p.spare()
	if c == nil {
		return false, err
	}
	var broken error
	run := func(sql string) ([][]*string, error) {
		if broken != nil {
			return nil, broken
		}
		rows, err := c.Query(sql, timeout)
		var se *ServerError
		if err != nil && !errors.As(err, &se) {
			broken = fmt.Errorf("cannot run a statement of our own: %w", err)
			err = broken
		}
		return rows, err
	}
	if err = c.Adopt(p.Empty(), timeout); err != nil {
		broken = err
	} else {
		err = work(run)
	}
	switch {
	case broken != nil:
		p.Discard(c)
		return true, err
	case dialled:
		c.goodbye()
		p.Discard(c)
		return true, err
	}
	p.Release(c)
	return true, err
}

// spare takes a connection that is free, or opens one that leaves a place for a client
// (the only one, where Size is 1); nil when there is none.
func (p *Pool) spare() (c *Conn, dialled bool, err error) {
	for {
		p.mu.Lock()
		if p.closed || p.paused || p.retiring || p.control.n > 0 || p.waiting.n > 0 {
			p.mu.Unlock()
			return nil, false, nil
		}
		if c := p.takeIdleLocked(nil, p.Empty()); c != nil {
			p.mu.Unlock()
			if p.usable(c) {
				return p.grant(c, ControlOwner), false, nil
			}
			continue
		}
		place := (p.open == 0 || p.open+1 < p.opt.Size) && p.takePlaceLocked(time.Time{})
		p.mu.Unlock()
		if !place {
			return nil, false, nil
		}
		c, err = p.dialFor(ControlOwner, nil)
		return c, true, err
	}
}
