package admin

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func filled() *Console {
	return &Console{
		Version: "1.2.3",
		Pools: func() []PoolRow {
			return []PoolRow{
				{Database: "z", User: "b"},
				{
					Database: "m", User: "a", Mode: "transaction", ClientsActive: 1, ClientsWaiting: 2, ClientsPinned: 3,
					Cancels: 4, ServersActive: 5, ServersIdle: 6, ServersResting: 7, ServersLogin: 8, Size: 9, Overflow: 10,
					OldestWait: 1500001 * time.Microsecond, Handovers: 11, Resets: 12, LastError: "no", Reserve: 13, ReserveUsed: 14, ReservePeak: 15, ReserveOpened: 16, Paused: true, Balance: "disable",
				},
			}
		},
		Clients: func() []ClientRow {
			return []ClientRow{
				{ID: 12, User: "b"},
				{
					ID: 7, User: "a", Database: "m", State: "active", Addr: "10.0.0.1", Port: 1234, LocalAddr: "10.0.0.2", LocalPort: 6432,
					Connected: start, Requested: start.Add(time.Second), Wait: 2 * time.Second, ServerPID: 99, TLS: "TLSv1.3", App: "psql",
					Prepared: 4, Pins: []string{"listen", "temp"}, LastRoute: "ROUTED",
				},
			}
		},
		Servers: func() []ServerRow {
			return []ServerRow{{ID: 1, PID: 99, User: "a", Database: "m", State: "active", Addr: "10.0.0.3", Port: 5432, ClientID: 7, Pinned: true, CloseNeeded: true}}
		},
		Databases: func() []DatabaseRow {
			return []DatabaseRow{{Name: "m", Host: "db", Port: 5432, Database: "market", Size: 20, Overflow: 10, Lifetime: time.Hour, Mode: "transaction", Servers: 3, Clients: 4, Catalog: "read", Min: 1, Reserve: 2, MaxServers: 30, MaxClients: 40, Balance: "random", Paused: true}}
		},
		Users: func() []UserRow {
			return []UserRow{{Name: "b", Mode: "session", Servers: 1, Clients: 2}, {Name: "a", Servers: 3, Clients: 4, Size: "5", Reserve: "6", MaxServers: 7, MaxClients: 8}}
		},
		Config: func() []ConfigRow {
			return []ConfigRow{{"pool.size", "3", "20", "config.yaml:5", true}, {"listen", ":1", ":6432", "config.yaml:1", false}}
		},
		Pins: func() []PinRow {
			return []PinRow{{7, "a", "m", "temp", "CREATE TABLE", 99, start}, {7, "a", "m", "listen", "LISTEN", 99, start}}
		},
		Cache: func() []CacheRow {
			return []CacheRow{{"m", "", "rounds", "", 12}, {"m", "public.t", "misses", "entered", 2.5}}
		},
		Logins: func() []LoginRow { return []LoginRow{{"password", 3}, {"tls", 0}} },
		Login:  func() int { return 5 },
	}
}

func answerOf(t *testing.T, c *Console, text string) Table {
	t.Helper()
	table, err := c.Answer(t.Context(), text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for i, row := range table.Rows {
		if len(row) != len(table.Columns) {
			t.Fatalf("%s: row %d has %d values for %d columns", text, i, len(row), len(table.Columns))
		}
	}
	return table
}

func TestTheFirstColumnsArePgBouncers(t *testing.T) {
	// As PgBouncer 1.24.1 answered, name:type OID.
	f := func(topic, want string) {
		t.Helper()
		got := ""
		for _, c := range answerOf(t, &Console{}, "SHOW "+topic).Columns {
			got += fmt.Sprintf("%s:%d ", c.Name, c.Type)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("SHOW %s\ngot:  %s\nwant: %s", topic, got, want)
		}
	}
	f("POOLS", "database:25 user:25 cl_active:23 cl_waiting:23 cl_active_cancel_req:23 cl_waiting_cancel_req:23 sv_active:23 sv_active_cancel:23 sv_being_canceled:23 sv_idle:23 sv_used:23 sv_tested:23 sv_login:23 maxwait:23 maxwait_us:23 pool_mode:25 load_balance_hosts:25 ")
	sockets := "type:25 user:25 database:25 replication:25 state:25 addr:25 port:23 local_addr:25 local_port:23 connect_time:25 request_time:25 wait:23 wait_us:23 close_needed:23 ptr:25 link:25 remote_pid:23 tls:25 application_name:25 prepared_statements:23 id:23 "
	f("CLIENTS", sockets)
	f("SERVERS", sockets)
	f("STATS", "database:25 total_server_assignment_count:1700 total_xact_count:1700 total_query_count:1700 total_received:1700 total_sent:1700 total_xact_time:1700 total_query_time:1700 total_wait_time:1700 total_client_parse_count:1700 total_server_parse_count:1700 total_bind_count:1700 avg_server_assignment_count:1700 avg_xact_count:1700 avg_query_count:1700 avg_recv:1700 avg_sent:1700 avg_xact_time:1700 avg_query_time:1700 avg_wait_time:1700 avg_client_parse_count:1700 avg_server_parse_count:1700 avg_bind_count:1700 ")
	f("LISTS", "list:25 items:23 ")
	f("DATABASES", "name:25 host:25 port:23 database:25 force_user:25 pool_size:23 min_pool_size:23 reserve_pool_size:23 server_lifetime:23 pool_mode:25 load_balance_hosts:25 max_connections:23 current_connections:23 max_client_connections:23 current_client_connections:23 paused:23 disabled:23 ")
	f("USERS", "name:25 pool_size:25 reserve_pool_size:25 pool_mode:25 max_user_connections:23 current_connections:23 max_user_client_connections:23 current_client_connections:23 ")
	f("CONFIG", "key:25 value:25 default:25 changeable:25 ")
	f("VERSION", "version:25 ")
}

func TestEachTableHasItsRowsInOrder(t *testing.T) {
	f := func(topic string, want ...string) {
		t.Helper()
		var got []string
		for _, row := range answerOf(t, filled(), "SHOW "+topic).Rows {
			got = append(got, strings.Join(row, "|"))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("SHOW %s\ngot:\n%s\nwant:\n%s", topic, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f("POOLS", "m|a|1|2|4|0|5|4|0|6|0|7|8|1|500001|transaction|disable|3|9|10|11|12|no|13|14|15|16|1", "z|b|0|0|0|0|0|0|0|0|0|0|0|0|0|||0|0|0|0|0||0|0|0|0|0")
	f("CLIENTS",
		"C|a|m|none|active|10.0.0.1|1234|10.0.0.2|6432|2026-05-04 03:02:01 UTC|2026-05-04 03:02:02 UTC|2|0|0|C7|S99|0|TLSv1.3|psql|4|7|listen,temp|ROUTED",
		"C|b||none|||0||0|||0|0|0|C12||0|||0|12||")
	f("SERVERS", "S|a|m|none|active|10.0.0.3|5432||0|||0|0|1|S99|C7|99|||0|1|pinned|")
	f("DATABASES", "m|db|5432|market||20|1|2|3600|transaction|random|30|3|40|4|1|0|read|10")
	f("USERS", "a|5|6||7|3|8|4", "b|||session|0|1|0|2")
	f("CONFIG", "pool.size|3|20|yes|config.yaml:5", "listen|:1|:6432|no|config.yaml:1")
	f("CACHE", "m||rounds||12", "m|public.t|misses|entered|2.5")
	f("LOGINS", "password|3", "tls|0")
	f("PINS", "7|a|m|listen|LISTEN|99|2026-05-04 03:02:01 UTC", "7|a|m|temp|CREATE TABLE|99|2026-05-04 03:02:01 UTC")
	f("VERSION", "qvpgw 1.2.3 (console of PgBouncer 1.24)")
	f("LISTS", "databases|1", "users|2", "peers|0", "pools|2", "peer_pools|0", "free_clients|0", "used_clients|2", "login_clients|5",
		"free_servers|0", "used_servers|1", "dns_names|0", "dns_zones|0", "dns_queries|0", "dns_pending|0")
	if n := len(answerOf(t, filled(), "SHOW HELP").Rows); n != len(topics)+len(verbs) {
		t.Errorf("help has %d rows", n)
	}
}

func TestAveragesAreOfThePeriodsBefore(t *testing.T) {
	row := StatsRow{Database: "m"}
	c := &Console{Stats: func() []StatsRow { return []StatsRow{row} }}
	c.sample(start)
	row.Queries, row.Xacts, row.Received = 600, 300, 60
	row.QueryTime, row.XactTime, row.WaitTime = 600*time.Millisecond, 900*time.Millisecond, 6*time.Millisecond
	c.sample(start.Add(time.Minute))
	row.Queries, row.Xacts, row.Received = 1800, 900, 180
	row.QueryTime, row.XactTime, row.WaitTime = 2400*time.Millisecond, 1800*time.Millisecond, 18*time.Millisecond
	row.Routed = 17
	table := c.stats(start.Add(2 * time.Minute)) // two periods after the older sample
	got := map[string]string{}
	for i, col := range table.Columns {
		got[col.Name] = table.Rows[0][i]
	}
	for name, want := range map[string]string{
		"total_query_count": "1800", "avg_query_count": "15", "avg_xact_count": "7", "avg_recv": "1",
		"total_query_time": "2400000", "avg_query_time": "1333", "avg_xact_time": "2000", "avg_wait_time": "150",
		"total_routed_count": "17", "avg_bind_count": "0",
	} {
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	c.sample(start.Add(2 * time.Minute)) // the older sample is now the one after a minute
	table = c.stats(start.Add(3 * time.Minute))
	if avg := table.Rows[0][14]; avg != "10" {
		t.Errorf("%s is %s after another period", table.Columns[14].Name, avg)
	}
	first := (&Console{Stats: c.Stats}).stats(start)
	if first.Rows[0][14] != "0" {
		t.Errorf("without a sample the average is %s", first.Rows[0][14])
	}
}

func TestCommandsAreReadInAnyCaseAndOthersRefused(t *testing.T) {
	ok := func(text, topic string) {
		t.Helper()
		if cmd, err := ParseCommand(text); err != nil || cmd != (Command{Verb: "SHOW", Topic: topic}) {
			t.Errorf("%q: %v, %v", text, cmd, err)
		}
	}
	ok("SHOW POOLS", "POOLS")
	ok("  show\n\tpools ;\n", "POOLS")
	ok("Show Stats;;", "STATS")

	bad := func(text, code, message string) {
		t.Helper()
		_, err := ParseCommand(text)
		var e *Error
		if !errors.As(err, &e) || e.Code != code || e.Error() != message || !strings.Contains(e.Hint, "SHOW POOLS, SHOW SERVERS") {
			t.Errorf("%q: %#v", text, err)
		}
	}
	bad("SUSPEND", "0A000", "SUSPEND is not supported by this console")
	bad("SHOW MEM", "0A000", `the console cannot "SHOW MEM"`)
	bad("SHOW", "0A000", `the console cannot "SHOW"`)
	bad("SHOW POOLS CLIENTS", "0A000", `the console cannot "SHOW POOLS CLIENTS"`)
	bad("SHOW POOLS; SHOW LISTS", "0A000", `the console cannot "SHOW POOLS; SHOW LISTS"`)
	bad("select 1", "42601", `the console does not know "select 1"`)
	bad(" ;", "42601", "the console got an empty statement")
	bad("\xff"+strings.Repeat("é", 80), "42601", `the console does not know "?`+strings.Repeat("é", 59)+`…"`)
}

func TestEveryTopicHasAnAnswer(t *testing.T) {
	for _, topic := range topics {
		answerOf(t, &Console{}, "SHOW "+topic.name)
	}
}

func TestReloadSaysWhatIsWrongAndThatNothingChanged(t *testing.T) {
	var fails error
	c := &Console{Reload: func() error { return fails }}
	if cmd, err := ParseCommand("reload;"); err != nil || cmd.Verb != "RELOAD" {
		t.Errorf("%v, %v", cmd, err)
	}
	if table := answerOf(t, c, "RELOAD"); len(table.Columns) != 0 || len(table.Rows) != 0 {
		t.Errorf("it has %v", table)
	}
	fails = errors.New("config.yaml:3: bad")
	var e *Error
	if _, err := c.Answer(t.Context(), "RELOAD"); !errors.As(err, &e) || e.Code != "F0000" || e.Message != fails.Error() || e.Hint == "" {
		t.Errorf("%#v", e)
	}
	if _, err := (&Console{}).Answer(t.Context(), "RELOAD"); !errors.As(err, &e) || e.Code != "0A000" {
		t.Errorf("%#v", e)
	}
}

func TestCommandsAreCarriedOutWithTheirName(t *testing.T) {
	var did []Command
	c := &Console{Do: func(_ context.Context, c Command) error {
		did = append(did, c)
		if c.Name == "none" {
			return &Error{Code: "3D000", Message: "no such database: none"}
		}
		return nil
	}}
	for _, text := range []string{"pause", "PAUSE Market;", `kill "a""b"`, "KILL_CLIENT 7", "Wait_Close"} {
		if table := answerOf(t, c, text); len(table.Columns) != 0 || table.Tag != did[len(did)-1].Verb {
			t.Errorf("%s gave %+v", text, table)
		}
	}
	want := []Command{{"PAUSE", "", ""}, {"PAUSE", "", "Market"}, {"KILL", "", `a"b`}, {"KILL_CLIENT", "", "7"}, {"WAIT_CLOSE", "", ""}}
	if !reflect.DeepEqual(did, want) {
		t.Errorf("done: %v", did)
	}
	for text, code := range map[string]string{
		"RESUME none": "3D000", "DISABLE": "42601", "ENABLE a b": "42601", "KILL_CLIENT": "42601", "PAUSE a b": "42601", "RELOAD now": "42601",
	} {
		_, err := c.Answer(t.Context(), text)
		var e *Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s gave %v", text, err)
		}
	}
	_, err := (&Console{}).Answer(t.Context(), "PAUSE")
	var e *Error
	if !errors.As(err, &e) || e.Code != "0A000" {
		t.Errorf("without Do PAUSE gave %v", err)
	}
}
