package schema

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"qvpgw/internal/catalog"
)

// assumeSQL says which assumptions can be broken on this server: whether there is the
// setting that keeps writes out of TimescaleDB's logs, and attach_chunk.
const assumeSQL = `
SELECT current_setting('timescaledb.skip_cagg_invalidation', true) IS NOT NULL,
       EXISTS (SELECT FROM pg_proc WHERE proname = 'attach_chunk')`

// assumptions names what an answer from an aggregate takes for granted.
func (e *exam) assumptions() error {
	if len(e.s.Aggregates) == 0 {
		return nil
	}
	rows, err := e.ask("what TimescaleDB does not log", assumeSQL, 2)
	if err != nil {
		return err
	}
	const stale = ": an answer from an aggregate would lack what was changed so"
	if !e.o.TrustLogs {
		e.find("assume-merge-chunk", "nobody is taken to run MERGE on a chunk by its own name, or on a hypertable under session_replication_role = replica"+stale)
	}
	if rows[0][0] == "t" {
		e.find("assume-skip-invalidation", "nobody is taken to set timescaledb.skip_cagg_invalidation"+stale)
	}
	if rows[0][1] == "t" {
		e.find("assume-attach-chunk", "attach_chunk is taken to be followed by a refresh of the aggregates"+stale)
	}
	e.find("assume-alter-type", "ALTER TABLE … ALTER COLUMN … TYPE … USING on a hypertable is taken to be followed by a refresh of its aggregates"+stale)
	return nil
}

// loggableSQL lists the tables with a vector column, and the hypertables whose oids
// it is given: schema, table, whether a vector is in it, whether a subscription
// writes it, whether its changes can be logged. It leaves out the tables of names
// that are given, and is empty where there is no change log.
const loggableSQL = `
SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid),
       h.known OR c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT c.oid IN (%[1]s) AS known) h
WHERE to_regprocedure('qvpgw.watch(regclass)') IS NOT NULL
  AND c.relpersistence = 'p' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('_timescaledb_internal', 'qvpgw')
  AND c.oid NOT IN (%[2]s)
  AND (h.known OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid AND t.typname IN ('vector', 'halfvec')
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                            AND t.typnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector')))
ORDER BY 1, 2`

// changeLog says whose changes are not logged although answers need to know them.
func (e *exam) changeLog() error {
	off, err := e.unlogged()
	if err != nil {
		return err
	}
	oids := []string{"0"}
	if !e.o.TrustLogs {
		for _, a := range e.s.Aggregates {
			if t := e.root(a); t != nil {
				oids = append(oids, fmt.Sprint(t.OID))
			}
		}
	}
	rows, err := e.ask("whose changes are logged", fmt.Sprintf(loggableSQL, commas(oids), commas(slices.Sorted(maps.Keys(off)))), 4)
	for _, row := range rows {
		name := catalog.Name{Schema: row[0], Name: row[1]}
		t := e.s.Relations[name]
		if t == nil || t.Log != catalog.NotLogged || t.HypertableID != 0 && !slices.Contains(oids, fmt.Sprint(t.OID)) {
			continue
		}
		switch {
		case row[2] == "t":
			e.find("change-log-missing", fmt.Sprintf("%s is written by a subscription, whose workers fire no triggers of statements: its changes are not known", name.Name)).Advice = "none but to write it through this server; or `off` for it in schema.change_log.tables"
		case row[3] != "t":
			e.find("change-log-missing", fmt.Sprintf("the changes of %s cannot be logged: it has partitions, parents or children, by whose names its rows are written", name.Name)).Advice = "keep vectors in a table without them; or `off` for it in schema.change_log.tables"
		default:
			e.find("change-log-missing", fmt.Sprintf("the changes of %s are not logged: triggers are missing or disabled", name.Name), watchSQL(name)).Advice =
				as("the table's owner and that of schema qvpgw") + "; `on` for it in schema.change_log.tables keeps it so"
		}
	}
	return err
}

// watchSQL is the statement after which a table's changes are logged.
func watchSQL(table catalog.Name) string {
	return fmt.Sprintf("SELECT qvpgw.watch(%s);", catalog.Literal(table.String()))
}

// root is the table that an aggregate's rows come from in the end, nil when the
// catalog does not tell.
func (e *exam) root(a *catalog.Aggregate) *catalog.Relation {
	for raw := a.RawID; ; {
		i := slices.IndexFunc(e.s.Aggregates, func(b *catalog.Aggregate) bool { return b.ID == raw })
		if i < 0 {
			if h := e.s.Hypertables[raw]; h != nil {
				return e.s.Relations[h.Name]
			}
			return nil
		}
		raw = e.s.Aggregates[i].RawID
	}
}

// holdersSQL lists who keeps a snapshot's xmin down for longer than a number of
// seconds, in all databases, the oldest first: process or "" for a prepared
// transaction, its id, role, state, seconds, database, whether that is this one.
const holdersSQL = `
SELECT pid, '', usename, state, seconds, datname, datname = current_database() FROM (
  SELECT pid::text, coalesce(usename, '') AS usename, coalesce(state, '') AS state, extract(epoch FROM now() - xact_start)::bigint AS seconds, coalesce(datname, '') AS datname, backend_xid
  FROM pg_stat_activity
  WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND xact_start <= clock_timestamp() - interval '1 second' * %[1]d
  ORDER BY age(backend_xid) DESC LIMIT 5) a
UNION ALL
SELECT '', gid, owner, 'prepared', seconds, database, database = current_database() FROM (
  SELECT gid, owner, extract(epoch FROM now() - prepared)::bigint AS seconds, database
  FROM pg_prepared_xacts
  WHERE prepared <= clock_timestamp() - interval '1 second' * %[1]d
  ORDER BY age(transaction) DESC LIMIT 5) p`

// settled says which aggregates cannot be settled, and who keeps others from it.
func (e *exam) settled() error {
	if len(e.s.Aggregates) == 0 || e.o.TrustLogs {
		return nil
	}
	var s Settler
	if _, _, err := s.loader.facts(e.ctx, e.q); err != nil {
		return err
	}
	if !s.loader.layout.present || !s.loader.layout.settled {
		return nil
	}
	list, err := s.state(e.ctx, e.q)
	if err != nil {
		return err
	}
	off, err := e.unlogged()
	if err != nil {
		return err
	}
	var waiting []string
	for _, st := range list {
		i := slices.IndexFunc(e.s.Aggregates, func(a *catalog.Aggregate) bool { return a.ID == st.id })
		if i < 0 {
			continue // made since the catalog was read
		}
		a := e.s.Aggregates[i]
		if top, _, due := st.due(); due && (!st.known || top > st.high) {
			waiting = append(waiting, a.View.Name)
		}
		if st.reason == "" || st.reason == UnsettledNoLog && off[st.relation] {
			continue
		}
		if err := e.unsettled(a, st.reason); err != nil {
			return err
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	rows, err := e.ask("who keeps aggregates from being settled", fmt.Sprintf(holdersSQL, int(e.o.LongAfter/time.Second)), 7)
	for _, row := range rows {
		who, mend, advice := "process "+row[0], fmt.Sprintf("SELECT pg_terminate_backend(%s);", row[0]), "if its client does not end it"
		if row[0] == "" {
			who, mend, advice = fmt.Sprintf("transaction %q", row[1]), fmt.Sprintf("ROLLBACK PREPARED %s;", catalog.Literal(row[1])), "or COMMIT PREPARED"
			if row[6] != "t" {
				advice += ", in database " + row[5]
			}
		}
		e.find("settling-held", fmt.Sprintf("%s of %s in database %s, %s, is open for %s and has written: what was refreshed since in %s is not used",
			who, row[2], row[5], row[3], seconds(row[4]), commas(waiting)), mend).Advice = advice
	}
	return err
}

// unlogged are the oids of the tables whose changes shall not be logged.
func (e *exam) unlogged() (map[string]bool, error) {
	off := map[string]bool{"0": true}
	for _, name := range e.o.Unlogged {
		rows, err := e.ask("table "+name, fmt.Sprintf("SELECT coalesce(to_regclass(%s)::oid, 0)", catalog.Literal(name)), 1)
		if err != nil {
			return nil, err
		}
		off[rows[0][0]] = true
	}
	return off, nil
}

// unsettled says what to do about the reason why an aggregate cannot be settled.
func (e *exam) unsettled(a *catalog.Aggregate, reason string) error {
	say := func(why string, mend ...string) *Finding {
		return e.find("aggregate-unsettled", fmt.Sprintf("%s cannot be settled (%s): %s", a.View.Name, reason, why), mend...)
	}
	switch reason {
	case UnsettledNoLog:
		if t := e.root(a); t != nil {
			say("the changes of "+t.Name.Name+" are not logged", watchSQL(t.Name)).Advice = "it is settled soon after"
		}
	case UnsettledPrivilege:
		rows, err := e.ask("the owner of "+a.View.String(), fmt.Sprintf(
			"SELECT r.rolname, r.rolsuper FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = %s::regclass", catalog.Literal(a.View.String())), 2)
		if err != nil {
			return err
		}
		owner, role := catalog.Quote(rows[0][0]), catalog.Quote(e.v.role)
		mend := fmt.Sprintf("GRANT %s TO %s;", owner, role)
		if rows[0][1] == "t" {
			mend = fmt.Sprintf("ALTER MATERIALIZED VIEW %s OWNER TO %s;", a.View, role)
		}
		say(fmt.Sprintf("only its owner %s may refresh it, and role %s is not", rows[0][0], e.v.role), mend).Advice = as("a superuser or " + rows[0][0])
	case UnsettledVersion:
		say("TimescaleDB "+e.s.Timescale+" cannot refresh by force", "ALTER EXTENSION timescaledb UPDATE;").Advice = "with 2.18 or newer installed, as the first statement of a session"
	case UnsettledTime:
		say("its time is neither timestamptz nor timestamp nor date nor an integer").Advice = "a hypertable with a time of one of these types can be; or route.mode: watermark"
	}
	return nil
}
