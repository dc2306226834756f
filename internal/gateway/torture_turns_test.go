package gateway_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// turns are the kinds of turn, each with how often it comes beside the others.
var turns = []struct {
	weight int
	run    func(*client) error
}{
	{30, (*client).simple},
	{10, (*client).several},
	{30, (*client).unnamed},
	{40, (*client).prepared},
	{20, (*client).pipeline},
	{1, (*client).longPipeline},
	{15, (*client).fails},
	{10, (*client).failsInPipeline},
	{15, (*client).transaction},
	{8, (*client).pipelinedTransaction},
	{10, (*client).set},
	{10, (*client).show},
	{6, (*client).notice},
	{5, (*client).copyIn},
	{4, (*client).copyInFails},
	{3, (*client).copyFail},
	{5, (*client).copyOut},
	{1, (*client).large},
	{1, (*client).slowReader},
	{8, (*client).setLocal},
	{6, (*client).setUnderSavepoint},
	{6, (*client).setConfig},
	{10, (*client).ownSettings},
	{12, (*client).nothingLeft},
	{6, (*client).sequences},
	{4, (*client).cursorInTransaction},
	{4, (*client).portals},
	{8, (*client).withState},
	{4, (*client).notifyAnother},
}

var turnWeights = func() (sum int) {
	for _, t := range turns {
		sum += t.weight
	}
	return sum
}()

// turn runs one turn, with a cancel or a hang-up where one is due.
func (c *client) turn() error {
	if c.r.due(&c.r.hungUp, c.r.hangUps) {
		return c.vanish()
	}
	if c.r.due(&c.r.cancelled, c.r.extent.cancels) {
		if c.rng.IntN(2) == 0 {
			return c.sleepCancelled()
		}
		c.cancel(time.Duration(c.rng.IntN(3000)) * time.Microsecond)
	}
	n := c.rng.IntN(turnWeights)
	for _, t := range turns {
		if n -= t.weight; n < 0 {
			if err := t.run(c); err != nil {
				return err
			}
			return c.rollback()
		}
	}
	panic("BUG: the weights are wrong")
}

// series wants n rows of tag and number.
func series(tag string, n int) want {
	return want{rows: n, row: func(i int, v [][]byte) bool {
		return len(v) == 2 && string(v[0]) == tag && string(v[1]) == strconv.Itoa(i+1)
	}}
}

func (c *client) simple() error {
	tag, n := c.tag(), c.rng.IntN(20)
	_, err := c.query(fmt.Sprintf("SELECT '%s', i FROM generate_series(1, %d) i", tag, n), series(tag, n))
	return err
}

// insert is an INSERT of a new row; the caller says with told what became of it.
func (c *client) insert() (sql string, seq int64) {
	tag := c.tag()
	return fmt.Sprintf("INSERT INTO torture_rows VALUES (%d, %d, '%s')", c.n, c.seq, tag), c.seq
}

// told notes what the client was told about rows that it inserted.
func (c *client) told(there bool, seqs ...int64) {
	for _, s := range seqs {
		c.rows[s] = there
	}
}

func (c *client) several() error {
	a, b := c.tag(), c.tag()
	insert, seq := c.insert()
	o, err := c.query(fmt.Sprintf("SELECT '%s'; %s; SELECT '%s'", a, insert, b), one(a), command(), one(b))
	if err == nil {
		c.told(!o.failed, seq)
	}
	return err
}

// unnamed runs a statement with parameters by the extended protocol, an INSERT
// every other time.
func (c *client) unnamed() error {
	if c.rng.IntN(2) == 0 {
		tag := c.tag()
		seq := c.seq
		c.parse("", "INSERT INTO torture_rows VALUES ($1, $2, $3)")
		c.execute("", []string{strconv.Itoa(c.n), fmt.Sprint(seq), tag}, true)
		o, err := c.sync(want{silent: 3}) // with NoData
		if err == nil {
			c.told(!o.failed, seq)
		}
		return err
	}
	tag, n := c.tag(), c.rng.IntN(10)
	c.parse("", "SELECT $1::text, i FROM generate_series(1, $2::int) i")
	c.execute("", []string{tag, strconv.Itoa(n)}, true)
	w := series(tag, n)
	w.silent = 2
	_, err := c.sync(w)
	return err
}

func (c *client) parse(name, sql string) { c.front.Send(&pgproto3.Parse{Name: name, Query: sql}) }

func (c *client) execute(name string, params []string, describe bool) {
	bind := &pgproto3.Bind{PreparedStatement: name}
	for _, p := range params {
		bind.Parameters = append(bind.Parameters, []byte(p))
	}
	c.front.Send(bind)
	if describe {
		c.front.Send(&pgproto3.Describe{ObjectType: 'P'})
	}
	c.front.Send(&pgproto3.Execute{})
}

func (c *client) sync(wants ...want) (outcome, error) {
	c.front.Send(&pgproto3.Sync{})
	if err := c.flush(); err != nil {
		return outcome{}, err
	}
	return c.read(wants...)
}

// texts are what all clients prepare. The last one's literal means what DateStyle
// said when it was prepared.
var texts = []string{
	"SELECT $1::text || '-' || 'a'",
	"SELECT $1::text || '-' || 'b'",
	"SELECT $1::text || '-' || count(*) FROM generate_series(1, 5)",
	"SELECT $1::text || '-' || ('02/01/2024'::date - date '2024-01-01')",
}

// suffix is what a text's row has behind the tag, when prepared now.
func (c *client) suffix(text int) string {
	switch {
	case text < 2:
		return string("ab"[text])
	case text == 2:
		return "5"
	case strings.HasSuffix(c.settings["DateStyle"], "DMY"):
		return "1"
	}
	return "31"
}

// ensure has one of the texts prepared; a Parse of its own, or with what follows.
func (c *client) ensure() (name string, st *shared, silent int, err error) {
	text := c.rng.IntN(len(texts))
	name = fmt.Sprintf("s%d", text)
	if st = c.named[name]; st != nil && c.rng.IntN(20) > 0 {
		return name, st, 0, nil
	}
	if st != nil {
		c.front.Send(&pgproto3.Close{ObjectType: 'S', Name: name})
		delete(c.named, name)
		silent++
	}
	st = &shared{text: texts[text], number: text, suffix: c.suffix(text)}
	c.parse(name, st.text)
	silent++
	if c.rng.IntN(2) == 0 {
		o, err := c.sync(want{silent: silent, empty: true})
		if err != nil || o.failed {
			return name, nil, 0, err
		}
		c.named[name] = st
		silent = 0
	}
	return name, st, silent, nil
}

func (c *client) prepared() error {
	name, st, silent, err := c.ensure()
	if err != nil || st == nil {
		return err
	}
	tag := c.tag()
	c.execute(name, []string{tag}, c.rng.IntN(2) == 0)
	w := st.want(c, tag)
	w.silent = silent + 1
	o, err := c.sync(w)
	if err != nil {
		return err
	}
	if silent > 0 {
		if o.failed {
			// The Parse may or may not have come through.
			c.front.Send(&pgproto3.Close{ObjectType: 'S', Name: name})
			_, err = c.sync(want{silent: 1, empty: true})
			return err
		}
		c.named[name] = st
	}
	return nil
}

// pipeline sends several groups of several statements and reads then.
func (c *client) pipeline() error {
	return c.pipe(1+c.rng.IntN(5), 1+c.rng.IntN(8))
}

func (c *client) longPipeline() error {
	return c.pipe(1+c.rng.IntN(20), 20+c.rng.IntN(50))
}

func (c *client) pipe(groups, each int) error {
	name, st, silent, err := c.ensure()
	if err != nil || st == nil {
		return err
	}
	all := make([][]want, groups)
	for g := range all {
		for range each {
			tag := c.tag()
			if c.rng.IntN(3) == 0 {
				c.parse("", "SELECT $1::text")
				c.execute("", []string{tag}, false)
				w := one(tag)
				w.silent = 2
				all[g] = append(all[g], w)
				continue
			}
			c.execute(name, []string{tag}, false)
			w := st.want(c, tag)
			w.silent = 1
			all[g] = append(all[g], w)
		}
		c.front.Send(&pgproto3.Sync{})
	}
	all[0][0].silent += silent
	if err := c.flush(); err != nil {
		return err
	}
	for g, wants := range all {
		o, err := c.read(wants...)
		if err != nil {
			return err
		}
		if g == 0 && silent > 0 && o.failed {
			return c.forget(name, len(all)-1)
		}
		if g == 0 && silent > 0 {
			c.named[name] = st
		}
	}
	return nil
}

// forget reads n groups of whatever came of a statement whose Parse may have
// failed, and closes it.
func (c *client) forget(name string, n int) error {
	for range n {
		for ready := false; !ready; {
			m, err := c.next()
			if err != nil {
				return err
			}
			if d, ok := m.(*pgproto3.DataRow); ok && !(len(d.Values) == 1 && c.mine(string(d.Values[0]))) {
				c.r.foreigner("client %d: row %.60q", c.n, d.Values)
			}
			_, ready = m.(*pgproto3.ReadyForQuery)
		}
	}
	c.front.Send(&pgproto3.Close{ObjectType: 'S', Name: name})
	_, err := c.sync(want{silent: 1, empty: true})
	return err
}

// fails is a statement that fails, with the tag in the error where it can be.
func (c *client) fails() error {
	tag := c.tag()
	var err error
	switch c.rng.IntN(5) {
	case 0:
		_, err = c.query(tag+" SELECT 1", failing("42601", tag))
	case 1:
		_, err = c.query("SELECT '"+tag+"'::int", failing("22P02", tag))
	case 2:
		_, err = c.query("SELECT * FROM "+tag, failing("42P01", tag))
	case 3:
		_, err = c.query(fmt.Sprintf("SELECT '%s', 1 / (i - 3) FROM generate_series(1, 10) i", tag), want{
			rows: 2, code: "22012", row: func(_ int, v [][]byte) bool { return string(v[0]) == tag },
		})
	case 4:
		first := c.tag()
		insert, seq := c.insert()
		_, err = c.query(fmt.Sprintf("SELECT '%s'; %s; SELECT '%s'::int; SELECT 'never'", first, insert, tag),
			one(first), command(), failing("22P02", tag), one("never"))
		if err == nil {
			c.told(false, seq)
		}
	}
	return err
}

// failsInPipeline has a group fail in its middle; the groups around it do not.
func (c *client) failsInPipeline() error {
	good := func() want {
		tag := c.tag()
		c.parse("", "SELECT $1::text")
		c.execute("", []string{tag}, false)
		w := one(tag)
		w.silent = 2
		return w
	}
	var groups [][]want
	before := []want{good(), good()}
	c.front.Send(&pgproto3.Sync{})
	tag := c.tag()
	bad := []want{good()}
	if c.rng.IntN(2) == 0 {
		c.parse("", tag+" is no statement")
		c.execute("", nil, false)
		bad = append(bad, failing("42601", tag))
	} else {
		c.parse("", "SELECT $1::int")
		c.execute("", []string{tag}, false)
		bad = append(bad, failing("22P02", tag))
	}
	bad = append(bad, good(), good())
	c.front.Send(&pgproto3.Sync{})
	after := []want{good()}
	c.front.Send(&pgproto3.Sync{})
	groups = append(groups, before, bad, after)
	if err := c.flush(); err != nil {
		return err
	}
	for _, wants := range groups {
		if _, err := c.read(wants...); err != nil {
			return err
		}
	}
	return nil
}

// notice gets a notice with the tag: of a name that is too long.
func (c *client) notice() error {
	tag := c.tag()
	switch n := c.rng.IntN(1000); {
	case n == 0: // changes the catalog, as far as the gateway knows
		_, err := c.query("DROP TABLE IF EXISTS "+tag, command())
		return err
	case n < 50:
		_, err := c.query("ROLLBACK", command())
		return err
	}
	_, err := c.query(fmt.Sprintf(`SELECT '%s' AS "%s%s"`, tag, tag, strings.Repeat("n", 70)), one(tag))
	return err
}

// large gets a row of a megabyte.
func (c *client) large() error {
	tag := c.tag()
	n := 1<<20/len(tag) + 1
	_, err := c.query(fmt.Sprintf("SELECT repeat('%s', %d)", tag, n), want{rows: 1, row: func(_ int, v [][]byte) bool {
		return len(v) == 1 && len(v[0]) == n*len(tag) && bytes.Equal(v[0], bytes.Repeat([]byte(tag), n))
	}})
	return err
}
