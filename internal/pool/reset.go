package pool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/wire"
)

// StatementPrefix begins the names of the statements that Conn.Has knows; what else
// is prepared on a connection is in Conn.Own, or was made by code of a user.
const StatementPrefix = "_qvpgw_"

// resetText is DISCARD ALL without what would drop the shared prepared statements:
// it says what is left of them, and whether temporary objects ever were, instead.
const resetText = `CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; ` +
	`SELECT pg_catalog.pg_my_temp_schema(), pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT from_sql AND pg_catalog.starts_with(name, '` + StatementPrefix + `')) FROM pg_catalog.pg_prepared_statements`

// reset makes the session as new, in one round trip, and keeps the prepared
// statements if all of them are there and nothing else is. A transaction that was
// left open is ended first.
func (c *Conn) reset(timeout time.Duration) error {
	text, mild := c.resetQuery()
	rows, err := c.pipeline(timeout, "ROLLBACK", text)
	var se *ServerError
	if mild && (err == nil && !c.intact(rows) || errors.As(err, &se)) {
		mild = false
		_, err = c.Query("DISCARD ALL", timeout)
	}
	if err != nil {
		return fmt.Errorf("cannot reset server connection %d: %w", c.PID, err)
	}
	if !mild {
		c.ForgetAll()
	}
	clear(c.Own)
	c.Bucket = c.pool.buckets.empty
	c.Dirty = false
	c.SequenceOwner = 0
	return nil
}

// resetQuery returns what makes the session as new; mild: it keeps the statements.
func (c *Conn) resetQuery() (text string, mild bool) {
	if c.statements.Len() == 0 {
		return "DISCARD ALL", false
	}
	var b strings.Builder
	for name := range c.Own {
		for i := range len(name) {
			if name[i] >= 0x80 {
				return "DISCARD ALL", false // in which encoding is not known any more
			}
		}
		b.WriteString("DEALLOCATE " + catalog.Quote(name) + "; ")
	}
	return b.String() + resetText, true
}

// intact says, of resetText's answer, whether the shared statements are what they
// were: all of them, nothing else, and in a session whose search path means the same.
// The first temporary object of a session has the server read every statement anew,
// under the settings of that moment.
func (c *Conn) intact(rows [][]*string) bool {
	i := slices.IndexFunc(rows, func(r []*string) bool { return len(r) == 3 })
	if i < 0 || slices.Contains(rows[i], nil) {
		return false
	}
	temp, all, ours := *rows[i][0], *rows[i][1], *rows[i][2]
	had := c.temp
	c.temp = temp
	return (temp == had || temp == "0") && all == ours && ours == strconv.Itoa(c.statements.Len())
}

// pipeline runs texts by the simple protocol in one round trip and returns the rows
// of the last. It fails with the first ServerError when all have been answered.
func (c *Conn) pipeline(timeout time.Duration, texts ...string) (rows [][]*string, err error) {
	_ = c.Net.SetDeadline(time.Now().Add(timeout))
	defer c.Net.SetDeadline(time.Time{})
	c.Unnamed = 0
	c.Stream.SetDst(io.Discard)
	var b []byte
	for _, sql := range texts {
		b = wire.AppendQuery(b, sql)
	}
	if _, err := c.Net.Write(b); err != nil {
		return nil, err
	}
	var failed error
	for range texts {
		var se *ServerError
		if rows, err = c.Collect(); errors.As(err, &se) {
			if failed == nil {
				failed = err
			}
		} else if err != nil {
			return nil, err
		}
	}
	return rows, failed
}
