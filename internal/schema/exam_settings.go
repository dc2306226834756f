package schema

import (
	"fmt"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// rule is a setting that defeats us when it has a bad value.
type rule struct {
	code, setting string
	bad           func(value string) bool
	good          string // SQL, for where no ALTER … RESET takes the bad value away
	clients       bool   // it matters for every role, not for the gateway's alone
	text          string
}

func is(bad string) func(string) bool {
	return func(v string) bool { return strings.EqualFold(v, bad) }
}

// set is a timeout that is not off.
func set(v string) bool { return strings.Trim(v, "0smhindu ") != "" }

const timeoutText = "%s is %s: a migration, a refresh or an index build that takes longer is broken off"

var settingRules = []rule{
	{"cagg-rewrites", "timescaledb.enable_cagg_rewrites", is("on"), "off", true, "%s is %s: TimescaleDB itself rewrites the statements by which freshness is proven"},
	{"triggers-off", "session_replication_role", is("replica"), "origin", true, "%s is %s: triggers do not fire, the gateway's neither"},
	{"read-only", "default_transaction_read_only", is("on"), "off", false, "%s is %s: nothing can be written"},
	{"serializable", "default_transaction_isolation", is("serializable"), catalog.Literal("read committed"), true, "%s is %s: no statement is answered from an aggregate"},
	{"asynchronous-commit", "synchronous_commit", is("off"), "on", true, "%s is %s: a crash of the server may lose the last transactions that clients were told of"},
	{"jit", "jit", is("on"), "off", true, "%s is %s: statements over many chunks are compiled for longer than they run"},
	{"session-timeout", "statement_timeout", set, "0", false, timeoutText},
	{"session-timeout", "transaction_timeout", set, "0", false, timeoutText},
	{"session-timeout", "lock_timeout", set, "0", false, "%s is %s: a migration that waits for a lock is broken off"},
	{"session-timeout", "idle_in_transaction_session_timeout", set, "0", false, "%s is %s: a client of the gateway's role that pauses in a transaction is dropped, whatever limits.idle_in_transaction_timeout says"},
	{"session-timeout", "idle_session_timeout", set, "0", false, "%s is %s: the server closes connections that rest in the pool"},
}

// settingsSQL gives what is in force here, with its source, and what ALTER ROLE and
// ALTER DATABASE set for this database: kind, setting, value, source or role, database.
const settingsSQL = `
SELECT 'here', name, CASE source WHEN 'session' THEN reset_val ELSE setting END, source, '' FROM pg_settings
WHERE name IN ('timescaledb.enable_cagg_rewrites', 'session_replication_role', 'default_transaction_read_only', 'default_transaction_isolation',
  'synchronous_commit', 'jit', 'statement_timeout', 'transaction_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
  'idle_session_timeout', 'search_path')
UNION ALL
SELECT 'set', split_part(c, '=', 1), substr(c, strpos(c, '=') + 1), coalesce(r.rolname, ''), coalesce(d.datname, '')
FROM pg_db_role_setting s
CROSS JOIN unnest(s.setconfig) c
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE s.setdatabase = 0 OR d.datname = current_database()`

// roleSetting is what ALTER ROLE or ALTER DATABASE set; "" is all roles, all
// databases.
type roleSetting struct{ name, value, role, database string }

// reset is the statement that takes it away.
func (s roleSetting) reset() string {
	role := "ROLE ALL"
	if s.role != "" {
		role = "ROLE " + catalog.Quote(s.role)
	}
	switch {
	case s.role == "" && s.database != "":
		return fmt.Sprintf("ALTER DATABASE %s RESET %s;", catalog.Quote(s.database), s.name)
	case s.database != "":
		return fmt.Sprintf("ALTER %s IN DATABASE %s RESET %s;", role, catalog.Quote(s.database), s.name)
	}
	return fmt.Sprintf("ALTER %s RESET %s;", role, s.name)
}

// readSettings gives the settings in force by name, as they were before the session
// itself set any, and what ALTER … SET says.
func (e *exam) readSettings() (here map[string]string, made []roleSetting, err error) {
	rows, err := e.ask("settings", settingsSQL, 5)
	if err != nil {
		return nil, nil, err
	}
	here = map[string]string{}
	for _, row := range rows {
		switch {
		case row[0] == "set":
			made = append(made, roleSetting{row[1], row[2], row[3], row[4]})
		case row[3] != "client":
			here[row[1]] = row[2]
		}
	}
	return here, made, nil
}

// settings says which of them hurt.
func (e *exam) settings() error {
	here, made, err := e.readSettings()
	if err != nil {
		return err
	}
	for _, r := range settingRules {
		var mend []string
		bad := ""
		for _, m := range made {
			mine := m.role == "" || m.role == e.v.role
			if m.name == r.setting && r.bad(m.value) && (mine || r.clients) {
				mend = append(mend, m.reset())
				bad = m.value
			}
		}
		if v, ok := here[r.setting]; ok && r.bad(v) && len(mend) == 0 {
			bad = v
			to := "DATABASE " + catalog.Quote(e.v.database)
			if !r.clients {
				to = fmt.Sprintf("ROLE %s IN DATABASE %s", catalog.Quote(e.v.role), catalog.Quote(e.v.database))
			}
			mend = append(mend, fmt.Sprintf("ALTER %s SET %s = %s;", to, r.setting, r.good))
		}
		if bad == "" || r.code == "jit" && !e.v.jit || r.code == "cagg-rewrites" && e.s.Timescale == "" || r.code == "read-only" && e.s.InRecovery {
			continue
		}
		if r.code == "read-only" { // its own ALTER would be refused
			mend = append([]string{"SET default_transaction_read_only = off;"}, mend...)
		}
		e.find(r.code, fmt.Sprintf(r.text, r.setting, bad), mend...)
	}
	if e.s.InRecovery {
		e.find("standby", "the server is a standby: it takes no writes, and no k-NN answers are kept")
	}
	if err := e.userCode(); err != nil {
		return err
	}
	if skew := e.v.skew; skew.Abs() > maxSkew {
		e.find("clock-skew", fmt.Sprintf("this machine's clock and the server's are %s apart", skew.Abs().Round(skewStep))).Advice = "run an NTP client on both"
	}
	return nil
}

// userCodeSQL gives statements that end what userCode finds: casts with functions that
// no extension made, default operator classes likewise, and login triggers.
const userCodeSQL = `
SELECT 'user-casts', format('DROP CAST (%s AS %s);', c.castsource::regtype, c.casttarget::regtype)
FROM pg_cast c
WHERE c.oid >= 16384 AND c.castfunc >= 16384 AND c.castsource < 16384 AND c.casttarget < 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'user-casts', format('DROP OPERATOR CLASS %I.%I USING %I;', n.nspname, o.opcname, m.amname)
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE o.oid >= 16384 AND o.opcdefault AND o.opcintype < 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_opclass'::regclass AND d.objid = o.oid AND d.deptype = 'e')
UNION ALL
SELECT 'login-triggers', format('ALTER EVENT TRIGGER %I DISABLE;', evtname)
FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D'`

// userCode says which code of users keeps connections from being shared.
func (e *exam) userCode() error {
	if !e.s.UserCasts && !e.s.LoginTriggers {
		return nil
	}
	rows, err := e.ask("casts and login triggers", userCodeSQL, 2)
	if err != nil {
		return err
	}
	mend := map[string][]string{}
	for _, row := range rows {
		mend[row[0]] = append(mend[row[0]], row[1])
	}
	if e.s.UserCasts {
		e.find("user-casts", "a cast between built-in types, or the default operator class of one, runs a user's function: every statement keeps its client's connection", mend["user-casts"]...).Advice = "if nobody needs it"
	}
	if e.s.LoginTriggers {
		e.find("login-triggers", "a login event trigger exists: each client needs a server connection of its own", mend["login-triggers"]...).Advice = "if nobody needs it"
	}
	return nil
}

// searchPath says whether the platform's tables are found by their names.
func (e *exam) searchPath() error {
	const name = "market_data"
	where := ""
	for n := range e.s.Relations {
		if n.Name == name && (where == "" || n.Schema < where) {
			where = n.Schema
		}
	}
	if where == "" || e.relation(name) != nil {
		return nil
	}
	_, made, err := e.readSettings()
	if err != nil {
		return err
	}
	var mend []string
	for _, m := range made {
		if m.name == "search_path" && (m.role == "" || m.role == e.v.role) && !slices.Contains(strings.FieldsFunc(m.value, func(r rune) bool { return r == ',' || r == ' ' || r == '"' }), where) {
			mend = append(mend, m.reset())
		}
	}
	if len(mend) == 0 {
		mend = append(mend, fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET search_path = \"$user\", %s;", catalog.Quote(e.v.role), catalog.Quote(e.v.database), catalog.Quote(where)))
	}
	e.find("search-path", fmt.Sprintf("the search path (%s) does not lead to schema %s, where %s is: tables are not found by their names", commas(e.v.searchPath), where, name), mend...)
	return nil
}

// connections says whether the server has as many as the gateway may open.
func (e *exam) connections() error {
	need := e.o.PoolSize
	if need == 0 {
		return nil
	}
	need++ // the one that migrates
	database, role := catalog.Quote(e.v.database), catalog.Quote(e.v.role)
	const lower = "or lower pool.size and pool.overflow; each database and user that logs in has a pool of its own"
	switch free := e.v.maxConnections - e.v.reserved; {
	case need > free:
		e.find("pool-too-large", fmt.Sprintf("the pool may open %d connections, the server has %d (max_connections %d, %d of them reserved)", need, free, e.v.maxConnections, e.v.reserved),
			fmt.Sprintf("ALTER SYSTEM SET max_connections = %d;", roomFor(need)+e.v.reserved)).Advice = as("a superuser") + ", then restart the server; " + lower
	case need*10 > free*9:
		e.find("pool-tight", fmt.Sprintf("the pool may take %d of the server's %d connections: little is left for others", need, free),
			fmt.Sprintf("ALTER SYSTEM SET max_connections = %d;", roomFor(need)+e.v.reserved)).Advice = as("a superuser") + ", then restart the server; " + lower
	}
	var mend, limits []string
	if l := e.v.roleLimit; l >= 0 && l < need {
		limits = append(limits, fmt.Sprintf("role %s may have %d connections", e.v.role, l))
		mend = append(mend, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT -1;", role))
	}
	if l := e.v.databaseLimit; l >= 0 && l < need {
		limits = append(limits, fmt.Sprintf("database %s may have %d connections", e.v.database, l))
		mend = append(mend, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT -1;", database))
	}
	if len(mend) > 0 {
		e.find("connection-limit", fmt.Sprintf("%s, the pool may open %d", commas(limits), need), mend...).Advice = as("a superuser") + "; " + lower
	}
	return nil
}

// roomFor is a number of connections of which n are less than nine tenths.
func roomFor(n int) int { return n*10/9 + 1 }
