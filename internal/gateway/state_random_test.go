package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// randomSchema is what the random clients use besides stateSchema.
const randomSchema = stateSchema + `
CREATE FUNCTION configure(text, text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN SET work_mem = '9MB'; PERFORM set_config('app.tenant', $1, false), set_config('my.own', $2, true); RETURN $1; END $$;
CREATE FUNCTION become() RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET ROLE pg_monitor; RETURN current_user; END $$;
CREATE FUNCTION nested(text) RETURNS text LANGUAGE sql AS $$ SELECT tenant($1) || 'n' $$;
CREATE FUNCTION lock_it(bigint) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock($1) $$;
CREATE FUNCTION scratch_it() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE made (x int); END $$;
CREATE FUNCTION harmless(int) RETURNS int LANGUAGE plpgsql AS $$ DECLARE r int; BEGIN SELECT count(*) INTO r FROM kept; RETURN r + $1; END $$;
CREATE PROCEDURE stepwise() LANGUAGE plpgsql AS $$ BEGIN
	PERFORM set_config('app.step', 'one', false); COMMIT;
	PERFORM set_config('app.step', 'two', false); ROLLBACK; END $$;
CREATE TABLE rowwise (tenant text, v int);
INSERT INTO rowwise VALUES ('a', 1), ('b', 2);
CREATE VIEW setter AS SELECT nested('view') AS v;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
ALTER TABLE rowwise ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rowwise USING (tenant = current_setting('app.tenant', true));`

// mixed are statements that any client may send at any time: none pins.
var mixed = []string{
	"SET work_mem = '{v}MB'", "SET work_mem TO DEFAULT", "RESET work_mem", "SHOW work_mem", "SHOW work_mem",
	"SET my.own = '{v}'", "RESET my.own", "SET LOCAL work_mem = '{v}MB'", "SET app.tenant = 'a'",
	"SELECT set_config('my.own', '{v}', false)", "SELECT set_config('my.own', 'x' || {v}, false)", "SELECT set_config('work_mem', '{v}MB', {v} > 7)",
	"SELECT set_config('app.tenant', 'b', true)", "SELECT set_config('my.own', x, false) FROM (VALUES ('p'), ('q')) AS t (x)",
	"SELECT set_config('my.own', 'never', false) WHERE false", "SET TIME ZONE INTERVAL '{v}' HOUR TO MINUTE", "RESET TIME ZONE",
	"SET TIME ZONE 'Asia/Tokyo'", "SELECT '2024-07-01 12:00+00'::timestamptz", "SET search_path = side, public", "RESET search_path", "SELECT name FROM kept",
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED",
	"SHOW transaction_isolation", "SET ROLE pg_monitor", "RESET ROLE", "SET ROLE NONE", "SET LOCAL ROLE pg_monitor", "SELECT current_user, session_user",
	"SELECT public.tenant('{v}')", "SELECT public.configure('{v}', 'y')", "SELECT public.nested('{v}')", "SELECT public.become()", "SELECT public.harmless({v})",
	"INSERT INTO public.watched VALUES ({v})", "SELECT v FROM public.setter", "SELECT count(*) FROM public.rowwise", "UPDATE public.watched SET id = id WHERE id = {own}",
	"DO $$ BEGIN PERFORM set_config('app.done', '{v}', false); END $$", "DO $$ BEGIN SET work_mem = '{v}MB'; RAISE 'no'; END $$",
	"DO $$ BEGIN EXECUTE 'SET my.own = ''dynamic'''; END $$", "CALL public.stepwise()",
	"SELECT 1/0", "SELECT nothing", "SET work_mem = 'nonsense'", "SET my.own = 'gone'; SELECT 1/0", "BEGIN; SET my.own = 'kept {v}'; COMMIT; SELECT 1/0",
	"BEGIN; SET my.own = 'undone'; ROLLBACK; SET work_mem = '{v}MB'", "SET my.own = 'both'; SELECT public.tenant('both')",
	"SET application_name = 'app {v}'", "SHOW application_name", "RESET ALL", "SELECT coalesce(current_setting('app.done', true), '') || coalesce(current_setting('app.step', true), '')",
	"SELECT coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.user', true), ''), coalesce(current_setting('my.own', true), '')",
	"SELECT coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.user', true), ''), coalesce(current_setting('my.own', true), '')",
}

// holding are statements of the one client that may keep a server connection.
var holding = []string{
	"BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO a", "ROLLBACK TO b", "RELEASE a", "RELEASE b", "COMMIT AND CHAIN",
	"CREATE TEMP TABLE scratch (x int)", "INSERT INTO scratch VALUES ({v})", "SELECT count(*) FROM scratch", "DROP TABLE scratch", "DISCARD TEMP",
	"CREATE TEMP TABLE brief (x int) ON COMMIT DROP", "SELECT public.scratch_it()", "DROP TABLE made", "SELECT to_regclass('pg_temp.scratch') IS NULL",
	"PREPARE q AS SELECT {v}", "EXECUTE q", "DEALLOCATE q", "DEALLOCATE ALL", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
	"DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)", "FETCH 1 FROM c", "CLOSE c", "CLOSE ALL",
	"LISTEN news", "UNLISTEN news", "UNLISTEN *", "SELECT count(*) FROM pg_listening_channels()",
	"SELECT pg_advisory_lock(99)", "SELECT public.lock_it(98)", "SELECT pg_advisory_unlock(99)", "SELECT pg_advisory_unlock_all()",
	"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
	"SELECT set_config('app.' || 'user', '{v}', false)", "SELECT setseed(0.{v}), random()", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES",
	"SET SESSION AUTHORIZATION pg_monitor", "RESET SESSION AUTHORIZATION",
}

// twin is one client twice: of the server, and of the gateway.
type twin struct{ direct, through *peer }

// statement runs one statement by both, by either protocol, and says how the
// replies differ.
func (w twin) statement(sql string, extended bool) string {
	run := func(p *peer) []string {
		if extended {
			return comparable(p.extended(group("", sql)...))
		}
		return comparable(p.query(sql))
	}
	want, got := run(w.direct), run(w.through)
	if slices.Equal(want, got) {
		return ""
	}
	return fmt.Sprintf("%s:\ndirect  %q\ngateway %q", sql, want, got)
}

// randomState lets four clients do as they like over three server connections, and
// each the same at the server itself, and returns how often they differed, at most a
// little more than enough.
func randomState(t *testing.T, steps, enough int, seed uint64, broken func(*gateway.Server), opt pool.Options, report func(string, ...any)) (differ int) {
	one, other := nativeDatabase(t, randomSchema), nativeDatabase(t, randomSchema)
	opt.Size = 3 // one may listen for all, one client may keep one
	g, addr := serve(t, other, gateway.Options{Pool: opt, QueueTimeout: time.Second, MaxText: 700})
	if broken != nil {
		broken(g)
	}
	born := func(i int) twin {
		start := []string{"application_name=client " + strconv.Itoa(i)}
		if i == 3 {
			start = append(start, "options=-c work_mem=6MB -c my.own=mine")
		}
		return twin{direct(t, one, start...), dial(t, addr, other, start...)}
	}
	twins := []twin{born(0), born(1), born(2), born(3)}
	rnd := rand.New(rand.NewPCG(seed, 7))
	token := 0 // the client that may hold a connection
	for step := range steps {
		i := rnd.IntN(len(twins))
		list := mixed
		if i == token && rnd.IntN(2) == 0 {
			list = holding
		}
		// A row of its own: one of another client's open transaction would be waited for.
		sql := strings.NewReplacer("{v}", strconv.Itoa(5+rnd.IntN(5)), "{own}", strconv.Itoa(5+i)).Replace(list[rnd.IntN(len(list))])
		extended := !strings.Contains(sql, ";") && rnd.IntN(3) == 0
		if len(list) == len(mixed) && rnd.IntN(8) == 0 && (!extended || i == token) { // by Parse it keeps its connection
			sql += " -- too long" + strings.Repeat(" to be kept", 100)
		}
		if d := twins[i].statement(sql, extended); d != "" {
			differ++
			report("step %d, client %d, extended %t: %s", step, i, extended, d)
		}
		if differ >= enough {
			return differ
		}
		if i != token || rnd.IntN(12) > 0 {
			continue
		}
		if rnd.IntN(3) == 0 { // it goes as it is
			twins[i].leave()
			twins[i], token = born(i), rnd.IntN(len(twins))
			continue
		}
		for _, sql := range []string{"ROLLBACK", "RESET SESSION AUTHORIZATION", "DROP TABLE IF EXISTS pg_temp.scratch, pg_temp.made", "DEALLOCATE ALL", "CLOSE ALL", "UNLISTEN *", "SELECT pg_advisory_unlock_all()"} {
			if d := twins[i].statement(sql, false); d != "" && !strings.HasPrefix(sql, "DROP") {
				differ++
				report("step %d, client %d: %s", step, i, d)
			}
		}
		switch pins := twins[i].through.pins(); {
		case pins == "":
		case strings.Contains(pins, "setting"), strings.Contains(pins, "seed"): // for good
			if d := twins[i].statement("DISCARD ALL", false); d != "" {
				differ++
				report("step %d, client %d: %s", step, i, d)
			}
		default:
			differ++
			report("step %d: client %d is pinned by %s and has nothing", step, i, pins)
			twins[i].through.must("DISCARD ALL")
			twins[i].direct.must("DISCARD ALL")
		}
		token = rnd.IntN(len(twins))
	}
	for i, w := range twins {
		for name, v := range w.direct.params {
			if have := w.through.params[name]; have != v && w.direct.tx == 'I' {
				differ++
				report("client %d: parameter %s is %q directly, %q through the gateway", i, name, v, have)
			}
		}
		w.leave()
	}
	return differ
}

func (w twin) leave() {
	w.direct.send(&pgproto3.Terminate{})
	w.through.send(&pgproto3.Terminate{})
}

// stateSteps is how many statements the random clients send, without
// QVPGW_STATE_STEPS.
const stateSteps = 1000

func TestRandomClientsSeeOfTheirSessionsWhatDirectOnesSee(t *testing.T) {
	steps, seed := stateSteps, rand.Uint64()
	if n, err := strconv.Atoi(os.Getenv("QVPGW_STATE_STEPS")); err == nil {
		steps = n
	}
	if n, err := strconv.ParseUint(os.Getenv("QVPGW_STATE_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	if n := randomState(t, steps, 20, seed, nil, pool.Options{}, t.Logf); n > 0 {
		t.Errorf("%d replies differ", n)
	}
	// It is found out when nobody looks what is left, or nothing is reset: what either
	// leaves is seldom looked at by the next who comes.
	found := func(change func(*gateway.Server), opt pool.Options) bool {
		for i := range uint64(40) {
			if randomState(t, 400, 1, seed+i, change, opt, func(string, ...any) {}) > 0 {
				return true
			}
		}
		return false
	}
	if !found(gateway.Unchecked, pool.Options{}) {
		t.Error("without checks nothing differs: the test tests nothing")
	}
	if !found(nil, pool.Options{BrokenHandOver: true}) {
		t.Error("without resets nothing differs: the test tests nothing")
	}
}
