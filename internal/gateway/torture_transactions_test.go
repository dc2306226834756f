package gateway_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"
)

// transaction is one with rows, failures, savepoints and settings.
func (c *client) transaction() error {
	if o, err := c.query("BEGIN", command()); err != nil || o.failed {
		return err
	}
	var inserted []int64
	step := func(sql string, wants ...want) (bool, error) {
		o, err := c.query(sql, wants...)
		return o.cancelled, err
	}
	insert, seq := c.insert()
	inserted = append(inserted, seq)
	if cancelled, err := step(insert, command()); err != nil || cancelled {
		return c.undone(err, inserted)
	}
	if c.rng.IntN(2) == 0 {
		if cancelled, err := step("SAVEPOINT a", command()); err != nil || cancelled {
			return c.undone(err, inserted)
		}
		insert, seq := c.insert()
		if cancelled, err := step(insert, command()); err != nil || cancelled {
			return c.undone(err, append(inserted, seq))
		}
		tag := c.tag()
		if cancelled, err := step("SELECT '"+tag+"'::int", failing("22P02", tag)); err != nil || cancelled {
			return c.undone(err, append(inserted, seq))
		}
		if cancelled, err := step("SELECT 1", failing("25P02", "")); err != nil || cancelled {
			return c.undone(err, append(inserted, seq))
		}
		if cancelled, err := step("ROLLBACK TO a", command()); err != nil || cancelled {
			return c.undone(err, append(inserted, seq))
		}
		defer c.told(false, seq)
	}
	if c.rng.IntN(4) == 0 {
		name := c.tag()
		if cancelled, err := step("SET application_name = '"+name+"'", command()); err != nil || cancelled {
			return c.undone(err, inserted)
		}
		c.pending = map[string]string{"application_name": name}
	}
	tag := c.tag()
	if cancelled, err := step("SELECT '"+tag+"'", one(tag)); err != nil || cancelled {
		return c.undone(err, inserted)
	}
	if c.rng.IntN(3) == 0 {
		return c.undone(nil, inserted)
	}
	o, err := c.query("COMMIT", command())
	if err != nil {
		return err
	}
	if o.failed {
		return c.undone(nil, inserted)
	}
	c.settled()
	c.told(true, inserted...)
	return nil
}

// undone rolls back; without err the rows are gone for sure.
func (c *client) undone(err error, inserted []int64) error {
	if err != nil {
		return err
	}
	if err := c.rollback(); err != nil {
		return err
	}
	c.told(false, inserted...)
	return nil
}

// pipelinedTransaction is BEGIN, rows and COMMIT in one pipeline, each with its
// Sync.
func (c *client) pipelinedTransaction() error {
	tag := c.tag()
	seq := c.seq
	fails := c.rng.IntN(3) == 0
	send := func(sql string, params ...string) {
		c.parse("", sql)
		c.execute("", params, false)
		c.front.Send(&pgproto3.Sync{})
	}
	done := want{silent: 2}
	groups := []want{done, done}
	send("BEGIN")
	send("INSERT INTO torture_rows VALUES ($1, $2, $3)", strconv.Itoa(c.n), fmt.Sprint(seq), tag)
	if fails {
		send("SELECT 1 / $1::int", "0")
		groups = append(groups, failing("22012", ""))
	}
	send("COMMIT")
	groups = append(groups, done)
	if err := c.flush(); err != nil {
		return err
	}
	failed, begun := false, false
	for i, w := range groups {
		o, err := c.readAfter(failed, w)
		if err != nil {
			return err
		}
		failed = failed || o.failed
		begun = begun || i == 0 && !failed
	}
	if !begun {
		return nil // cancelled: the row may be there on its own
	}
	if c.tx == 'I' {
		c.told(!failed, seq)
		return nil
	}
	return c.undone(nil, []int64{seq})
}

// readAfter reads a group of a pipelined transaction; after a failure it may be
// refused (25P02) or, without a transaction, work.
func (c *client) readAfter(failed bool, w want) (outcome, error) {
	if !failed {
		return c.read(w)
	}
	var o outcome
	for {
		m, err := c.next()
		if err != nil {
			return o, err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			c.r.foreigner("client %d: row %.60q after a failure", c.n, m.Values)
			return o, errAstray
		case *pgproto3.ErrorResponse:
			o.failed = true
			if m.Code == "57014" && !c.mayBeCancelled() {
				c.r.cancelledForeign("client %d, group %d of %d, cancelled up to %d: %s %s", c.n, c.answered, c.front.sent.Load(), c.cancelEnd.Load(), m.Message, m.Detail)
			}
			if m.Code != "25P02" && m.Code != "22012" && m.Code != "57014" {
				c.r.foreigner("client %d: error %s %s in a failed transaction", c.n, m.Code, m.Message)
				return o, errAstray
			}
		case *pgproto3.ReadyForQuery:
			c.tx = m.TxStatus
			c.r.queries.Add(1)
			return o, nil
		}
	}
}

// set changes a setting for the session.
func (c *client) set() error {
	name, value, sql := "", "", ""
	switch c.rng.IntN(4) {
	case 0:
		name, value = "application_name", c.tag()
		sql = "SET application_name = '" + value + "'"
	case 1:
		name, value = "statement_timeout", strconv.Itoa(100_000_001+c.n*1000+c.rng.IntN(998))
		sql, value = "SET statement_timeout = "+value, value+"ms"
	case 2:
		name, value = "DateStyle", []string{"ISO, MDY", "ISO, DMY"}[c.rng.IntN(2)]
		sql = "SET DateStyle TO " + value
	case 3:
		name, value = "statement_timeout", "0"
		sql = "RESET statement_timeout"
	}
	var o outcome
	var err error
	if c.rng.IntN(2) == 0 {
		o, err = c.query(sql, command())
	} else {
		c.parse("", sql)
		c.execute("", nil, false)
		o, err = c.sync(want{silent: 2})
	}
	if err == nil && !o.failed {
		c.settings[name] = value
	}
	return err
}

// show looks whether the settings are still the client's own.
func (c *client) show() error {
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		have := ""
		o, err := c.query("SHOW "+name, want{rows: 1, row: func(_ int, v [][]byte) bool {
			have = string(v[0])
			return true
		}})
		if err != nil || o.failed {
			return err
		}
		if want := c.settings[name]; have != want {
			c.r.leak("client %d: %s is %q, but was set to %q", c.n, name, have, want)
			c.settings[name] = have
		}
		if reported, ok := c.params[name]; ok && reported != have {
			c.r.leak("client %d: %s is %q, but was reported as %q", c.n, name, have, reported)
		}
	}
	return nil
}
