package pool

import (
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
