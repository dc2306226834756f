package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"qvpgw/internal/wire"
)

// Protocol is how statements are sent. The messages are those of libpq.
type Protocol string

const (
	Simple   Protocol = "simple"   // Query
	Extended Protocol = "extended" // Parse, Bind, Describe, Execute, Sync
	Prepared Protocol = "prepared" // Parse once for each client, then the others
)

// ParseProtocol returns the protocol of that name.
func ParseProtocol(name string) (Protocol, error) {
	switch p := Protocol(name); p {
	case Simple, Extended, Prepared:
		return p, nil
	}
	return "", fmt.Errorf("cannot send statements as %q: it is simple, extended or prepared", name)
}

// Script is one transaction: statements that a client sends one after the other. It
// is immutable.
type Script struct{ statements []statement }

// statement is the text between random numbers.
type statement struct {
	parts  []string // one more than ranges
	ranges [][2]int64
}

var randomNumber = regexp.MustCompile(`\{(-?[0-9]+)\.\.(-?[0-9]+)\}`)

// ParseScript reads statements, of which each but the last ends with a semicolon at
// the end of a line. {1..1000} stands for a random number of that range, both ends
// included, new each time: a literal in the simple protocol, else a parameter.
func ParseScript(text string) (*Script, error) {
	s := &Script{}
	var lines []string
	end := func() error {
		one := strings.TrimSpace(strings.Join(lines, "\n"))
		lines = nil
		if one = strings.TrimSuffix(one, ";"); strings.TrimSpace(one) == "" {
			return nil
		}
		st, err := parseStatement(one)
		if err != nil {
			return err
		}
		s.statements = append(s.statements, st)
		return nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		lines = append(lines, line)
		if strings.HasSuffix(line, ";") {
			if err := end(); err != nil {
				return nil, err
			}
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	if len(s.statements) == 0 {
		return nil, errors.New("cannot run a script without a statement")
	}
	return s, nil
}

func parseStatement(text string) (statement, error) {
	var st statement
	if strings.IndexByte(text, 0) >= 0 {
		return st, errors.New("cannot send a statement with a zero byte")
	}
	at := 0
	for _, m := range randomNumber.FindAllStringSubmatchIndex(text, -1) {
		lo, err1 := strconv.ParseInt(text[m[2]:m[3]], 10, 64)
		hi, err2 := strconv.ParseInt(text[m[4]:m[5]], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return st, fmt.Errorf("cannot read %s: %w", text[m[0]:m[1]], err)
		}
		if hi < lo || hi-lo < 0 || hi-lo+1 <= 0 {
			return st, fmt.Errorf("cannot take a random number of %s: the range is empty or too wide", text[m[0]:m[1]])
		}
		st.parts = append(st.parts, text[at:m[0]])
		st.ranges = append(st.ranges, [2]int64{lo, hi})
		at = m[1]
	}
	st.parts = append(st.parts, text[at:])
	return st, nil
}

// random is a new value for the i-th random number.
func (st *statement) random(i int) int64 {
	lo, hi := st.ranges[i][0], st.ranges[i][1]
	return lo + rand.Int64N(hi-lo+1)
}

// literal is the text with random numbers in it.
func (st *statement) literal() string {
	if len(st.ranges) == 0 {
		return st.parts[0]
	}
	var b strings.Builder
	for i := range st.ranges {
		b.WriteString(st.parts[i])
		b.WriteString(strconv.FormatInt(st.random(i), 10))
	}
	b.WriteString(st.parts[len(st.ranges)])
	return b.String()
}

// parameterised is the text with $1, $2 … in it.
func (st *statement) parameterised() string {
	var b strings.Builder
	for i := range st.ranges {
		b.WriteString(st.parts[i])
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i + 1))
	}
	b.WriteString(st.parts[len(st.ranges)])
	return b.String()
}

// appendTo appends the messages that run the statement once and are answered with
// one ReadyForQuery. name is the prepared statement's, "" if there is none.
func (st *statement) appendTo(dst []byte, p Protocol, name string) []byte {
	if p == Simple {
		return wire.AppendQuery(dst, st.literal())
	}
	if p == Extended {
		dst = wire.AppendParse(dst, "", st.parameterised(), nil)
	}
	values := make([][]byte, len(st.ranges))
	for i := range values {
		values[i] = strconv.AppendInt(nil, st.random(i), 10)
	}
	dst = wire.AppendBind(dst, "", name, nil, values, nil)
	dst = wire.AppendDescribe(dst, wire.Portal, "")
	dst = wire.AppendExecute(dst, "", 0)
	return wire.AppendSync(dst)
}
