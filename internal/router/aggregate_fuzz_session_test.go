package router

import (
	"strings"
	"testing"
)

// fuzzSession is what of a session has a say in an answer.
type fuzzSession struct {
	zone, style string // TimeZone and DateStyle
	path        string // search_path
	role        string // "" is the superuser
	trusting    bool   // route.mode is watermark
}

var fuzzPlain = fuzzSession{zone: "UTC", style: "ISO, MDY", path: "public"}

// sql makes it of another one.
func (s fuzzSession) sql(now fuzzSession) string {
	sql := ""
	if s.role != now.role {
		sql = "RESET ROLE; "
	}
	if s.zone != now.zone {
		sql += "SET TimeZone = '" + s.zone + "'; "
	}
	if s.style != now.style {
		sql += "SET DateStyle = '" + s.style + "'; "
	}
	if s.path != now.path {
		sql += "SET search_path = " + s.path + "; "
	}
	if s.role != now.role && s.role != "" {
		sql += "SET ROLE " + s.role
	}
	return sql
}

// forms are what the settings are cases of.
func (s fuzzSession) forms() []string {
	forms := []string{"TimeZone " + s.zone}
	if s.style != fuzzPlain.style {
		forms = append(forms, "DateStyle "+s.style)
	}
	if s.path != fuzzPlain.path {
		forms = append(forms, "search_path "+s.path)
	}
	if s.role != "" {
		forms = append(forms, "role "+s.role)
	}
	if s.trusting {
		forms = append(forms, "mode watermark")
	}
	return forms
}

// as gives the connection that session.
func (r *fuzzRun) as(t *testing.T, s fuzzSession) {
	t.Helper()
	if s == r.session {
		return
	}
	r.exec(t, s.sql(r.session))
	r.session = s
}

func (r *fuzzRun) context(s fuzzSession) *Context {
	s.style = ""
	c := r.contexts[s]
	if c == nil {
		c = liveContext()
		c.TimeZone, c.SearchPath, c.TrustLogs = s.zone, strings.Split(s.path, ", "), s.trusting
		if s.role != "" {
			c.User = s.role
		}
		r.contexts[s] = c
	}
	return c
}

// fuzzRoles are a reader of everything, one of some columns, and one of nothing; and
// a schema whose tables may take a hypertable's name.
const fuzzRoles = `CREATE ROLE fuzz_reader; CREATE ROLE fuzz_columns; CREATE ROLE fuzz_nobody; CREATE SCHEMA fuzz_other;
CREATE FUNCTION fuzz_now_bigint() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT extract(epoch FROM now())::bigint';
CREATE FUNCTION fuzz_now_integer() RETURNS integer LANGUAGE sql STABLE AS 'SELECT extract(epoch FROM now())::integer';
GRANT USAGE ON SCHEMA fuzz_other TO fuzz_reader, fuzz_columns, fuzz_nobody`

const fuzzNoRoles = `RESET ROLE; DROP SCHEMA fuzz_other CASCADE; DROP FUNCTION fuzz_now_bigint(), fuzz_now_integer(); DROP OWNED BY fuzz_reader, fuzz_columns, fuzz_nobody; DROP ROLE fuzz_reader, fuzz_columns, fuzz_nobody`

// episode is something that holds for one case, behind the back of the plans.
type episode struct {
	title    string
	do, undo string
	change   func(*fuzzSession) // of the session that asks
	lie      func(*fuzzSession) // of the one that is planned for
}

// episode gives one that fits the world.
func (w *fuzzWorld) episode() episode {
	reader := func(s *fuzzSession) { s.role = "fuzz_reader" }
	copied := " AS SELECT * FROM public." + w.table + " WHERE " + w.within("") + " OR i4 > 100"
	all := []episode{
		{title: "a temporary table takes the name", do: "CREATE TEMP TABLE " + w.table + copied, undo: "DROP TABLE pg_temp." + w.table},
		{title: "a table in another schema takes the name", do: "CREATE TABLE fuzz_other." + w.table + copied + "; GRANT SELECT ON fuzz_other." + w.table + " TO PUBLIC", undo: "DROP TABLE fuzz_other." + w.table, change: func(s *fuzzSession) { s.path = "fuzz_other, public" }},
		{title: "a role loses its privilege", do: "REVOKE SELECT ON " + w.table + " FROM fuzz_reader", undo: "GRANT SELECT ON " + w.table + " TO fuzz_reader", change: reader},
		{title: "the session has another zone", change: func(s *fuzzSession) { s.zone = w.one("Asia/Kolkata", "America/New_York", "UTC") }, lie: func(s *fuzzSession) { s.zone = w.one("Europe/Berlin", "UTC") }},
	}
	if !w.compressed {
		all = append(all, episode{title: "row security", do: "ALTER TABLE " + w.table + " ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON " + w.table + " USING (g1 = 'a')", undo: "DROP POLICY p ON " + w.table + "; ALTER TABLE " + w.table + " DISABLE ROW LEVEL SECURITY", change: reader})
	}
	return all[w.IntN(len(all))]
}

// session gives the settings of the next case; sure of its zone, "" for any.
func (w *fuzzWorld) session(zone string) fuzzSession {
	s := fuzzPlain
	s.zone, s.trusting = zone, w.trusting
	if w.chance(1, 6) {
		s.style = w.one("SQL, DMY", "German", "Postgres, MDY", "ISO, DMY", "ISO, YMD")
	}
	if w.chance(1, 12) {
		s.path = w.one("fuzz_other, public", "pg_catalog, public", "public, fuzz_other")
	}
	if w.chance(1, 15) {
		s.role = w.one("fuzz_reader", "fuzz_reader", "fuzz_reader", "fuzz_columns", "fuzz_nobody")
	}
	return s
}

// own is what a transaction does before it asks.
func (w *fuzzWorld) own() string {
	switch w.IntN(9) {
	case 0, 1:
		return w.insert(2)
	case 2:
		return "UPDATE " + w.table + " SET i4 = 5, g1 = 'b' WHERE " + w.within("")
	case 3:
		return "DELETE FROM " + w.table + " WHERE " + w.within("")
	case 4:
		return "SAVEPOINT a; DELETE FROM " + w.table + "; ROLLBACK TO SAVEPOINT a"
	case 5:
		return "SAVEPOINT a; " + w.insert(1) + "; RELEASE SAVEPOINT a"
	case 6:
		return "SET LOCAL TimeZone = 'Asia/Kolkata'"
	case 7:
		return "CREATE TEMP TABLE " + w.table + " ON COMMIT DROP AS SELECT * FROM public." + w.table + " LIMIT 30"
	}
	return w.one("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY")
}
