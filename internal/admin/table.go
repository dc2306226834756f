package admin

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Type OIDs of the console's columns, as PgBouncer 1.24 declares them.
const (
	Text    = 25
	Int4    = 23
	Numeric = 1700
)

// Column is one column of a Table.
type Column struct {
	Name string
	Type uint32 // OID
}

// Table is an answer of the console. All values are in text form; there are no
// nulls. One without columns has no rows either.
type Table struct {
	Tag     string // of CommandComplete
	Columns []Column
	Rows    [][]string
}

// columns reads "name:i name" lists: i is int4, n numeric, text without a letter.
func columns(spec string) []Column {
	var list []Column
	for word := range strings.FieldsSeq(spec) {
		name, kind, _ := strings.Cut(word, ":")
		list = append(list, Column{name, map[string]uint32{"": Text, "i": Int4, "n": Numeric}[kind]})
	}
	return list
}

// PgBouncer 1.24's columns in its order (read from the program itself), then ours.
var (
	poolColumns = columns(`database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i
		sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i
		maxwait_us:i pool_mode load_balance_hosts
		cl_pinned:i pool_size:i max_overflow:i handovers:n resets:n last_error
		reserve:i reserve_used:i reserve_peak:i reserve_opened:n paused:i`)
	socketColumns = columns(`type user database replication state addr port:i local_addr local_port:i
		connect_time request_time wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name
		prepared_statements:i id:i
		pins last_route`)
	statsColumns = columns(`database total_server_assignment_count:n total_xact_count:n total_query_count:n
		total_received:n total_sent:n total_xact_time:n total_query_time:n total_wait_time:n
		total_client_parse_count:n total_server_parse_count:n total_bind_count:n
		avg_server_assignment_count:n avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n avg_xact_time:n
		avg_query_time:n avg_wait_time:n avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n
		total_routed_count:n total_cached_count:n total_refused_count:n total_shared_xact_count:n`)
	databaseColumns = columns(`name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i
		server_lifetime:i pool_mode load_balance_hosts max_connections:i current_connections:i
		max_client_connections:i current_client_connections:i paused:i disabled:i
		catalog max_overflow:i`)
	userColumns = columns(`name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i
		max_user_client_connections:i current_client_connections:i`)
	listColumns    = columns(`list items:i`)
	configColumns  = columns(`key value default changeable source`)
	pinColumns     = columns(`client_id:i user database reason detail server_pid:i since`)
	loginColumns   = columns(`reason failed:n`)
	cacheColumns   = columns(`database table figure reason value:n`)
	versionColumns = columns(`version`)
	helpColumns    = columns(`command answers`)
)

func num[T int | int64 | uint32 | uint64](n T) string { return strconv.FormatInt(int64(n), 10) }

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// moment formats as PgBouncer does; "" for the zero time.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// split gives whole seconds, and the rest in microseconds.
func split(d time.Duration) (seconds, micros string) {
	return num(int64(d / time.Second)), num(int64(d % time.Second / time.Microsecond))
}

func poolTable(rows []PoolRow) Table {
	slices.SortFunc(rows, func(a, b PoolRow) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User))
	})
	t := Table{Columns: poolColumns}
	for _, r := range rows {
		wait, waitUS := split(r.OldestWait)
		t.Rows = append(t.Rows, []string{
			r.Database, r.User, num(r.ClientsActive), num(r.ClientsWaiting), num(r.Cancels), "0",
			num(r.ServersActive), num(r.Cancels), "0", num(r.ServersIdle), "0", num(r.ServersResting), num(r.ServersLogin),
			wait, waitUS, r.Mode, r.Balance,
			num(r.ClientsPinned), num(r.Size), num(r.Overflow), num(r.Handovers), num(r.Resets), r.LastError,
			num(r.Reserve), num(r.ReserveUsed), num(r.ReservePeak), num(r.ReserveOpened), bit(r.Paused),
		})
	}
	return t
}

func clientTable(rows []ClientRow) Table {
	slices.SortFunc(rows, func(a, b ClientRow) int { return cmp.Compare(a.ID, b.ID) })
	t := Table{Columns: socketColumns}
	for _, r := range rows {
		wait, waitUS := split(r.Wait)
		link := ""
		if r.ServerPID != 0 {
			link = "S" + num(r.ServerPID)
		}
		t.Rows = append(t.Rows, []string{
			"C", r.User, r.Database, "none", r.State, r.Addr, num(r.Port), r.LocalAddr, num(r.LocalPort),
			moment(r.Connected), moment(r.Requested), wait, waitUS, "0", "C" + num(r.ID), link, "0", r.TLS, r.App,
			num(r.Prepared), num(r.ID),
			strings.Join(r.Pins, ","), r.LastRoute,
		})
	}
	return t
}

func serverTable(rows []ServerRow) Table {
	slices.SortFunc(rows, func(a, b ServerRow) int { return cmp.Compare(a.ID, b.ID) })
	t := Table{Columns: socketColumns}
	for _, r := range rows {
		link, pins := r.Use, ""
		if r.ClientID != 0 {
			link = "C" + num(r.ClientID)
		}
		if r.Pinned {
			pins = "pinned"
		}
		t.Rows = append(t.Rows, []string{
			"S", r.User, r.Database, "none", r.State, r.Addr, num(r.Port), r.LocalAddr, num(r.LocalPort),
			moment(r.Connected), moment(r.Requested), "0", "0", bit(r.CloseNeeded), "S" + num(r.PID), link, num(r.PID), r.TLS, r.App,
			num(r.Prepared), num(r.ID),
			pins, "",
		})
	}
	return t
}

// statsTable has the totals of rows, and the averages since before: per second,
// times per transaction or query in microseconds, as PgBouncer's.
func statsTable(rows []StatsRow, before map[string]StatsRow, since time.Duration) Table {
	slices.SortFunc(rows, func(a, b StatsRow) int { return cmp.Compare(a.Database, b.Database) })
	t := Table{Columns: statsColumns}
	for _, r := range rows {
		b := before[r.Database]
		rate := func(now, then int64) string {
			if since < time.Millisecond {
				return "0"
			}
			return num(int64(float64(now-then) / since.Seconds()))
		}
		mean := func(now, then time.Duration, n int64) string {
			if n <= 0 {
				return "0"
			}
			return num((now - then).Microseconds() / n)
		}
		t.Rows = append(t.Rows, []string{
			r.Database, num(r.Assignments), num(r.Xacts), num(r.Queries), num(r.Received), num(r.Sent),
			num(r.XactTime.Microseconds()), num(r.QueryTime.Microseconds()), num(r.WaitTime.Microseconds()),
			num(r.ClientParses), num(r.ServerParses), num(r.Binds),
			rate(r.Assignments, b.Assignments), rate(r.Xacts, b.Xacts), rate(r.Queries, b.Queries),
			rate(r.Received, b.Received), rate(r.Sent, b.Sent),
			mean(r.XactTime, b.XactTime, r.Xacts-b.Xacts), mean(r.QueryTime, b.QueryTime, r.Queries-b.Queries),
			rate(r.WaitTime.Microseconds(), b.WaitTime.Microseconds()),
			rate(r.ClientParses, b.ClientParses), rate(r.ServerParses, b.ServerParses), rate(r.Binds, b.Binds),
			num(r.Routed), num(r.Cached), num(r.Refused), num(r.SharedXacts),
		})
	}
	return t
}

func databaseTable(rows []DatabaseRow) Table {
	slices.SortFunc(rows, func(a, b DatabaseRow) int { return cmp.Compare(a.Name, b.Name) })
	t := Table{Columns: databaseColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{
			r.Name, r.Host, num(r.Port), r.Database, "", num(r.Size), num(r.Min), num(r.Reserve),
			num(int64(r.Lifetime / time.Second)), r.Mode, r.Balance, num(r.MaxServers), num(r.Servers),
			num(r.MaxClients), num(r.Clients), bit(r.Paused), bit(r.Disabled),
			r.Catalog, num(r.Overflow),
		})
	}
	return t
}

func userTable(rows []UserRow) Table {
	slices.SortFunc(rows, func(a, b UserRow) int { return cmp.Compare(a.Name, b.Name) })
	t := Table{Columns: userColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{r.Name, r.Size, r.Reserve, r.Mode, num(r.MaxServers), num(r.Servers), num(r.MaxClients), num(r.Clients)})
	}
	return t
}

// listTable counts what there is, in PgBouncer's lines. A gateway has no peers,
// keeps no free slots and leaves names to the resolver: those are 0.
func listTable(databases, users, pools, clients, login, servers int) Table {
	t := Table{Columns: listColumns}
	for _, line := range []struct {
		name  string
		items int
	}{
		{"databases", databases},
		{"users", users},
		{"peers", 0},
		{"pools", pools},
		{"peer_pools", 0},
		{"free_clients", 0},
		{"used_clients", clients},
		{"login_clients", login},
		{"free_servers", 0},
		{"used_servers", servers},
		{"dns_names", 0},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
	} {
		t.Rows = append(t.Rows, []string{line.name, num(line.items)})
	}
	return t
}

func configTable(rows []ConfigRow) Table {
	t := Table{Columns: configColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{r.Key, r.Value, r.Default, map[bool]string{true: "yes", false: "no"}[r.Changeable], r.Where})
	}
	return t
}

func cacheTable(rows []CacheRow) Table {
	t := Table{Columns: cacheColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{r.Database, r.Table, r.Figure, r.Reason, strconv.FormatFloat(r.Value, 'f', -1, 64)})
	}
	return t
}

func loginTable(rows []LoginRow) Table {
	t := Table{Columns: loginColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{r.Reason, num(r.Failed)})
	}
	return t
}

func pinTable(rows []PinRow) Table {
	slices.SortFunc(rows, func(a, b PinRow) int {
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Reason, b.Reason))
	})
	t := Table{Columns: pinColumns}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{
			num(r.ClientID), r.User, r.Database, r.Reason, r.Detail, num(r.ServerPID), moment(r.Since),
		})
	}
	return t
}
