package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"qvpgw/internal/cache"
	"qvpgw/internal/knn"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// fillQuery goes ahead of a query whose answer may be kept: the snapshot before its own,
// of which server, and whether distances are told in full; router.KNN's Proof is behind it.
const fillQuery = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, pg_catalog.pg_is_in_recovery()::pg_catalog.text, " +
	knn.Server + ", pg_catalog.current_setting('extra_float_digits'), "

// hidden is how many columns of a probe are not the client's.
const hidden = 2

// filling is an answer on its way into memory.
type filling struct {
	g      *group
	proof  *knn.Proof
	probe  *router.Probe // nil: the query itself runs
	facts  knn.Facts
	binary bool // the hidden columns come in binary

	head, body []byte
	early      []byte // notices that came before all else
	rows       int
	last       float64 // distance of the last row, or of the farthest
	unsure     bool    // a distance or a key was not read
	over       bool    // too large to keep
	unsent     int     // bytes passed since the last flush
}

// fill has the server answer g, in one pipeline behind the snapshot that the answer is
// judged from, passes the answer on and keeps it. false: g itself is to be passed.
func (s *session) fill(g *group, mark knn.Mark) (bool, error) {
	s.interrupted = nil
	f := &filling{g: g, proof: &knn.Proof{Nearest: g.plan.KNN.Tables[0], Began: time.Now()}, last: math.Inf(-1)}
	if facts, ok := s.db.memory.log.Facts(f.proof.Nearest); ok && g.plan.KNN.Once && facts.Logged && plainKey(facts.KeyType) {
		if p, ok := s.db.router.Probe(s.context(), g.sql, facts.Key); ok && p.Column == facts.Vector {
			f.probe, f.facts = &p, facts
		}
	}
	b := wire.AppendQuery(s.scratch[:0], fillQuery+g.plan.KNN.Proof)
	b, ok := f.appendRun(b)
	s.scratch = b[:0]
	if !ok {
		return false, nil
	}
	s.conn.Unnamed = 0
	if s.asks(b) != nil {
		s.lose()
		return false, nil // nothing was said yet: it runs on another connection
	}
	rows, err := s.conn.Collect()
	var se *pool.ServerError
	switch {
	case errors.As(err, &se):
		s.noteInterrupt(se.Fields)
	case err != nil:
		s.lose()
		return false, nil
	}
	s.conn.Stream.SetDst(s.net)
	proven := err == nil && f.prove(mark, rows)
	started, whole, err := s.readFill(f)
	s.asking = err != nil
	switch {
	case err != nil:
		return false, err
	case !started && s.interrupted != nil:
		return true, s.injectError(s.interrupted)
	case !started:
		return false, nil
	case whole && proven && !f.over && s.cv.tx == wire.Idle:
		f.keep(s)
	}
	return true, nil
}

// plainKey says whether a type is written the same under all settings.
func plainKey(oid uint32) bool {
	switch oid {
	case oidInt2, oidInt4, oidInt8, oidText, oidVarchar, oidUUID:
		return true
	}
	return false
}

// Types of keys.
const (
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidVarchar = 1043
	oidUUID    = 2950
)

// appendRun appends the messages that run the query; false: they cannot be made.
func (f *filling) appendRun(b []byte) ([]byte, bool) {
	g := f.g
	sql := g.sql
	if f.probe != nil {
		sql = []byte(f.probe.SQL)
	}
	if !g.extended {
		return wire.AppendQuery(b, sql), true
	}
	bind := g.bind
	if n := g.formats.Len(); f.probe != nil && n > 1 {
		// A code for each column: those behind are text.
		cut := len(bind) - len(g.formats) - 2
		if cut < 0 {
			return b, false
		}
		bind = binary.BigEndian.AppendUint16(append([]byte(nil), bind[:cut]...), uint16(n+hidden))
		bind = append(append(bind, g.formats...), make([]byte, 2*hidden)...)
	} else {
		f.binary = n == 1 && g.formats.Of(0) == wire.BinaryFormat
	}
	b = wire.AppendParse(b, "", sql, g.oids)
	b = append(wire.AppendBindHead(b, "", "", len(bind)), bind...)
	b = wire.AppendDescribe(b, 'P', "")
	b = wire.AppendExecute(b, "", 0)
	return wire.AppendSync(b), true
}

// prove reads what fillQuery gave.
func (f *filling) prove(mark knn.Mark, rows [][]*string) bool {
	if len(rows) != 1 || len(rows[0]) != 5 {
		return false
	}
	for _, v := range rows[0] {
		if v == nil {
			return false
		}
	}
	row := rows[0]
	var err error
	if f.proof.Snapshot, err = knn.ParseSnapshot(*row[0]); err != nil || *row[1] != "false" || *row[4] != "t" || !f.proof.Prove(mark, *row[2]) {
		return false
	}
	digits, err := strconv.Atoi(*row[3])
	f.unsure = f.unsure || !f.binary && (err != nil || digits < 1)
	return true
}

// readFill reads the reply and passes it to the client; started says that it did so,
// whole that it was an answer to the end and nothing else.
func (s *session) readFill(f *filling) (started, whole bool, err error) {
	st := &s.conn.Stream
	whole = true
	for {
		h, err := st.Next()
		if err != nil {
			return started, false, s.serverError(err)
		}
		switch h.Type {
		case wire.ParseComplete, wire.BindComplete:
			st.Drop()
			continue
		case wire.DataRow, wire.RowDescription, wire.CommandComplete, wire.ErrorResponse, wire.ParameterStatus, wire.NoticeResponse, wire.ReadyForQuery:
		default:
			whole = false
			st.Drop()
			continue
		}
		body, err := st.Body(wire.MaxMessage)
		if err != nil {
			return started, false, s.serverError(err)
		}
		out := st.Message()
		switch h.Type {
		case wire.RowDescription:
			out = nil
			err = f.columns(st.Message(), body)
		case wire.DataRow, wire.CommandComplete:
			if !started {
				// Only now: after an error the query itself is to run.
				started = true
				if err := st.Inject(append(f.g.appendHead(nil, f.head), f.early...)); err != nil {
					return started, false, s.serverError(err)
				}
			}
			if h.Type == wire.DataRow {
				out, err = f.row(out, body)
			}
			f.take(out, s.srv.live.Load().MaxEntry)
		case wire.ErrorResponse:
			whole = false
			s.conn.Failed()
			if e, err := wire.ParseErrorFields(body); err == nil {
				s.noteInterrupt(e)
			}
		case wire.ParameterStatus:
			whole, out = false, nil
			err = s.conn.NoteParam(body)
		case wire.NoticeResponse:
			whole = false
			if !started {
				f.early = append(f.early, out...)
			}
		case wire.ReadyForQuery:
			s.cv.tx, err = wire.ParseReadyForQuery(body)
		}
		if err != nil {
			return started, false, s.serverGone(err)
		}
		if started && len(out) > 0 {
			if err := st.Inject(out); err != nil {
				return started, false, s.serverError(err)
			}
		}
		st.Drop()
		if h.Type == wire.ReadyForQuery {
			return started, whole, nil
		}
		if started && f.unsent+len(out) > maxScratch {
			if err := st.Flush(); err != nil {
				return started, false, s.serverError(err)
			}
			f.unsent = 0
		}
		f.unsent += len(out)
	}
}

// appendHead appends what comes before the rows in an answer to g.
func (g *group) appendHead(b, head []byte) []byte {
	b = g.appendComplete(b)
	if g.described() {
		b = append(b, head...)
	}
	return b
}

// appendKeptHead is appendHead of an entry.
func (g *group) appendKeptHead(b []byte, e *cache.Entry) []byte {
	b = g.appendComplete(b)
	if g.described() {
		b = e.AppendHead(b)
	}
	return b
}

func (g *group) appendComplete(b []byte) []byte {
	if g.parse {
		b = wire.AppendParseComplete(b)
	}
	if g.extended {
		b = wire.AppendBindComplete(b)
	}
	return b
}

// described says whether the columns are told ahead of the rows.
func (g *group) described() bool { return g.describe || !g.extended }

// columns takes the description of the client's columns.
func (f *filling) columns(m, body []byte) error {
	if f.probe == nil {
		f.head = append([]byte(nil), m...)
		return nil
	}
	fields, err := wire.ParseRowDescription(body)
	if err != nil {
		return err
	}
	if len(fields) <= hidden {
		return errors.New("the server answered a probe without its columns")
	}
	f.head = wire.AppendRowDescription(nil, fields[:len(fields)-hidden])
	return nil
}

// row returns the client's part of a DataRow, and reads the rest.
func (f *filling) row(m, body []byte) ([]byte, error) {
	f.rows++
	if f.probe == nil {
		return m, nil
	}
	if len(body) < 2 || int(binary.BigEndian.Uint16(body)) < hidden {
		return nil, errors.New("the server answered a probe without its columns")
	}
	n := int(binary.BigEndian.Uint16(body)) - hidden
	at := 2
	value := func() ([]byte, bool) {
		if len(body)-at < 4 {
			return nil, false
		}
		size := int32(binary.BigEndian.Uint32(body[at:]))
		at += 4
		if size < 0 {
			return nil, true
		}
		if int(size) > len(body)-at {
			return nil, false
		}
		at += int(size)
		return body[at-int(size) : at : at], true
	}
	for range n {
		if _, ok := value(); !ok {
			return nil, errors.New("the server sent a row that is cut off")
		}
	}
	end := at
	distance, ok := value()
	key, also := value()
	if !ok || !also {
		return nil, errors.New("the server sent a row that is cut off")
	}
	f.note(distance, key)
	out := wire.AppendHeader(make([]byte, 0, end+5), wire.DataRow, end)
	out = binary.BigEndian.AppendUint16(out, uint16(n))
	return append(out, body[2:end]...), nil
}

// note takes a row's distance and key.
func (f *filling) note(distance, key []byte) {
	d, ok := number(distance, f.binary)
	k, also := keyText(key, f.facts.KeyType, f.binary)
	if !ok || !also || math.IsNaN(d) {
		f.unsure = true
		return
	}
	f.last = max(f.last, d)
	f.proof.Keys.Add(k)
}

func number(b []byte, binaryForm bool) (float64, bool) {
	if b == nil {
		return 0, false
	}
	if binaryForm {
		if len(b) != 8 {
			return 0, false
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), true
	}
	d, err := strconv.ParseFloat(string(b), 64)
	return d, err == nil
}

// keyText is a key as the change log has it; false also for one that the client's
// encoding may write otherwise than that of the rounds.
func keyText(b []byte, typ uint32, binaryForm bool) (string, bool) {
	switch {
	case b == nil, slices.ContainsFunc(b, func(c byte) bool { return c >= utf8.RuneSelf }) && (typ == oidText || typ == oidVarchar):
		return "", false
	case !binaryForm, typ == oidText, typ == oidVarchar:
		return string(b), true
	case typ == oidInt2 && len(b) == 2:
		return strconv.Itoa(int(int16(binary.BigEndian.Uint16(b)))), true
	case typ == oidInt4 && len(b) == 4:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(b)))), true
	case typ == oidInt8 && len(b) == 8:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(b)), 10), true
	case typ == oidUUID && len(b) == 16:
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), true
	}
	return "", false
}

// take keeps a part of the answer.
func (f *filling) take(b []byte, most int) {
	if f.over = f.over || len(f.body)+len(b) > most; f.over {
		f.body = nil
		return
	}
	f.body = append(f.body, b...)
}

// keep puts the answer into memory.
func (f *filling) keep(s *session) {
	p, weight := f.proof, int64(0)
	if f.probe == nil || f.unsure {
		p.Keys.Forget()
	} else {
		p.All = !f.probe.Skips // of the rows that were left out no keys are known
		if a := f.area(); a != nil {
			p.Area, weight = a, int64(a.query.Bytes())+128
		}
	}
	p.Finish()
	weight += p.Size()
	s.srv.opt.Cache.Put(s.keptKey, &cache.Answer{
		Head: f.head, Reply: f.body, Rows: f.rows, Proof: p, Weight: weight, Tally: &s.db.memory.of(f.g.plan.KNN.Table).Tally,
	})
}
