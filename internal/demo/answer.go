package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// protocol is how a statement is sent.
type protocol uint8

const (
	simple   protocol = iota // Query, values as text
	extended                 // Parse, Describe, Bind, Execute in one pipeline, values as text
	prepared                 // Parse and Describe first, then Bind and Execute, values as binary
)

func (p protocol) String() string { return [...]string{"simple", "extended", "prepared"}[p] }

// query is a statement as it is sent; args are text and need a protocol other
// than simple.
type query struct {
	sql      string
	args     []string
	protocol protocol
}

// answer is everything that a client sees of a statement's outcome.
type answer struct {
	fields []pgconn.FieldDescription
	rows   [][][]byte // nil is NULL
	tag    string
	err    *pgconn.PgError
	took   time.Duration // from the first byte sent to ReadyForQuery, without preparing
}

// session is the connection on which the tour asks.
type session interface {
	// ask sends q. An error means that the connection failed; an error of the
	// statement is part of the answer.
	ask(ctx context.Context, q query) (answer, error)
	// route gives SHOW qvpgw.last_route.
	route(ctx context.Context) (string, error)
	// set sets a qvpgw setting.
	set(ctx context.Context, name, value string) error
}

// client is a session over a connection.
type client struct{ conn *pgconn.PgConn }

func (c client) set(ctx context.Context, name, value string) error {
	if err := exec(ctx, c.conn, "SET "+name+" = "+value); err != nil {
		return fmt.Errorf("cannot set %s = %s: %w", name, value, err)
	}
	return nil
}

func (c client) route(ctx context.Context) (string, error) {
	route, err := queryOne(ctx, c.conn, "SHOW qvpgw.last_route")
	if err != nil {
		return "", fmt.Errorf("cannot read qvpgw.last_route: %w", err)
	}
	return route, nil
}

// statementName is the tour's only prepared statement.
const statementName = "tour"

func (c client) ask(ctx context.Context, q query) (answer, error) {
	args := make([][]byte, len(q.args))
	for i, a := range q.args {
		args[i] = []byte(a)
	}
	if q.protocol == prepared {
		if _, err := c.conn.Prepare(ctx, statementName, q.sql, nil); err != nil {
			return failed(err)
		}
	}
	start := time.Now()
	result, err := c.send(ctx, q, args)
	took := time.Since(start)
	if q.protocol == prepared && !c.conn.IsClosed() {
		if err := c.conn.Deallocate(ctx, statementName); err != nil {
			return answer{}, fmt.Errorf("cannot close the prepared statement: %w", err)
		}
	}
	if err != nil {
		a, err := failed(err)
		a.took = took
		return a, err
	}
	return answer{fields: result.FieldDescriptions, rows: result.Rows, tag: result.CommandTag.String(), took: took}, nil
}

func (c client) send(ctx context.Context, q query, args [][]byte) (*pgconn.Result, error) {
	var result *pgconn.Result
	switch q.protocol {
	case simple:
		results, err := c.conn.Exec(ctx, q.sql).ReadAll()
		if err != nil {
			return nil, err
		}
		if len(results) != 1 {
			return nil, fmt.Errorf("%d results of one statement", len(results))
		}
		return results[0], nil
	case extended:
		result = c.conn.ExecParams(ctx, q.sql, args, nil, nil, nil).Read()
	case prepared:
		result = c.conn.ExecPrepared(ctx, statementName, args, nil, []int16{pgtype.BinaryFormatCode}).Read()
	}
	return result, result.Err
}

// failed makes an answer of a statement's error; other errors stay errors.
func failed(err error) (answer, error) {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return answer{err: pgErr}, nil
	}
	return answer{}, err
}

// column gives the index of the column of that name, -1 without one.
func (a answer) column(name string) int {
	for i, f := range a.fields {
		if f.Name == name {
			return i
		}
	}
	return -1
}

// number reads an integer or float value of column i.
func (a answer) number(row, i int) (float64, error) {
	v, f := a.rows[row][i], a.fields[i]
	switch {
	case v == nil:
		return 0, errors.New("is NULL")
	case f.Format == pgtype.TextFormatCode:
		return strconv.ParseFloat(string(v), 64)
	case f.DataTypeOID == pgtype.Float8OID && len(v) == 8:
		return math.Float64frombits(binary.BigEndian.Uint64(v)), nil
	case f.DataTypeOID == pgtype.Int8OID && len(v) == 8:
		return float64(int64(binary.BigEndian.Uint64(v))), nil
	}
	return 0, fmt.Errorf("of type %d in format %d is not read as a number", f.DataTypeOID, f.Format)
}

// show writes a value for people.
func (a answer) show(row, i int) string {
	v := a.rows[row][i]
	if v == nil {
		return "NULL"
	}
	if x, err := a.number(row, i); err == nil {
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	if a.fields[i].Format == pgtype.TextFormatCode {
		return string(v)
	}
	return fmt.Sprintf("%x", v)
}

// verdict says how two answers compare.
type verdict uint8

const (
	unequal     verdict = iota
	withinBound         // equal but for sums of floats that were added in another order
	equal
)

func (v verdict) String() string { return [...]string{"NO", "bound", "yes"}[v] }

// summed names a column with a sum or an average of floats, all of one sign, and
// the column with their number n in the same row. Summing in another order may
// change it by 2 n 2^-53 times the sum of the absolute values, which for a sum of
// one sign, and for an average after the division of both by n, is 2 n 2^-53 times
// the value itself.
type summed struct{ column, count string }

// compare compares two answers of one statement: columns with their names and
// types, rows in order, the command tag, or the error. An answer without rows
// never compares equal: it proves nothing. The text says what differs first, or by
// how much the worst float.
func compare(through, without answer, sums []summed) (verdict, string) {
	if through.err != nil || without.err != nil {
		return compareErrors(through.err, without.err)
	}
	if len(through.fields) != len(without.fields) {
		return unequal, fmt.Sprintf("%d columns through, %d without", len(through.fields), len(without.fields))
	}
	for i, a := range through.fields {
		b := without.fields[i]
		if a.Name != b.Name || a.DataTypeOID != b.DataTypeOID || a.TypeModifier != b.TypeModifier ||
			a.DataTypeSize != b.DataTypeSize || a.Format != b.Format {
			return unequal, fmt.Sprintf("column %d is %s of type %d (%d) through, %s of type %d (%d) without",
				i+1, a.Name, a.DataTypeOID, a.TypeModifier, b.Name, b.DataTypeOID, b.TypeModifier)
		}
	}
	if through.tag != without.tag {
		return unequal, fmt.Sprintf("command tag %q through, %q without", through.tag, without.tag)
	}
	if len(through.rows) != len(without.rows) {
		return unequal, fmt.Sprintf("%d rows through, %d without", len(through.rows), len(without.rows))
	}
	if len(through.rows) == 0 {
		return unequal, "no rows: nothing was compared"
	}
	result, worst, worstNote := equal, 0.0, ""
	for row := range through.rows {
		for i := range through.fields {
			a, b := through.rows[row][i], without.rows[row][i]
			if bytes.Equal(a, b) && (a == nil) == (b == nil) {
				continue
			}
			part, ok := ofBound(through, without, sums, row, i)
			note := fmt.Sprintf("row %d, %s: %s through, %s without",
				row+1, through.fields[i].Name, through.show(row, i), without.show(row, i))
			if ok {
				note += fmt.Sprintf(", %.2g of the bound", part)
			}
			if !ok || !(part <= 1) { // NaN is no proof
				return unequal, note
			}
			result = withinBound
			if part >= worst {
				worst, worstNote = part, note
			}
		}
	}
	return result, worstNote
}

func compareErrors(through, without *pgconn.PgError) (verdict, string) {
	switch {
	case through == nil:
		return unequal, "fails without: " + without.Error()
	case without == nil:
		return unequal, "fails through: " + through.Error()
	case through.Code != without.Code || through.Message != without.Message ||
		through.Detail != without.Detail || through.Hint != without.Hint:
		return unequal, fmt.Sprintf("fails with %v (%s) through, %v (%s) without", through, through.Detail, without, without.Detail)
	}
	return equal, ""
}

// ofBound gives the difference of two values of a column of sums as a part of
// what summing in another order may change; false for other columns.
func ofBound(through, without answer, sums []summed, row, i int) (float64, bool) {
	for _, s := range sums {
		if s.column != through.fields[i].Name || through.fields[i].DataTypeOID != pgtype.Float8OID {
			continue
		}
		count := without.column(s.count)
		if count < 0 {
			return 0, false
		}
		a, errA := through.number(row, i)
		b, errB := without.number(row, i)
		n, errN := without.number(row, count)
		if errA != nil || errB != nil || errN != nil {
			return 0, false
		}
		if a == b {
			return 0, true
		}
		return math.Abs(a-b) / math.Ldexp(2*n*max(math.Abs(a), math.Abs(b)), -53), true
	}
	return 0, false
}
