package gateway

import (
	"errors"
	"math"
	"strconv"
	"time"

	"qvpgw/internal/knn"
	"qvpgw/internal/pool"
	"qvpgw/internal/vector"
	"qvpgw/internal/wire"
)

// nearFilling is a list on its way into memory.
type nearFilling struct {
	s      *session
	g      *group
	n      *nearQuery
	asked  int // rows
	hidden int // columns behind the client's
	proof  *knn.Proof
	digits bool // floats come in full

	head    []byte
	reply   []byte
	ends    []int32
	members []vector.Value
	last    float64
	failed  bool
}

// fillNear has the server answer n once more, with more rows and their vectors, and
// keeps that as a list. It runs behind the answer, which is on its way to the client;
// what goes wrong is the list's loss alone.
func (s *session) fillNear(g *group, n *nearQuery) error {
	if s.conn == nil || s.cv.tx != wire.Idle || s.interrupted != nil {
		return nil
	}
	if err := s.conn.Stream.Flush(); err != nil {
		return s.serverError(err)
	}
	mark, ok := s.db.memory.log.Mark(g.plan.KNN.Tables)
	if facts, known := s.db.memory.log.Facts(g.plan.KNN.Tables[0]); !ok || !known || !facts.Exact {
		return nil
	}
	f := &nearFilling{
		s: s, g: g, n: n, hidden: 2, last: math.Inf(-1),
		asked: min(max(rowsOfList*(n.limit+n.offset), leastRows), mostRows),
		proof: &knn.Proof{Nearest: g.plan.KNN.Tables[0], Began: time.Now()},
	}
	if n.facts.Key != "" {
		f.hidden = 3
	}
	norms := n.op == vector.InnerProduct || n.op == vector.Cosine && n.query.Kind != vector.Halfvec
	b := wire.AppendQuery(s.scratch[:0], fillQuery+g.plan.KNN.Proof)
	if norms {
		b = wire.AppendQuery(b, n.Squares())
	}
	b, ok = f.appendRun(b)
	s.scratch = b[:0]
	if !ok {
		return nil
	}
	s.conn.Unnamed = 0
	if s.asks(b) != nil {
		s.lose()
		return nil
	}
	rows, err := s.collectNear()
	if s.conn == nil {
		return nil
	}
	proven := err == nil && f.prove(mark, rows)
	var squares vector.Norms
	if norms {
		rows, err = s.collectNear()
		if s.conn == nil {
			return nil
		}
		squares, ok = squaresOf(rows)
		proven = proven && err == nil && ok
	}
	f.read()
	s.asking = false
	if s.conn == nil || !proven || f.failed || !f.digits {
		return nil
	}
	list, ok := vector.NewList(n.op, &n.query, f.members, f.last, len(f.members) < f.asked, vector.NormsOfSquares(squares.Min, squares.Max, n.query.Dims()))
	if ok {
		f.proof.All = f.hidden == 3
		s.keepNear(g.plan.KNN.Table, n, f.proof, &nearArea{list, n.query.Kind, f.ends}, f.head, f.reply)
	}
	return nil
}

// collectNear reads one reply of the server; one that cannot be read loses the
// connection.
func (s *session) collectNear() ([][]*string, error) {
	rows, err := s.conn.Collect()
	var se *pool.ServerError
	if err != nil && !errors.As(err, &se) {
		s.lose()
	}
	return rows, err
}

// squaresOf reads what Squares gave.
func squaresOf(rows [][]*string) (n vector.Norms, ok bool) {
	if len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] == nil || rows[0][1] == nil {
		return n, false
	}
	var err, other error
	n.Min, err = strconv.ParseFloat(*rows[0][0], 64)
	n.Max, other = strconv.ParseFloat(*rows[0][1], 64)
	return n, err == nil && other == nil
}

// appendRun appends the messages that run the query.
func (f *nearFilling) appendRun(b []byte) ([]byte, bool) {
	sql, err := f.n.Rows(f.asked, f.n.facts.Key)
	if err != nil {
		return b, false
	}
	g := f.g
	if !g.extended {
		return wire.AppendQuery(b, sql), true
	}
	formats := g.formats
	if n := formats.Len(); n > 1 {
		formats = append(append(wire.Formats(nil), formats...), make([]byte, 2*f.hidden)...)
	}
	b = wire.AppendParse(b, "", sql, g.oids)
	b = wire.AppendBind(b, "", "", g.bound.ParamFormats, g.bound.Params, formats)
	b = wire.AppendDescribe(b, 'P', "")
	b = wire.AppendExecute(b, "", 0)
	return wire.AppendSync(b), true
}

// prove reads what fillQuery gave.
func (f *nearFilling) prove(mark knn.Mark, rows [][]*string) bool {
	of := &filling{proof: f.proof}
	proven := of.prove(mark, rows)
	f.digits = !of.unsure
	return proven
}

// read reads the reply.
func (f *nearFilling) read() {
	s := f.s
	st := &s.conn.Stream
	for {
		h, err := st.Next()
		var body []byte
		if err == nil {
			body, err = st.Body(wire.MaxMessage)
		}
		if err != nil {
			s.lose()
			return
		}
		switch h.Type {
		case wire.ParseComplete, wire.BindComplete, wire.CommandComplete:
		case wire.RowDescription:
			f.columns(body)
		case wire.DataRow:
			f.row(body)
		case wire.ErrorResponse:
			s.conn.Failed()
			f.failed = true
		case wire.ParameterStatus:
			f.failed = true
			err = s.conn.NoteParam(body)
		case wire.ReadyForQuery:
			s.cv.tx, err = wire.ParseReadyForQuery(body)
		default:
			f.failed = true
		}
		st.Drop()
		if err != nil {
			s.lose()
			return
		}
		if h.Type == wire.ReadyForQuery {
			return
		}
	}
}

func (f *nearFilling) columns(body []byte) {
	fields, err := wire.ParseRowDescription(body)
	if err != nil || len(fields) <= f.hidden {
		f.failed = true
		return
	}
	f.head = wire.AppendRowDescription(nil, fields[:len(fields)-f.hidden])
}

// row takes a row apart: the client's columns, and those behind.
func (f *nearFilling) row(body []byte) {
	values, err := wire.ParseDataRow(body, nil)
	n := len(values) - f.hidden
	if err != nil || n < 1 || f.failed {
		f.failed = true
		return
	}
	format := wire.TextFormat
	if f.g.formats.Len() == 1 {
		format = f.g.formats.Of(0)
	}
	d, ok := number(values[n], format == wire.BinaryFormat)
	v, err := vector.Decode(f.n.query.Kind, int16(format), values[n+1])
	if !ok || err != nil || values[n+1] == nil || math.IsNaN(d) || len(f.reply) > f.s.srv.live.Load().MaxEntry {
		f.failed = true
		return
	}
	if f.hidden == 3 {
		k, ok := keyText(values[n+2], f.n.facts.KeyType, format == wire.BinaryFormat)
		if !ok {
			f.failed = true
			return
		}
		f.proof.Keys.Add(k)
	}
	f.last = max(f.last, d)
	f.members = append(f.members, v)
	f.reply = wire.AppendDataRow(f.reply, values[:n])
	f.ends = append(f.ends, int32(len(f.reply)))
}
