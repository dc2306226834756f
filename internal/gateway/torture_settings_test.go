package gateway_test

import (
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// steps runs statements one after the other until one is cancelled, or fails as it
// may.
func (c *client) steps(all ...step) (ok bool, err error) {
	for _, s := range all {
		o, err := c.query(s.sql, s.want)
		if err != nil || o.failed && s.want.code == "" {
			return false, err
		}
	}
	return true, nil
}

type step struct {
	sql  string
	want want
}

// value wants one row with one value, about a session's state.
func (c *client) value(what, is string) want {
	return want{rows: 1, row: func(_ int, v [][]byte) bool {
		if string(v[0]) != is {
			c.r.leak("client %d: %s is %q, but should be %q", c.n, what, v[0], is)
		}
		return true
	}}
}

// discard gives the session back as a new one, like pools of drivers do.
func (c *client) discard() error {
	if err := c.rollback(); err != nil {
		return err
	}
	for range 10 {
		o, err := c.query("DISCARD ALL", command())
		if err != nil {
			return err
		}
		if !o.failed {
			c.fresh()
			return nil
		}
	}
	return fmt.Errorf("client %d cannot discard its session", c.n)
}

// setLocal has a setting for one transaction.
func (c *client) setLocal() error {
	before, known := c.settings["statement_timeout"]
	value := strconv.Itoa(200_000_001 + c.n*1000 + c.rng.IntN(998))
	ok, err := c.steps(
		step{"BEGIN", command()},
		step{"SET LOCAL statement_timeout = " + value, command()},
		step{"SHOW statement_timeout", c.value("statement_timeout inside", value+"ms")},
		step{[]string{"COMMIT", "ROLLBACK"}[c.rng.IntN(2)], command()},
	)
	if err != nil {
		return err
	}
	if !ok {
		return c.rollback()
	}
	if known {
		_, err = c.query("SHOW statement_timeout", c.value("statement_timeout after SET LOCAL", before))
	}
	return err
}

// setUnderSavepoint sets inside a savepoint, which is released or rolled back to,
// in a transaction that is committed or not.
func (c *client) setUnderSavepoint() error {
	before, known := c.settings["application_name"]
	name := c.tag()
	undone, committed := c.rng.IntN(2) == 0, c.rng.IntN(3) > 0
	inside, end := name, "RELEASE a"
	if undone {
		inside, end = before, "ROLLBACK TO a"
	}
	all := []step{
		{"BEGIN", command()},
		{"SAVEPOINT a", command()},
		{"SET application_name = '" + name + "'", command()},
		{end, command()},
	}
	if known || !undone {
		all = append(all, step{"SHOW application_name", c.value("application_name after "+end, inside)})
	}
	if ok, err := c.steps(all...); err != nil || !ok {
		return err // the turn's end rolls back
	}
	if !committed {
		return nil
	}
	o, err := c.query("COMMIT", command())
	switch {
	case err != nil:
		return err
	case o.failed:
		delete(c.settings, "application_name") // the cancel may have come behind the commit
	case !undone:
		c.settings["application_name"] = name
	}
	if undone {
		return c.discard() // what is left of such a SET may keep the connection
	}
	return nil
}

// setConfig sets a custom setting, of which no list is kept anywhere.
func (c *client) setConfig() error {
	tag := c.tag()
	c.own["torture.own"] = ""
	o, err := c.query("SET torture.own = '"+tag+"'", command())
	if err == nil && !o.failed {
		c.own["torture.own"] = tag
	}
	return err
}

// ownSettings looks whether the custom settings are the client's own and newest.
func (c *client) ownSettings() error {
	for _, name := range []string{"torture.own", "torture.tenant", "torture.trigger"} {
		tag := c.tag()
		_, err := c.query("SELECT '"+tag+"', current_setting('"+name+"', true)", want{rows: 1, row: func(_ int, v [][]byte) bool {
			if len(v) != 2 {
				return false
			}
			have, set := string(v[1]), false
			if want, known := c.own[name]; known {
				set = want != "" && have != want
			} else {
				set = have != ""
			}
			if set || have != "" && !c.mine(have) {
				c.r.leak("client %d: %s is %q, but was set to %q", c.n, name, have, c.own[name])
			}
			return string(v[0]) == tag
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// nothingLeft looks for what others may have left in the session. This client has
// nothing of it outside withState.
func (c *client) nothingLeft() error {
	tag := c.tag()
	_, err := c.query("SELECT '"+tag+`', current_user, pg_catalog.to_regclass('pg_temp.torture_temp') IS NULL,
		(SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql),
		(SELECT count(*) FROM pg_catalog.pg_cursors WHERE name LIKE 'torture%'),
		(SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())`,
		want{rows: 1, row: func(_ int, v [][]byte) bool {
			if len(v) != 6 {
				return false
			}
			have := fmt.Sprintf("%s %s %s %s %s", v[1], v[2], v[3], v[4], v[5])
			if have != "postgres t 0 0 0" {
				c.r.leak("client %d: user, no temporary table, prepared, cursors, locks: %s", c.n, have)
			}
			return string(v[0]) == tag
		}})
	return err
}

// sequences takes values of a sequence: no value twice, and currval and lastval
// give this client's own newest or fail.
func (c *client) sequences() error {
	const none = "55000" // not yet defined in this session
	var got string
	take := want{rows: 1, row: func(_ int, v [][]byte) bool { got = string(v[0]); return true }}
	next, name := "SELECT nextval('torture_sequence')", "torture_sequence"
	if c.rng.IntN(2) == 0 {
		next, name = "INSERT INTO torture_serial (tag) VALUES ('"+c.tag()+"') RETURNING id", "torture_serial_id_seq"
	}
	if c.rng.IntN(3) > 0 {
		o, err := c.query(next, take)
		delete(c.sequence, name)
		delete(c.sequence, "last")
		if err != nil {
			return err
		}
		if o.failed {
			c.sequence[name], c.sequence["last"] = "", "" // it may be another one now
			return nil
		}
		c.sequence[name], c.sequence["last"] = got, got
		if other, twice := c.r.owners.LoadOrStore(name+got, c.n); twice {
			c.r.foreigner("client %d got %s of %s, which client %v has", c.n, got, name, other)
		}
	}
	look, key := "SELECT currval('"+name+"')", name
	if c.rng.IntN(2) == 0 {
		look, key = "SELECT lastval()", "last"
	}
	w := want{rows: 1, may: none, row: func(_ int, v [][]byte) bool {
		newest, used := c.sequence[key]
		owner, known := c.r.owners.Load(name + string(v[0]))
		if !used || newest != "" && newest != string(v[0]) || key == name && known && owner != c.n {
			c.r.foreigner("client %d: %s gave %s, its own newest is %q", c.n, look, v[0], newest)
		}
		return true
	}}
	_, err := c.query(look, w)
	return err
}

// cursorInTransaction reads a cursor in pieces.
func (c *client) cursorInTransaction() error {
	tag, n := c.tag(), 5+c.rng.IntN(20)
	rest := want{rows: n - 4, row: func(i int, v [][]byte) bool {
		return len(v) == 2 && string(v[0]) == tag && string(v[1]) == strconv.Itoa(i+5)
	}}
	_, err := c.steps(
		step{"BEGIN", command()},
		step{fmt.Sprintf("DECLARE torture_cursor CURSOR FOR SELECT '%s', i FROM generate_series(1, %d) i", tag, n), command()},
		step{"FETCH 3 FROM torture_cursor", series(tag, 3)},
		step{"MOVE torture_cursor", command()},
		step{"FETCH ALL FROM torture_cursor", rest},
		step{"CLOSE torture_cursor", command()},
		step{"COMMIT", command()},
	)
	return err
}

// portals executes a named portal in pieces, over several Syncs.
func (c *client) portals() error {
	if o, err := c.query("BEGIN", command()); err != nil || o.failed {
		return err
	}
	tag := c.tag()
	c.parse("", "SELECT $1::text, i FROM generate_series(1, 5) i")
	c.front.Send(&pgproto3.Bind{DestinationPortal: "torture", Parameters: [][]byte{[]byte(tag)}})
	for i, rows := range []int{2, 2, 1} {
		c.front.Send(&pgproto3.Execute{Portal: "torture", MaxRows: 2})
		first := 2*i + 1
		w := want{rows: rows, row: func(k int, v [][]byte) bool {
			return len(v) == 2 && string(v[0]) == tag && string(v[1]) == strconv.Itoa(first+k)
		}}
		if i == 0 {
			w.silent = 2
		}
		if o, err := c.sync(w); err != nil || o.failed {
			return err
		}
	}
	_, err := c.query("COMMIT", command())
	return err
}

// slowReader lets an answer lie and then takes it in small pieces.
func (c *client) slowReader() error {
	tag := c.tag()
	c.front.Send(&pgproto3.Query{String: fmt.Sprintf("SELECT '%s', i, repeat('x', 2000) FROM generate_series(1, 2000) i", tag)})
	if err := c.flush(); err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond)
	_, err := c.read(want{rows: 2000, row: func(i int, v [][]byte) bool {
		if i%200 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		return len(v) == 3 && string(v[0]) == tag && string(v[1]) == strconv.Itoa(i+1) && len(v[2]) == 2000
	}})
	return err
}
