package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAPolicyIsOfTheUserTheDatabaseAndAll(t *testing.T) {
	c := mustLoad(t, `
backend: {host: "db1, db2:5433,[::1]:5434,::2,/run/postgresql", port: 5000}
pool: {size: 10, overflow: 3, min: 5}
limits: {max_database_clients: 50, max_user_servers: 8}
databases:
  reports: {database: market, host: db3, port: 6000, target_session_attrs: standby, mode: session, size: 2, max_clients: 0}
  "*": {overflow: 0}
users:
  app: {mode: statement, size: 4, max_servers: 1}
  "*": {max_clients: 9}
`, env())
	f := func(database, user, want string) {
		t.Helper()
		p, ok := c.Policy(database, user)
		got := strings.TrimSpace(fmt.Sprintln(ok, p.Database, p.Backend.Host == c.Backend.Host, p.Backend.Port, p.Backend.TargetSessionAttrs, p.Pool.Mode,
			p.Pool.Size, p.Pool.Overflow, p.Pool.Min, p.DatabaseClients, p.DatabaseServers, p.UserClients, p.UserServers))
		if got != want {
			t.Errorf("%s of %s:\ngot  %s\nwant %s", user, database, got, want)
		}
	}
	f("any", "some", "true any true 5000 any transaction 10 0 5 50 0 9 8")
	f("any", "app", "true any true 5000 any statement 4 0 4 50 0 0 1")
	f("reports", "some", "true market false 6000 standby session 2 3 2 0 0 9 8")
	f("reports", "app", "true market false 6000 standby statement 4 3 4 0 0 0 1")
	hosts, err := c.Backend.Hosts()
	if want := "[db1:5000 db2:5433 [::1]:5434 [::2]:5000 /run/postgresql:5000]"; err != nil || fmt.Sprint(hosts) != want {
		t.Errorf("hosts are %v, %v", hosts, err)
	}
	items := fmt.Sprint(c.Items())
	for _, want := range []string{"databases.reports.size 2", "databases.*.overflow 0", "users.app.mode statement"} {
		if !strings.Contains(items, want) {
			t.Errorf("SHOW CONFIG does not have %s", want)
		}
	}
	c = mustLoad(t, "databases: {a: {}}", env())
	if _, ok := c.Policy("b", "u"); ok {
		t.Error("a database that is not listed is served")
	}
}

func TestProblemsOfDatabasesAndUsersHaveTheirLine(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := load(t, text, env())
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot:  %v\nwant: %s", text, err, want)
		}
	}
	f("databases:\n  a:\n    siez: 3", `config.yaml:3: unknown key "siez" in databases.a; did you mean "size"?`)
	f("databases:\n  a:\n    size: 0", `config.yaml:3: databases.a.size is 0; it must be from 1 to 10000`)
	f("databases:\n  a:\n    mode: fast", `config.yaml:3: databases.a.mode: "fast" is not one of transaction, session, statement`)
	f("databases:\n  a: {host: \"db1,,db2\"}", `config.yaml:2: databases.a.host: "db1,,db2" has an empty entry; write as db1,db2:5433`)
	f("databases:\n  pgbouncer: {}", `config.yaml:2: databases.pgbouncer: the name is the console's; choose another`)
	f("users:\n  a: {max_clients: -1}", `config.yaml:2: users.a.max_clients is -1; it must be from 0 to 1048576`)
	f("pool:\n  min: 21", `config.yaml:2: pool.min is 21; it must be from 0 to 20`)
	f("backend:\n  host: db:http", `config.yaml:2: backend.host: "db:http" is not a host, nor host:port; write as db1 or db2:5433`)
}

func TestWhatCanBeReloadedIsTakenOver(t *testing.T) {
	old := mustLoad(t, "pool: {size: 3}\nroute: {enabled: true}\nlimits: {max_statement: 2MiB}\ncache: {mode: strict, geometry: true}", env())
	read := mustLoad(t, "pool:\n  size: 4\nroute: {enabled: false}\nlimits: {max_statement: 3MiB, max_clients: 5}\nlisten: :7000\n"+
		"cache: {enabled: false, mode: bounded, max_age: 1s, bytes: 2MiB, max_entry: 3kB, tables: {t: off}, geometry: false, changes: 1MiB}", env())
	next := old.WithReloadable(read)
	if next.Pool.Size != 4 || next.Limits.MaxClients != 5 || next.Where("pool.size") != "config.yaml:2" {
		t.Errorf("not taken over: size %d (%s), clients %d", next.Pool.Size, next.Where("pool.size"), next.Limits.MaxClients)
	}
	if c := next.Cache; c.Mode != CacheBounded || c.MaxAge != time.Second || c.Bytes != 2<<20 || c.MaxEntry != 3000 || c.Tables["t"] != CacheOff {
		t.Errorf("not taken over: %+v", c)
	}
	if c := next.Cache; !c.Enabled || !c.Geometry || c.Changes != old.Cache.Changes {
		t.Errorf("taken over what needs a restart: %+v", c)
	}
	if !next.Route.Enabled || next.Limits.MaxStatement != 2<<20 || next.Listen != old.Listen || next.Where("listen") != "default" {
		t.Error("taken over what needs a restart")
	}
}

// TestAKeyIsTakenOverIfItIsSaidToBeReloadable changes every key there is.
func TestAKeyIsTakenOverIfItIsSaidToBeReloadable(t *testing.T) {
	leaves := func(c *Config) map[string]any {
		list := map[string]any{}
		walk(reflect.ValueOf(c).Elem(), "", func(key string, v reflect.Value) { list[key] = v.Interface() })
		return list
	}
	old, read := Default(), Default()
	walk(reflect.ValueOf(read).Elem(), "", func(key string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		case reflect.Map:
			m := reflect.MakeMap(v.Type())
			m.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(v.Type().Elem()))
			v.Set(m)
		default:
			t.Fatalf("%s is a %s", key, v.Kind())
		}
	})
	before, after := leaves(old), leaves(read)
	for key, got := range leaves(old.WithReloadable(read)) {
		want := before[key]
		if Reloadable(key) {
			want = after[key]
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s, reloadable: %v, is %v and not %v", key, Reloadable(key), got, want)
		}
	}
}
