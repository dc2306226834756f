package gateway

import (
	"slices"

	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
)

// mark notes what a plan that is about to be sent does to the connection.
func (s *session) mark(plan *router.Plan, sql []byte) error {
	s.wrote = s.wrote || !reads(plan)
	s.noteNotify(plan)
	certain := s.certain(plan, sql)
	s.conn.Once = s.conn.Once || plan.Loads
	s.pinFor(plan, plan.Pins|unsure(plan, certain), sql)
	if len(plan.Warnings) > 0 {
		if err := s.warn(plan); err != nil {
			return err
		}
	}
	if plan.Pins&router.PinUnparsed != 0 {
		s.perhapsDDL = true // it may hold anything
		return s.useSequences(true)
	}
	if !plan.Effects {
		return nil
	}
	for i := range plan.Statements {
		if st := &plan.Statements[i]; st.Nextval || st.Currval {
			if err := s.useSequences(st.Currval); err != nil {
				return err
			}
		}
	}
	s.noteEffects(plan, certain)
	return nil
}

// reads says that a plan's statements are queries that call nothing of which it is not
// known that it only reads.
func reads(plan *router.Plan) bool {
	if plan.Pins != 0 || plan.Effects || len(plan.Statements) == 0 {
		return false
	}
	for i := range plan.Statements {
		if plan.Statements[i].Kind != sqltext.Select {
			return false
		}
	}
	return true
}

// noteEffects notes what a plan does to the catalog.
func (s *session) noteEffects(plan *router.Plan, certain bool) {
	runs, unnamed := false, false
	for i := range plan.Statements {
		st := &plan.Statements[i]
		if st.DDL && runsCode[st.Kind] && !st.Logins {
			s.perhapsDDL = true
		} else {
			// What is dropped although the catalog has not got it is temporary, or new.
			s.ddl = s.ddl || st.DDL || !certain && st.Kind == sqltext.DDL && len(plan.Change.Names) > 0
			runs = runs || st.DDL
			unnamed = unnamed || st.DDL && st.Kind != sqltext.DDL // code that it runs does it
			s.logins = s.logins || st.Logins
		}
	}
	if s.ddl {
		s.change.Add(plan.Change)
		// Code of a user that it runs, and is not known yet, may change anything.
		s.change.Any = s.change.Any || unnamed || runs && !certain || len(s.change.Names) > maxChanged
	}
}

// maxChanged bounds the names that a transaction's changes are told apart by.
const maxChanged = 1000

// runsCode are the kinds of statements that change the catalog only if the user's
// code that they run does. That is looked for in the background, like a change
// that is made beside the gateway: to stop everybody for each call of a function
// would starve them.
var runsCode = map[sqltext.Kind]bool{
	sqltext.Do: true, sqltext.Call: true, sqltext.Select: true, sqltext.With: true, sqltext.Insert: true,
	sqltext.Update: true, sqltext.Delete: true, sqltext.Merge: true, sqltext.Copy: true, sqltext.Explain: true,
	sqltext.Execute: true, sqltext.Declare: true, sqltext.Fetch: true,
}

// certain says that the plan is that of the catalog as it is: no change that is not
// read yet has a say in it, be it of others or of this transaction.
func (s *session) certain(plan *router.Plan, sql []byte) bool {
	if g := s.db.router.Generation(); g != s.generation && len(sql) > 0 {
		s.generation = g // it waited for a server connection since
		if now := s.db.router.Plan(s.context(), sql); now.Pins&^plan.Pins != 0 || !s.db.certainOf(now) {
			return false
		}
	}
	return s.db.certainOf(plan) && !(s.ddl && has(s.change, plan))
}

// has says whether a change has a say in a plan.
func has(c router.Change, plan *router.Plan) bool {
	return c.Any || plan.Mentions(func(id router.Identifier) bool { return slices.Contains(c.Names, id) })
}

// unsure returns PinCatalog for a plan whose statements may run code that it does
// not know of: it is not certain, or a statement before them changes the catalog.
func unsure(plan *router.Plan, certain bool) router.Pins {
	for i := range plan.Statements {
		switch st := &plan.Statements[i]; st.Kind {
		case sqltext.Select, sqltext.With, sqltext.Insert, sqltext.Update, sqltext.Delete, sqltext.Merge, sqltext.Copy, sqltext.Explain, sqltext.Declare, sqltext.Truncate,
			sqltext.Do, sqltext.Call:
			if !certain {
				return router.PinCatalog
			}
		case sqltext.DDL:
			if !certain && plan.Pins&(router.PinFunction|router.PinRelation) != 0 {
				return router.PinCatalog // against what is not there any more, perhaps
			}
			certain = false
		}
	}
	return 0
}
