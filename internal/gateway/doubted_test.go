package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"qvpgw/internal/catalog"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/router"
	"qvpgw/internal/schema"
)

// probes are what clients send while DDL is not read yet.
func probes() []string {
	list := []string{"SELECT 1 @#@ 2", "SELECT relname FROM pg_class", "SELECT count(*) FROM generate_series(1, 2) g(i)"}
	for i := range 4 {
		for _, form := range []string{
			"SELECT * FROM pt%d", "INSERT INTO pt%d DEFAULT VALUES", "DELETE FROM pt%d", "UPDATE pt%d SET a = 2", "SELECT * FROM ps%[1]d.pt%[1]d",
			"SELECT * FROM pv%d", "INSERT INTO pv%d VALUES (1)", "SELECT pf%d(1)", "SELECT NULL::py%d",
		} {
			list = append(list, fmt.Sprintf(form, i))
		}
	}
	return list
}

// moreThan says whether a statement does to its session what the plan of it does not say.
func moreThan(now, plan *router.Plan) bool {
	more := now.Pins&^plan.Pins != 0 || now.Leaves&^plan.Leaves != 0
	for _, name := range now.Settings {
		more = more || !slices.Contains(plan.Settings, name)
	}
	for i := range now.Statements {
		a, b := &now.Statements[i], &plan.Statements[i]
		more = more || a.Nextval && !b.Nextval || a.Currval && !b.Currval || a.DDL && !b.DDL
	}
	return more
}

// TestWhatDDLHasASayInIsInDoubtUntilItIsRead runs random DDL, reads it later, or not all
// of it, and asks of each statement what it does by the newest snapshot and what it does:
// the first may be less only of one that is in doubt. With QVPGW_DDL statements instead of
// a few.
func TestWhatDDLHasASayInIsInDoubtUntilItIsRead(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	run := func(sql string) error { _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); return err }
	_ = run("CREATE ROLE partial_role")
	if err := run("SET jit = off"); err != nil {
		t.Fatal(err)
	}
	statements, seed := extentOfDDL(40)
	r := rand.New(rand.NewPCG(seed, 2))
	q, l := schema.ConnQuery(conn), new(schema.Loader)
	var known, there catalog.Holder // by the gateway, and truly
	c := &router.Context{SearchPath: []string{"public"}, SettingsKnown: true, ConformingStrings: true}
	planner, truth := router.New(router.Options{Catalog: &known}), router.New(router.Options{Catalog: &there})
	var d gateway.Doubts
	var pending router.Change
	read := func() *catalog.Snapshot {
		t.Helper()
		var snap *catalog.Snapshot
		var err error
		if last := known.Load(); last == nil || pending.Any || pending.Whole {
			snap, err = l.Load(t.Context(), q)
		} else {
			snap, err = l.LoadTouched(t.Context(), q, last, &pending.Touched)
		}
		if err != nil {
			t.Fatal(err)
		}
		pending = router.Change{}
		return snap
	}
	n := uint64(0)
	take := func(snap *catalog.Snapshot, n uint64) {
		known.Store(snap)
		d.Read(snap, n)
	}
	take(read(), n)
	var history []string
	confined, changed, doubted, looked := 0, 0, 0, 0
	asked := probes()
	for ran := 0; ran < statements; {
		sql := fillIn(r, ddl[r.IntN(len(ddl))])
		var early *catalog.Snapshot
		plan := planner.Plan(c, []byte(sql))
		change := plan.Change
		change.Any = change.Any || d.About(plan)
		reads := r.IntN(3)
		if reads == 0 && !pending.Any { // it is under way while the statement runs
			early = read()
		}
		failed := run(sql) != nil
		if !failed {
			ran++
			n++
			history = append(history, sql)
			d.Add(change, n)
			pending.Add(change)
			if !change.Any {
				confined++
			}
		}
		switch {
		case early != nil && failed:
			take(early, n)
			history = append(history, "-- read")
		case early != nil:
			take(early, n-1)
			history = append(history, "-- read but for the last")
		}
		if failed {
			continue
		}
		snap, err := schema.Load(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		there.Store(snap)
		for _, probe := range asked {
			plan, now := planner.Plan(c, []byte(probe)), truth.Plan(c, []byte(probe))
			looked++
			in := d.About(plan)
			if in {
				doubted++
			}
			if !moreThan(now, plan) || run("EXPLAIN "+probe) != nil {
				continue
			}
			if changed++; !in {
				t.Fatalf("seed %d: %q does %v %v %v, not %v %v %v, and is in no doubt after\n%s", seed, probe,
					now.Pins.Names(), now.Leaves, now.Settings, plan.Pins.Names(), plan.Leaves, plan.Settings, strings.Join(history, ";\n"))
			}
		}
		if reads > 0 {
			take(read(), n)
			history = append(history, "-- read")
		}
	}
	t.Logf("%d statements, %d confined; %d of %d looks in doubt, %d did more than was known", statements, confined, doubted, looked, changed)
	if changed == 0 || confined*2 < statements {
		t.Errorf("%d of %d statements were confined, %d probes did more than was known: the test shows nothing", confined, statements, changed)
	}
}
