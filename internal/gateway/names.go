package gateway

import (
	"bytes"
	"slices"

	"qvpgw/internal/catalog"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// A client's prepared statements have one name space, as the server's have: what
// Parse made and what SQL's PREPARE made. Neither pins. A statement of Parse is
// shared under a name of the gateway's; SQL can name only what is on the
// connection under the client's own name, so what a text names is prepared there
// first (Conn.Own). A connection has such statements of one client at a time;
// another's are removed before anything runs that could see them.

// told is as much of a statement's or portal's name as the server tells it by: it keeps
// NAMEDATALEN - 1 bytes, as of identifiers in a text.
func told(name []byte) []byte { return name[:min(len(name), 63)] }

// codeRuns are the pins of texts that may do anything, look at prepared statements
// included.
const codeRuns = router.PinUnparsed | router.PinFunction | router.PinRelation | router.PinDo | router.PinCatalog

// useNames has the connection ready for a text that may name prepared statements. The
// group that the text is in may have failed meanwhile.
func (s *session) useNames(plan *router.Plan) error {
	n := &plan.Names
	if s.cv.tx == wire.FailedTx {
		return nil // the text will not run
	}
	if len(n.Uses) == 0 && !n.Prepared && plan.Pins&codeRuns == 0 {
		return nil
	}
	if err := s.claim(); err != nil {
		return err
	}
	if n.Prepared && s.mode != Session {
		return s.showStatements()
	}
	for _, name := range n.Uses {
		if err := s.place(name); err != nil {
			return err
		}
	}
	if plan.Pins&codeRuns != 0 {
		for name, st := range s.named {
			if st.bySQL {
				if err := s.place(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// claim removes from the connection another client's statements, and what the
// client itself has ended since, or made anew, on another connection.
func (s *session) claim() error {
	c := s.conn
	if s.cv.tx == wire.FailedTx {
		return nil
	}
	for name := range c.Own {
		if st := s.named[name]; st != nil && s.placed(name, st) {
			continue
		}
		if err := s.inject("DEALLOCATE " + catalog.Quote(name)); err != nil {
			return err
		}
		delete(c.Own, name)
	}
	c.OwnOf = s.owner
	return nil
}

// unready is the error for a text that ends a failed transaction and goes on with what the
// connection is not ready for, since nothing could be sent ahead of it.
func (s *session) unready(plan *router.Plan) *Error {
	if s.cv.tx != wire.FailedTx || len(plan.Statements) < 2 || !recovers[plan.Statements[0].Kind] {
		return nil
	}
	n := &plan.Names
	named := len(n.Uses) > 0 || n.Prepared || plan.Pins&codeRuns != 0
	ready := !n.Listening || !s.listens()
	for name := range s.conn.Own { // another's, or its own that are no more
		st := s.named[name]
		ready = ready && (!named || st != nil && s.placed(name, st))
	}
	for _, name := range n.Uses {
		st := s.named[name]
		ready = ready && (st == nil || st.own || s.placed(name, st))
	}
	for i := range plan.Statements {
		ready = ready && (!plan.Statements[i].Currval || s.conn.SequenceOwner == 0 || s.ownSequences())
	}
	if ready && (!n.Prepared || s.mode == Session || s.allPlaced()) {
		return nil
	}
	return &Error{
		Code: "0A000", Message: "cannot go on in the text that ends a failed transaction", Hint: "Send ROLLBACK by itself first.",
		Detail: "What comes behind it needs prepared statements, values of sequences or channels, which the server connection is given before a text.",
	}
}

// place has the client's statement of that name be on the connection under it.
func (s *session) place(name string) error {
	st := s.named[name]
	if st == nil || st.own || s.conn.Own[name] == st.id {
		return nil
	}
	if err := s.claim(); err != nil {
		return err
	}
	if s.conn.Own == nil {
		s.conn.Own = map[string]uint64{}
	}
	s.conn.Own[name] = st.id
	if len(s.conn.Own) > maxOwn {
		s.conn.Dirty = true
	}
	return s.asParsed(st, s.injectEach, func() error {
		if st.bySQL {
			return s.injectFor(string(st.sql), reply{stmt: st, name: name, placed: true})
		}
		return s.parseAs(name, st)
	})
}

// maxOwn bounds the statements of one client that stay on a connection, under their
// own names, for when it comes back.
const maxOwn = 256

// parseAs prepares st on the connection under another name than its own.
func (s *session) parseAs(name string, st *statement) error {
	lone := !s.cv.group
	b := wire.AppendParse(s.scratch[:0], name, st.sql, st.oids)
	s.cv.expect(reply{msg: wire.Parse, mode: drop, stmt: st, name: name, placed: true, quiet: s.quiet && lone})
	if lone {
		b = wire.AppendSync(b)
		s.cv.expect(reply{msg: wire.Sync, mode: drop})
	}
	s.scratch = b[:0]
	if err := s.client.Inject(b); err != nil {
		return s.clientError(err)
	}
	return nil
}

// showStatements has the connection hold the client's statements under their own
// names and no others, for a text that looks at pg_prepared_statements. One that cannot
// be prepared any more, since what it names is gone, is seen as long as the client
// stays on the connection.
func (s *session) showStatements() error {
	if s.allPlaced() {
		return nil
	}
	// What is removed must not be taken for gone because its group failed before.
	if err := s.drain(); err != nil || s.cv.skip {
		return err
	}
	if s.pins.Load() != 0 || s.due != 0 {
		// There may be statements that nobody but the server knows of: of code, or of a
		// PREPARE among other statements.
		if err := s.inject(deallocateShared); err != nil {
			return err
		}
		s.conn.ForgetShared()
	} else {
		if err := s.inject("DEALLOCATE ALL"); err != nil {
			return err
		}
		s.conn.ForgetAll()
	}
	names := make([]string, 0, len(s.named))
	for name := range s.named {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(s.named[a].id) - int(s.named[b].id) })
	for _, name := range names {
		if err := s.tryPlace(name); err != nil {
			return err
		}
	}
	return nil
}

// deallocateShared removes the statements that have names of the gateway's.
const deallocateShared = `DO $$ DECLARE n text; BEGIN
	FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE pg_catalog.starts_with(name, '` + serverPrefix + `') LOOP
		EXECUTE pg_catalog.format('DEALLOCATE %I', n);
	END LOOP;
END $$`

// allPlaced says whether the connection has the client's statements under their own
// names already, and nothing else.
func (s *session) allPlaced() bool {
	if s.conn.Shared() > 0 || len(s.conn.Own) != len(s.named) {
		return false
	}
	for name, st := range s.named {
		if !s.placed(name, st) {
			return false
		}
	}
	return true
}

// tryPlace is place for a statement that the client's text does without.
func (s *session) tryPlace(name string) error {
	if s.cv.group {
		return s.place(name)
	}
	s.quiet = true
	defer func() { s.quiet = false }()
	if s.cv.tx != wire.InTx {
		return s.place(name)
	}
	if err := s.inject("SAVEPOINT " + injected); err != nil {
		return err
	}
	if err := s.place(name); err != nil {
		return err
	}
	return s.injectEach([]string{"ROLLBACK TO SAVEPOINT " + injected, "RELEASE SAVEPOINT " + injected})
}

// makes returns what a text that is one PREPARE will have made, and under which
// name, once it is complete.
func (s *session) makes(plan *router.Plan, sql []byte) (st *statement, name string) {
	name = plan.Names.Prepares
	if name == "" || s.named[name] != nil || s.cv.tx == wire.FailedTx {
		return nil, ""
	}
	if plan.Moving || s.literals && quotes(sql) {
		s.fix() // its literals are read now and must not be read again
	}
	return &statement{
		id: nextStatement.Add(1), name: name, sql: bytes.Clone(sql), bucket: s.bucket, plan: plan, bySQL: true, refs: 1,
	}, name
}

// made takes note of a completed PREPARE.
func (s *session) made(st *statement, name string) {
	if s.named == nil {
		s.named = map[string]*statement{}
	}
	s.named[name] = st
	if s.conn.Own == nil {
		s.conn.Own = map[string]uint64{}
	}
	s.conn.Own[name], s.conn.OwnOf = st.id, s.owner
}

// executes notes what the statements that a text executes do to the connection.
func (s *session) executes(plan *router.Plan) error {
	for _, name := range plan.Names.Executes {
		st := s.named[name]
		if st == nil || st.own {
			continue
		}
		if err := s.mark(s.planOf(st), st.sql); err != nil {
			return err
		}
	}
	return nil
}

// deallocates answers a DEALLOCATE of a statement that the connection has not
// under the client's name; one that it has, the server is told of, too.
func (s *session) deallocates(plan *router.Plan) bool {
	if len(plan.Statements) != 1 || plan.Statements[0].Kind != sqltext.Deallocate || s.cv.tx == wire.FailedTx {
		return false
	}
	name := plan.Statements[0].Name
	st := s.named[name]
	if st == nil || st.own || s.placed(name, st) {
		return false
	}
	s.forget(name)
	return true
}

// placed says whether the connection has the client's statement under its own name.
func (s *session) placed(name string, st *statement) bool {
	return s.conn != nil && s.conn.OwnOf == s.owner && s.conn.Own[name] == st.id
}

// forget ends one of the client's statements.
func (s *session) forget(name string) {
	st := s.named[name]
	if st == nil {
		return
	}
	if s.placed(name, st) {
		delete(s.conn.Own, name)
	}
	delete(s.named, name)
	s.srv.stmts.put(st)
}
