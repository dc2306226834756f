package gateway

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
	"qvpgw/internal/wire"
)

// change is a SET or RESET whose transaction has not ended.
type change struct {
	name string // "": RESET ALL
	sql  string // "": RESET
	// restored: a RESET behind which the connection was given the startup packet's
	// value again.
	restored bool
}

// restores returns the statements that give the connection back what a RESET takes
// away from it: to a client its startup packet's settings are the defaults.
func (s *session) restores(plan *router.Plan) []string {
	if s.cv.tx == wire.FailedTx || len(plan.Statements) != 1 {
		return nil
	}
	set := plan.Statements[0].Setting
	if set == nil || !set.Reset || set.Local {
		return nil
	}
	var sql []string
	for _, x := range s.base.Settings {
		if set.Name == x.Name || set.Name == "" && x.Name != "role" && x.Name != "session_authorization" {
			sql = append(sql, x.SQL)
		}
	}
	return sql
}

// onComplete takes note of a completed statement with effects.
func (s *session) onComplete(r *reply, tag []byte) {
	i := int(r.n)
	r.n++
	if i >= len(r.plan.Statements) {
		s.pin(router.PinSetting) // a rule made more statements of one
		s.kept |= router.PinSetting
		return
	}
	if n := len(tag); n > 0 && tag[n-1] == 0 {
		tag = tag[:n-1]
	}
	st := &r.plan.Statements[i]
	s.recovered(st)
	s.channelsDid(st, string(tag))
	if st.Setting != nil || st.Kind == sqltext.Discard { // anything else changes none
		s.rebased = r.restored || st.Setting != nil && st.Setting.Reset && !st.Setting.Local || string(tag) == "DISCARD ALL"
	}
	switch st.Kind {
	case sqltext.Rollback, sqltext.Commit, sqltext.PrepareTransaction:
		if bytes.Equal(tag, []byte("ROLLBACK")) {
			s.pending = s.pending[:0]
			s.ddl, s.change = false, router.Change{}
			if s.before != nil {
				s.switches = *s.before
			}
		}
		s.before = nil
		s.settleSettings() // what follows in the same text may fail without them
		s.marks = s.marks[:0]
	case sqltext.Savepoint:
		s.marks = append(s.marks, savepoint{st.Name, len(s.pending), s.switches})
	case sqltext.Release:
		if i := s.savepoint(st.Name); i >= 0 {
			s.marks = s.marks[:i]
		}
	case sqltext.RollbackTo:
		if i := s.savepoint(st.Name); i >= 0 {
			s.pending = s.pending[:min(len(s.pending), s.marks[i].pending)]
			s.switches = s.marks[i].switches
			s.marks = s.marks[:i+1]
		} else if len(s.pending) > 0 {
			s.pin(router.PinSetting) // which of them are gone is not followed
			s.kept |= router.PinSetting
		}
	case sqltext.Discard:
		if bytes.Equal(tag, []byte("DISCARD ALL")) {
			s.discarded()
		}
	case sqltext.Deallocate:
		if st.Name == "" {
			s.dropStatements()
			s.conn.ForgetAll()
		} else {
			s.forget(st.Name)
		}
	case sqltext.Prepare:
		if r.stmt != nil {
			s.made(r.stmt, r.name)
		}
	}
	if set := st.Setting; set != nil && set.Local {
		s.local = s.local || meaning(set.Name)
		s.literals = s.literals || slices.Contains(literalSettings, set.Name)
	} else if set != nil {
		if set.Name == "datestyle" || set.Name == "" {
			s.dated = !set.Reset // that goes back to the startup packet's, which is whole
		}
		s.literals = s.literals || set.Name == "" || slices.Contains(literalSettings, set.Name)
		c := change{name: set.Name, sql: set.SQL}
		if set.Reset {
			c.sql, c.restored = "", r.restored
		}
		s.pending = append(s.pending, c)
	}
}

// savepoint is one of the open transaction, and how many pending changes are older.
type savepoint struct {
	name    string
	pending int
	switches
}

// savepoint returns the index of the newest savepoint of that name, -1 without one.
func (s *session) savepoint(name string) int {
	for i := len(s.marks) - 1; i >= 0; i-- {
		if s.marks[i].name == name {
			return i
		}
	}
	return -1
}

// discarded is what DISCARD ALL means: the connection is as new, the client has
// its startup settings and nothing else.
func (s *session) discarded() {
	s.dropStatements()
	s.hearOut()
	s.unlistenAll()
	s.conn.ForgetAll()
	s.conn.Bucket = s.pool.Empty()
	s.conn.Dirty = s.mode == Session
	s.conn.SequenceOwner = 0
	s.bucket = s.base
	s.pending, s.local, s.literals = s.pending[:0], false, false
	s.pins.Store(0)
	s.doubts, s.lasting, s.fixed = nil, false, false
	s.due, s.names, s.kept, s.counted = 0, nil, 0, 0
}

// literalSettings decide how a text's literals are read when it is parsed.
var literalSettings = []string{"datestyle", "intervalstyle", "timezone", "standard_conforming_strings", "backslash_quote"}

// meaning says whether a setting decides what a text means: what its names resolve
// to, or how its literals are read.
func meaning(setting string) bool {
	switch setting {
	case "", "search_path", "role", "session_authorization", "client_encoding":
		return true
	}
	return slices.Contains(literalSettings, setting)
}

// unsettled says whether the open transaction has settings that are not, or not
// yet, the session's.
func (s *session) unsettled() bool { return len(s.pending) > 0 || s.local || s.due&readBack != 0 }

// settingsReady is called for a ReadyForQuery: without an open transaction what is
// pending was committed or, after an error, undone. In a failed transaction a
// savepoint may bring it back.
func (s *session) settingsReady() {
	if s.cv.tx == wire.Idle {
		if s.undone {
			s.pending = s.pending[:0]
		}
		s.settleSettings()
		s.marks = s.marks[:0]
		s.settleDateStyle()
		if s.due&readBack == 0 {
			s.local, s.literals = false, false
		}
	}
	s.undone = false
}

// awaitFate has the fate of every setting that was sent, and of the end of a failed
// transaction, known before a text that it may give another meaning is looked at; left:
// the group has failed meanwhile, and the message with it.
func (s *session) awaitFate(m *message) (left bool, err error) {
	if !s.fateInFlight() {
		return false, nil
	}
	if err := s.drain(); err != nil {
		return false, err
	}
	if s.cv.skip {
		s.leave(m)
	}
	return s.cv.skip, nil
}

// fateInFlight says whether a SET, or what may end a failed transaction, was sent whose
// completion is not known.
func (s *session) fateInFlight() bool {
	for i := range s.cv.queue.n {
		if p := s.cv.queue.at(i).plan; p != nil {
			for j := range p.Statements {
				st := &p.Statements[j]
				if st.Setting != nil || st.Kind == sqltext.Discard || s.cv.tx == wire.FailedTx && recovers[st.Kind] {
					return true
				}
			}
		}
	}
	return false
}

// recovers are the kinds of statements after which a failed transaction is none.
var recovers = map[sqltext.Kind]bool{
	sqltext.Commit: true, sqltext.Rollback: true, sqltext.RollbackTo: true, sqltext.PrepareTransaction: true,
}

// recovered follows the end of a failed transaction, or of the part that failed: what
// comes behind it, before the ReadyForQuery, runs.
func (s *session) recovered(st *router.Statement) {
	switch {
	case s.cv.tx != wire.FailedTx || !recovers[st.Kind]:
	case st.Chain || st.Kind == sqltext.RollbackTo:
		s.cv.tx = wire.InTx
	default:
		s.cv.tx = wire.Idle
	}
}

// settleSettings makes the settings of a transaction that has ended count.
func (s *session) settleSettings() {
	if len(s.pending) == 0 {
		return
	}
	s.conn.Bucket = s.apply(s.conn.Bucket, s.pool.Empty())
	s.bucket = s.apply(s.bucket, s.base)
	s.pending = s.pending[:0]
}

// rebase gives a connection that the client keeps the client's own defaults again,
// which a RESET among other statements, or a DISCARD ALL, took away from it.
func (s *session) rebase() error {
	if pool.Same(s.conn.Bucket, s.bucket) {
		return nil
	}
	if err := s.conn.Switch(s.bucket, switchTimeout); err != nil {
		return s.serverGone(err)
	}
	s.conn.Stream.SetDst(s.net)
	return s.report()
}

// settleDateStyle has the buckets hold the whole DateStyle that the server reported
// before its ReadyForQuery: a SET of it may name the style or the order alone and
// leave the other as it was.
func (s *session) settleDateStyle() {
	if !s.dated {
		return
	}
	value := s.conn.Params["DateStyle"]
	if value == "" {
		return
	}
	s.dated = false
	whole := pool.Setting{Name: "datestyle", SQL: "SET datestyle TO '" + value + "'"}
	for _, b := range [...]**pool.Bucket{&s.conn.Bucket, &s.bucket} {
		if *b == nil || (*b).Get(whole.Name) == "" {
			continue
		}
		settings := slices.Clone((*b).Settings)
		for i := range settings {
			if settings[i].Name == whole.Name {
				settings[i] = whole
			}
		}
		*b = s.pool.Intern(settings)
	}
}

// apply returns the bucket that the pending changes make of b; what is reset goes
// back to what it is in defaults.
func (s *session) apply(b, defaults *pool.Bucket) *pool.Bucket {
	settings := slices.Clone(b.Settings)
	for _, c := range s.pending {
		base := defaults
		if c.restored {
			base = s.base
		}
		if c.name == "" {
			// RESET ALL leaves the role as it is.
			settings = slices.DeleteFunc(settings, func(x pool.Setting) bool { return x.Name != "role" && x.Name != "session_authorization" })
			for _, x := range base.Settings {
				if x.Name != "role" && x.Name != "session_authorization" {
					settings = append(settings, x)
				}
			}
			continue
		}
		settings = slices.DeleteFunc(settings, func(x pool.Setting) bool {
			return x.Name == c.name || c.name == "session_authorization" && x.Name == "role"
		})
		sql := c.sql
		if sql == "" {
			sql = base.Get(c.name)
		}
		if sql != "" {
			settings = append(settings, pool.Setting{Name: c.name, SQL: sql})
		}
	}
	return s.pool.Intern(settings)
}

// contexts are the router's Contexts of a bucket, by what a session's own switches
// and state say.
type contexts struct {
	by   [2][2][2]*router.Context
	idle time.Duration // idle_session_timeout, 0: none
}

// blind is the context of a session whose settings are not known at the moment, with
// what the server reported of how it reads literals.
var blind = [2]*router.Context{{}, {ConformingStrings: true}}

// context returns what the meaning of the client's next text depends on.
func (s *session) context() *router.Context {
	l := s.learned()
	if l == nil || s.unsettled() {
		reported := s.conn != nil && s.cv.queue.n == 0 && !s.cv.group && s.conn.Params["standard_conforming_strings"] == "on"
		return blind[bit(reported)]
	}
	known := s.pins.Load() == 0
	return l.Extra.(*contexts).by[bit(known)][bit(!s.noRoute)][bit(!s.noCache)]
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// learnQuery asks what a plan depends on besides its text.
const learnQuery = `SELECT pg_catalog.array_to_string(pg_catalog.current_schemas(false), pg_catalog.chr(1)),
	pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('standard_conforming_strings'),
	current_user, pg_catalog.current_setting('default_transaction_isolation'), pg_catalog.current_setting('default_transaction_read_only'),
	pg_catalog.current_setting('idle_session_timeout', true)`

// harmless are the pins of a session whose settings are known all the same.
const harmless = router.PinTemp | router.PinPrepare | router.PinCursor | router.PinListen | router.PinAdvisory | router.PinSequence |
	router.PinSeed | router.PinStatement

// learn asks the server, once for each bucket, what its settings mean. The
// session holds a connection with exactly the bucket's settings.
func (s *session) learn() error {
	if s.learned() != nil || s.conn.Era != s.era || router.Pins(s.pins.Load())&^harmless != 0 || s.unsettled() || !pool.Same(s.conn.Bucket, s.bucket) {
		return nil
	}
	rows, err := s.conn.Query(learnQuery, switchTimeout)
	s.conn.Stream.SetDst(s.net)
	var se *pool.ServerError
	switch {
	case errors.As(err, &se):
		return nil // asked again another time
	case err != nil:
		return s.serverGone(err)
	}
	v := make([]string, 7)
	for i := range v {
		if len(rows) == 1 && i < len(rows[0]) && rows[0][i] != nil {
			v[i] = *rows[0][i]
		}
	}
	var path []string
	if v[0] != "" {
		path = strings.Split(v[0], "\x01")
	}
	x := &contexts{idle: serverTime(v[6])}
	for known := range 2 {
		for route := range 2 {
			for keep := range 2 {
				plain := v[4] == "read committed" || v[4] == "repeatable read" || v[4] == "read uncommitted"
				x.by[known][route][keep] = &router.Context{
					Database: s.database, User: v[3], SearchPath: path, TimeZone: v[1],
					ConformingStrings: v[2] == "on", SettingsKnown: known == 1 && plain,
					Route: route == 1 && !s.srv.opt.NoRoute && !s.srv.opt.NoRouteDatabases[s.database], Cache: keep == 1 && !s.srv.opt.NoCache,
					TrustLogs: s.srv.opt.TrustLogs, NoTables: s.srv.opt.NoRouteTables,
				}
			}
		}
	}
	l := &pool.Learned{Extra: x, Era: s.era}
	for n, val := range s.conn.Params {
		l.Params = append(l.Params, pool.Param{Name: n, Value: val})
	}
	slices.SortFunc(l.Params, func(a, b pool.Param) int { return strings.Compare(a.Name, b.Name) })
	if newer := s.bucket.Learned(); newer == nil || newer.Era < s.era {
		s.bucket.Learn(l)
	}
	return nil
}
