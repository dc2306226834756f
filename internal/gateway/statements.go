package gateway

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// statement is a prepared statement of a client. A named one is shared by all
// clients whose Parse meant the same (trap T5): same text, parameter types, pool
// and settings. On a server connection it is prepared once, under its own name.
type statement struct {
	id      uint64 // unique; also of each Parse of the unnamed statement
	name    string // on the server: "_qvpgw_<id>"; "" unnamed
	sql     []byte
	oids    wire.OIDs
	bucket  *pool.Bucket
	plan    *router.Plan // as of the Parse; see planOf
	now     atomic.Pointer[planned]
	key     string                    // in statements; "" for one that is not shared
	refs    int                       // sessions that know it; under statements.mu
	bySQL   bool                      // made by SQL's PREPARE, which is sql; name is the client's
	shape   atomic.Pointer[string]    // its result columns, nil: not known yet
	retired atomic.Bool               // they have changed: it is refused
	next    atomic.Pointer[statement] // stands for a retired one where the client asks for its columns
	quoted  bool                      // it has literals whose meaning depends on settings
	// skeleton of a text too long to keep, nil without.
	skeleton []byte
	own      bool // prepared by the client under its own name on its pinned connection
}

// planned is a plan with what it was made for.
type planned struct {
	context    *router.Context
	generation uint64
	plan       *router.Plan
}

// planOf returns the plan of a prepared statement for an execution now: settings
// and catalog may have changed since its Parse.
func (s *session) planOf(st *statement) *router.Plan {
	if st.isLong() {
		return s.planOfLong(st)
	}
	if len(st.sql) == 0 {
		return st.plan // our own answers
	}
	c, g := s.context(), s.db.router.Generation()
	if p := st.now.Load(); p != nil && p.context == c && p.generation == g && s.db.fresh.Load() {
		s.generation = g
		return p.plan
	}
	p := s.plan(st.sql)
	if st.name != "" { // the unnamed one seldom runs twice
		st.now.Store(&planned{c, g, p})
	}
	return p
}

// serverPrefix begins the names of shared statements. A client cannot use it.
const serverPrefix = pool.StatementPrefix

// nextStatement numbers statements for the whole process.
var nextStatement atomic.Uint64

// statements interns what clients prepare.
type statements struct {
	mu    sync.Mutex
	known map[string]*statement
}

// get returns the shared statement for st's text, making it of st's copy.
func (t *statements) get(p *pool.Pool, b *pool.Bucket, plan *router.Plan, sql []byte, oids wire.OIDs, shared bool) *statement {
	st := &statement{bucket: b, plan: plan}
	if shared && !plan.Moving {
		var k strings.Builder
		k.Grow(len(b.Key()) + len(sql) + len(oids) + 32)
		k.WriteString(strconv.FormatUint(p.ID, 10))
		k.WriteByte(' ')
		k.WriteString(strconv.Itoa(len(b.Key())))
		k.WriteByte(':')
		k.WriteString(b.Key())
		k.WriteString(strconv.Itoa(len(oids)))
		k.WriteByte(':')
		k.Write(oids)
		k.Write(sql)
		st.key = k.String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.known[st.key]; known != nil && st.key != "" {
		known.refs++
		return known
	}
	st.id = nextStatement.Add(1)
	st.name = serverPrefix + strconv.FormatUint(st.id, 10)
	st.sql, st.oids = bytes.Clone(sql), bytes.Clone(oids)
	st.quoted = quotes(sql)
	st.refs = 1
	if st.key != "" {
		if t.known == nil {
			t.known = map[string]*statement{}
		}
		t.known[st.key] = st
	}
	return st
}

// put gives back what get returned.
func (t *statements) put(st *statement) {
	if st.own {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; st != nil; st = st.next.Load() {
		if st.refs--; st.refs > 0 {
			return
		}
		if st.key != "" && t.known[st.key] == st {
			delete(t.known, st.key)
		}
	}
}

// onParse handles a Parse: statements of our own making are answered here, named
// ones are prepared once for each server connection.
func (s *session) onParse(m *message) error {
	if left, err := s.awaitFate(m); left || err != nil {
		return err
	}
	body, err := s.body(m, s.srv.opt.MaxText)
	if errors.Is(err, wire.ErrBodyTooLarge) {
		return s.parseLarge(m)
	}
	if err != nil {
		return s.clientError(err)
	}
	s.tally().parses.Add(1)
	name, sql, oids, err := wire.ParseParse(body)
	if err != nil {
		return violation("%v", err)
	}
	if err := s.await(sql); err != nil {
		return err
	}
	plan := s.plan(sql)
	s.runs(plan)
	if plan.Names.Channel != nil && s.shares(plan) {
		if s.cv.tx == wire.FailedTx {
			s.leave(m)
			return s.refuse(errAborted(), false)
		}
		plan = channelPlan(plan)
	}
	switch plan.Action {
	case router.Refused:
		s.note(plan)
		s.leave(m)
		return s.refuse(refusal(plan.Refusal), false)
	case router.Local:
		s.leave(m)
		s.remember(name, &statement{id: nextStatement.Add(1), plan: plan, own: true})
		s.cv.expect(reply{msg: wire.Parse, mode: fake, bytes: parseComplete})
		return nil
	case router.Rewrite, router.Cached:
		if m.mem == nil && s.mayAnswer(plan) {
			if held, err := s.startGather(); held || err != nil {
				return err
			}
		}
	}
	if err := s.needs(plan); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	if err := s.showChannels(plan); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	if err := s.useNames(plan); err != nil {
		return err
	}
	if s.cv.skip {
		s.leave(m)
		return nil
	}
	s.pinFor(plan, plan.Pins, sql) // planning may run what the text calls
	if len(name) == 0 {
		s.keepUnnamed(plan, sql, oids)
		s.conn.Unnamed = s.unnamed.id
		s.cv.expect(reply{msg: wire.Parse, stmt: &s.unnamed})
		s.forward(m)
		return nil
	}
	if have := s.named[string(told(name))]; have != nil && !have.own {
		// The name is taken. The server says so, of the name it knows.
		if have.retired.Load() {
			s.leave(m)
			return s.refuse(&Error{Code: "42P05", Message: "prepared statement \"" + string(name) + "\" already exists"}, false)
		}
		if err := s.prepare(have); err != nil {
			return s.unprepared(m, err)
		}
		if s.cv.skip {
			s.leave(m) // it failed meanwhile
			return nil
		}
		s.rename(m, len(name), have.name)
		s.cv.expect(reply{msg: wire.Parse})
		return nil
	}
	st := s.srv.stmts.get(s.pool, s.bucket, plan, sql, oids, !s.unsettled() && len(plan.Names.Uses) == 0)
	if plan.Moving || s.literals && quotes(sql) {
		s.fix() // its literals were read now and must not be read again
	}
	n := s.remember(name, st)
	if s.conn.Has(st.id) && s.cv.tx != wire.FailedTx {
		s.leave(m)
		s.cv.expect(reply{msg: wire.Parse, mode: fake, bytes: parseComplete})
		return nil
	}
	if err := s.makeRoom(st); err != nil {
		return err
	}
	s.rename(m, len(name), st.name)
	s.cv.expect(reply{msg: wire.Parse, stmt: st, name: n})
	return s.describeShape(st, n)
}

var (
	parseComplete = wire.AppendParseComplete(nil)
	bindComplete  = wire.AppendBindComplete(nil)
	closeComplete = wire.AppendCloseComplete(nil)
)

// fix keeps the client on its connection for a statement that must not be parsed again.
func (s *session) fix() {
	s.fixed = true
	s.pin(router.PinStatement)
}

// parseLarge passes a Parse too long to keep: it stays on the connection, under
// the client's own name.
func (s *session) parseLarge(m *message) error {
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, false)
	}
	if err := s.claim(); err != nil {
		return err
	}
	head, err := s.prefix(m, 256)
	if err != nil {
		return s.clientError(err)
	}
	name, _, ok := bytes.Cut(head, []byte{0})
	if !ok || bytes.HasPrefix(name, []byte(serverPrefix)) {
		return violation("a statement's name of more than 255 bytes or of the gateway's own")
	}
	const pins = router.PinUnparsed | router.PinStatement
	s.cv.pins = pins &^ router.Pins(s.pins.Load())
	s.pin(pins)
	st := &statement{id: nextStatement.Add(1), plan: unparsed, own: true}
	n := s.remember(name, st)
	if n == "" {
		s.conn.Unnamed = st.id
		st = &s.unnamed
	}
	if err := s.follow(m, 5+len(name)+1, st); err != nil {
		return err
	}
	s.cv.expect(reply{msg: wire.Parse, stmt: st, name: n})
	s.forward(m)
	return nil
}

// rename sends a Parse with its name, n bytes long, exchanged.
func (s *session) rename(m *message, n int, name string) {
	b := wire.AppendHeader(s.scratch[:0], wire.Parse, m.Len-n+len(name))
	b = append(b, name...)
	s.scratch = b[:0]
	s.replace(m, 5+n, b)
}

// keepUnnamed makes a text the client's unnamed statement.
func (s *session) keepUnnamed(plan *router.Plan, sql []byte, oids wire.OIDs) {
	u := &s.unnamed
	u.id, u.plan, u.bucket, u.own, u.skeleton = nextStatement.Add(1), plan, s.bucket, false, nil
	u.sql, u.oids = append(u.sql[:0], sql...), append(u.oids[:0], oids...)
	u.now.Store(nil)
}

// remember keeps st under the client's name for it.
func (s *session) remember(name []byte, st *statement) string {
	if len(name) == 0 {
		s.keepUnnamed(st.plan, nil, nil)
		s.unnamed.id, s.unnamed.own = st.id, true
		return ""
	}
	if s.named == nil {
		s.named = map[string]*statement{}
	}
	n := string(told(name))
	if old := s.named[n]; old != nil {
		s.srv.stmts.put(old)
	}
	s.named[n] = st
	return n
}

// parseFailed forgets a statement whose Parse came to nothing.
func (s *session) parseFailed(d deadParse) {
	if d.placed {
		if s.conn != nil {
			delete(s.conn.Own, d.name)
		}
		return
	}
	if d.name == "" {
		s.unnamed.id = 0
		if s.conn != nil {
			s.conn.Unnamed = 0
		}
		return
	}
	if s.conn != nil {
		s.conn.Forget(d.stmt.id)
	}
	if s.named[d.name] == d.stmt {
		delete(s.named, d.name)
		s.srv.stmts.put(d.stmt)
	}
}

// dropStatements forgets all of the client's statements.
func (s *session) dropStatements() {
	for n, st := range s.named {
		s.srv.stmts.put(st)
		delete(s.named, n)
	}
	s.unnamed.id = 0
}

// lookup returns the statement that the client calls by name, or nil: then the
// server, which may know one from SQL's PREPARE, is to answer.
func (s *session) lookup(name []byte) *statement {
	if len(name) == 0 {
		if s.unnamed.id == 0 {
			return nil
		}
		return &s.unnamed
	}
	st := s.named[string(told(name))]
	if st != nil && st.key != "" && st.quoted && s.readsOtherwise(st) {
		st = s.fork(string(told(name)), st)
	}
	return st
}

// readsOtherwise says whether literals are read otherwise at the moment than when st
// was parsed.
func (s *session) readsOtherwise(st *statement) bool {
	if s.literals {
		return true
	}
	return st.bucket != s.bucket && slices.ContainsFunc(literalSettings, func(name string) bool {
		return st.bucket.Get(name) != s.bucket.Get(name)
	})
}

// fork makes a shared statement the client's own. The server reads a statement's
// literals again, with the settings of the moment, whenever it has to analyse it
// anew: executed under other settings than its Parse's, a shared one would from then
// on be another statement to those who share it.
func (s *session) fork(name string, st *statement) *statement {
	own := &statement{
		id: nextStatement.Add(1), sql: st.sql, oids: st.oids, bucket: st.bucket, plan: st.plan, quoted: true, refs: 1,
	}
	own.name = serverPrefix + strconv.FormatUint(own.id, 10)
	own.shape.Store(st.shape.Load())
	own.retired.Store(st.retired.Load())
	s.named[name] = own
	s.srv.stmts.put(st)
	return own
}

// prepare has st known to the server connection before the client's next message.
func (s *session) prepare(st *statement) error {
	switch {
	case st.own:
		return nil
	case st.retired.Load() && s.cv.tx != wire.FailedTx:
		return errShape()
	case st.bySQL:
		return s.place(st.name)
	case st.name == "":
		if s.conn.Unnamed == st.id {
			return nil
		}
		s.conn.Unnamed = st.id
	case s.conn.Has(st.id):
		return nil
	default:
		if err := s.makeRoom(st); err != nil {
			return err
		}
	}
	err := s.asParsed(st, s.injectAll, func() error {
		b := wire.AppendParse(s.scratch[:0], st.name, st.sql, st.oids)
		s.scratch = b[:0]
		s.cv.expect(reply{msg: wire.Parse, mode: drop, stmt: st, name: st.name})
		if err := s.client.Inject(b); err != nil {
			return s.clientError(err)
		}
		if st.name == "" {
			return nil
		}
		return s.describeShape(st, "")
	})
	if err != nil || st.name == "" {
		return err
	}
	return s.sameShape(st)
}

// asParsed has parse, which injects st's text, happen under the settings that the
// client parsed it with, which inject sets and takes back.
func (s *session) asParsed(st *statement, inject func([]string) error, parse func() error) error {
	// Its literals were read under certain settings; they are read so again.
	before, after := pool.Switch(s.bucket, st.bucket), pool.Switch(st.bucket, s.bucket)
	literals := s.literals && quotes(st.sql)
	if s.cv.tx == wire.FailedTx {
		before, after = nil, nil // it parses nothing but the end of the transaction, which has no literals
	}
	if s.cv.tx == wire.InTx && s.unsettled() && (literals || len(before) > 0) {
		// What the transaction has set comes back with the savepoint.
		before = append([]string{"SAVEPOINT " + injected}, before...)
		for _, name := range literalSettings {
			if sql := st.bucket.Get(name); sql != "" {
				before = append(before, sql)
			} else {
				before = append(before, "RESET "+name)
			}
		}
		after = []string{"ROLLBACK TO SAVEPOINT " + injected, "RELEASE SAVEPOINT " + injected}
	}
	if err := inject(before); err != nil {
		return err
	}
	if err := parse(); err != nil {
		return err
	}
	return inject(after)
}

// quotes says whether a text may have string literals.
func quotes(sql []byte) bool {
	for i, c := range sql {
		if c == '\'' || c == '$' && i+1 < len(sql) && (sql[i+1] < '0' || sql[i+1] > '9') {
			return true
		}
	}
	return false
}

// makeRoom notes st as prepared on the connection and closes the statement that
// had to go for it.
func (s *session) makeRoom(st *statement) error {
	evict, ok := s.conn.Prepared(st.id)
	if !ok {
		return nil
	}
	b := wire.AppendClose(s.scratch[:0], 'S', serverPrefix+strconv.FormatUint(evict, 10))
	s.scratch = b[:0]
	s.cv.expect(reply{msg: wire.Close, mode: drop})
	if err := s.client.Inject(b); err != nil {
		return s.clientError(err)
	}
	return nil
}

// ownNames has an error's message call the client's statements as the client does;
// false: there was nothing to change.
func (s *session) ownNames(f *wire.ErrorFields) bool {
	i := strings.Index(f.Message, `"`+serverPrefix)
	if i < 0 {
		return false
	}
	name, rest, ok := strings.Cut(f.Message[i+1:], `"`)
	if !ok {
		return false
	}
	for n, st := range s.named {
		if st.name == name {
			f.Message = f.Message[:i+1] + n + `"` + rest
			return true
		}
	}
	return false
}
