package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/migrations"
)

// Names of capabilities in a Report.
const (
	CapPooling    = "pooling"
	CapAggregates = "aggregates" // answering from continuous aggregates
	CapKNN        = "knn-cache"  // answering repeated k-NN queries from memory
	CapPolicies   = "policies"   // compression, retention and refresh by TimescaleDB's jobs
)

// healed is the first version of TimescaleDB without known cases in which a
// changed range is lost from the invalidation logs; unproven is the first whose
// logs the proof of freshness does not know.
var (
	healed   = version{2, 29, 0}
	unproven = version{2, 30, 0}
)

// DoctorOptions is what doctor compares the database with.
type DoctorOptions struct {
	PoolSize   int              // server connections that the gateway may open; 0: not compared
	Demanded   []string         // extensions that the configuration demands
	Without    []string         // extensions that it does without: they are not missed
	Unlogged   []string         // tables whose changes the configuration does not want logged: it is not missed
	TrustLogs  bool             // TimescaleDB's logs are taken for the truth: neither change log nor settled points are asked for
	AuthQuery  bool             // users are looked up in pg_authid
	Policies   *Policies        // wanted; nil: not compared
	LongAfter  time.Duration    // age at which a transaction is long; 0: five minutes
	Migrations fs.FS            // nil: those built into the program
	Now        func() time.Time // this machine's clock; nil: time.Now
}

// exam is one examination.
type exam struct {
	ctx context.Context
	q   Query
	o   DoctorOptions
	v   vitals
	s   *catalog.Snapshot
	r   *Report
}

// Doctor examines a database: what it is, what the gateway can therefore do, and
// what stands in the way. It changes nothing and needs no privilege.
func Doctor(ctx context.Context, q Query, o DoctorOptions) (Report, error) {
	if o.Migrations == nil {
		o.Migrations = migrations.Files
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.LongAfter = cmp.Or(o.LongAfter, 5*time.Minute)
	// A migration, or one that was killed, may hold what is asked for.
	if _, err := q(ctx, "SET lock_timeout = '2s'"); err != nil {
		return Report{}, fmt.Errorf("cannot examine the database: %w", err)
	}
	v, err := readVitals(ctx, q, o.Now)
	if err != nil {
		return Report{}, err
	}
	s, err := Load(ctx, q)
	if lockTimeout(err) {
		return Report{}, errors.New("cannot examine the database: another session holds a lock that keeps everybody from reading; `qvpgw migrate status` says whether it is a migration")
	}
	if err != nil {
		return Report{}, err
	}
	status, err := NewMigrator("", Options{Files: o.Migrations}).statusBy(ctx, q)
	if err != nil {
		return Report{}, err
	}
	r := Report{
		Server: "PostgreSQL " + v.version, ServerVersion: s.ServerVersion,
		Timescale: s.Timescale, Vector: s.Vector,
		Database: v.database, Role: v.role, InRecovery: s.InRecovery, Prepared: v.prepared, MaxConnections: v.maxConnections,
		Migrations: status, Hypertables: userHypertables(s), Aggregates: len(s.Aggregates), Findings: []Finding{},
	}
	if s.Timescale != "" {
		r.Edition = map[bool]string{true: "Community", false: "Apache"}[s.Community]
	}
	r.Capabilities = capabilities(s, o.Without)
	e := &exam{ctx: ctx, q: q, o: o, v: v, s: s, r: &r}
	for _, look := range []func() error{
		e.extensions, e.migrations, e.platform, e.privileges, e.settings, e.connections,
		e.aggregates, e.changeLog, e.settled, e.assumptions, e.policies, e.jobs, e.vectors, e.invalidIndexes, e.transactions,
	} {
		err := look()
		if lockTimeout(err) {
			err = e.locked()
		}
		if err != nil {
			return Report{}, err
		}
	}
	order := []Level{Fault, Warning, Note}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	return r, nil
}

// find reports something. mend are the commands that mend it, in order: SQL with a
// semicolon at its end, or the program's own.
func (e *exam) find(code, text string, mend ...string) *Finding {
	k := kindOf(code)
	e.r.Findings = append(e.r.Findings, Finding{Level: k.Level, Code: code, Text: text, Off: k.Off, Mend: mend})
	return &e.r.Findings[len(e.r.Findings)-1]
}

// ask is read with the exam's query.
func (e *exam) ask(what, sql string, width int) ([][]string, error) {
	return read(e.ctx, e.q, what, sql, width)
}

func userHypertables(s *catalog.Snapshot) int {
	n := len(s.Hypertables)
	for _, a := range s.Aggregates {
		if s.Hypertables[a.ID] != nil {
			n--
		}
	}
	return n
}

// capabilities says what the gateway can do with this database.
func capabilities(s *catalog.Snapshot, without []string) []Capability {
	community := "TimescaleDB " + s.Timescale + ", Community edition"
	lacking := ""
	switch {
	case slices.Contains(without, "timescaledb"):
		lacking = "schema.timescaledb is off"
	case s.Timescale == "":
		lacking = "TimescaleDB is missing"
	case !s.Community:
		lacking = "TimescaleDB " + s.Timescale + " is the Apache edition, which has none"
	}
	aggregates := Capability{Name: CapAggregates, Why: lacking}
	if lacking == "" {
		v := parseVersion(s.Timescale)
		switch {
		case v.less(oldest):
			aggregates.Why = fmt.Sprintf("TimescaleDB %s is too old: its catalog is understood from %d.%d.%d on", s.Timescale, oldest[0], oldest[1], oldest[2])
		case !v.less(unproven):
			aggregates.Why = fmt.Sprintf("TimescaleDB %s is too new: the proof of freshness is known before %d.%d", s.Timescale, unproven[0], unproven[1])
		case !slices.ContainsFunc(s.Aggregates, func(a *catalog.Aggregate) bool { return a.Finalized }):
			aggregates.Why = "the database has no continuous aggregate in the present format"
		default:
			aggregates.On, aggregates.Why = true, community
		}
	}
	knn := Capability{Name: CapKNN, On: true, Why: "pgvector " + s.Vector}
	switch {
	case slices.Contains(without, "vector"):
		knn.On, knn.Why = false, "schema.pgvector is off"
	case s.Vector == "":
		knn.On, knn.Why = false, "pgvector is missing"
	case s.InRecovery:
		knn.On, knn.Why = false, "a standby: what a snapshot sees there cannot be told from its number"
	}
	policies := Capability{Name: CapPolicies, On: lacking == "", Why: cmp.Or(lacking, community)}
	return []Capability{{Name: CapPooling, On: true, Why: "needs nothing"}, aggregates, knn, policies}
}

// relation is the platform's table of that name as the search path finds it.
func (e *exam) relation(name string) *catalog.Relation {
	for _, schema := range e.v.searchPath {
		if found := e.s.Relations[catalog.Name{Schema: schema, Name: name}]; found != nil {
			return found
		}
	}
	return nil
}

// as says who has to run a command.
func as(who string) string { return "as " + who }

// commas joins names for people.
func commas(names []string) string { return strings.Join(names, ", ") }
