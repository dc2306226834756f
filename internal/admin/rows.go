package admin

import "time"

// PoolRow is one pool: the server connections of a database and user.
type PoolRow struct {
	Database       string        `json:"database"`
	User           string        `json:"user"`
	Mode           string        `json:"mode"` // "transaction" or "session"
	ClientsActive  int           `json:"clients_active"`
	ClientsWaiting int           `json:"clients_waiting"`
	ClientsPinned  int           `json:"clients_pinned"`
	Cancels        int           `json:"cancels"` // cancel requests on their way to the server
	ServersActive  int           `json:"servers_active"`
	ServersIdle    int           `json:"servers_idle"`
	ServersResting int           `json:"servers_resting"` // being reset or checked
	ServersLogin   int           `json:"servers_login"`
	Size           int           `json:"size"`
	Overflow       int           `json:"overflow"`
	OldestWait     time.Duration `json:"oldest_wait_ns"`
	Handovers      int64         `json:"handovers"`
	Resets         int64         `json:"resets"`
	LastError      string        `json:"last_error"` // of the last login to the server, "" when it went well
	Reserve        int           `json:"reserve"`
	ReserveUsed    int           `json:"reserve_used"`   // connections open beyond size and overflow
	ReservePeak    int           `json:"reserve_peak"`   // at most since the start
	ReserveOpened  int64         `json:"reserve_opened"` // how many of them were opened
	Balance        string        `json:"-"`              // load_balance_hosts
	Paused         bool          `json:"paused"`
}

// ClientRow is one client.
type ClientRow struct {
	ID        uint64        `json:"id"` // the virtual backend pid that the client was told
	User      string        `json:"user"`
	Database  string        `json:"database"`
	State     string        `json:"state"` // "active", "idle", "waiting"
	Addr      string        `json:"addr"`
	Port      int           `json:"port"`
	LocalAddr string        `json:"-"`
	LocalPort int           `json:"-"`
	Connected time.Time     `json:"connected"`
	Requested time.Time     `json:"requested"` // start of the last turn
	Wait      time.Duration `json:"wait_ns"`
	ServerPID uint32        `json:"server_pid"` // of the server connection it holds, or 0
	TLS       string        `json:"tls"`        // version and cipher, "" without
	App       string        `json:"app"`
	Prepared  int           `json:"prepared"`
	Pins      []string      `json:"pins"` // why it keeps its server connection
	LastRoute string        `json:"last_route"`
}

// ServerRow is one server connection.
type ServerRow struct {
	ID        uint64
	User      string
	Database  string
	State     string // "active", "idle", "tested", "new"
	Addr      string
	Port      int
	LocalAddr string
	LocalPort int
	Connected time.Time
	Requested time.Time // since when it has its holder; of a free one, when it was opened
	PID       uint32
	ClientID  uint64 // of the client that holds it, or 0
	Use       string // what the gateway itself holds it for, or ""
	TLS       string
	App       string
	Prepared  int
	Pinned    bool

	CloseNeeded bool // it is closed when it is free
}

// StatsRow are the figures of one database since the start.
type StatsRow struct {
	Database     string
	Assignments  int64 // server connections given out
	Xacts        int64
	Queries      int64
	Received     int64 // bytes from clients
	Sent         int64 // bytes to clients
	XactTime     time.Duration
	QueryTime    time.Duration
	WaitTime     time.Duration // of clients for a server connection
	ClientParses int64
	ServerParses int64
	Binds        int64
	Routed       int64 // queries answered from a continuous aggregate
	Cached       int64 // queries answered from memory
	Refused      int64
	SharedXacts  int64 // transactions whose connection was free afterwards
}

// DatabaseRow is one database that clients have asked for.
type DatabaseRow struct {
	Name     string
	Host     string
	Port     int
	Database string // its name at the server
	Size     int
	Overflow int
	Lifetime time.Duration
	Mode     string
	Servers  int // connections now
	Clients  int
	Catalog  string // state of the catalog: "read 3s ago", "not read: …"

	Min, Reserve           int
	MaxServers, MaxClients int    // of all users together, 0: no limit
	Balance                string // load_balance_hosts
	Paused, Disabled       bool
}

// UserRow is one user that clients have logged in as.
type UserRow struct {
	Name             string
	Mode             string // "" where the database's holds, as for Size and Reserve
	Servers, Clients int

	Size, Reserve          string
	MaxServers, MaxClients int // in all databases together, 0: no limit
}

// PinRow is one client that keeps its server connection, and one reason why.
type PinRow struct {
	ClientID  uint64
	User      string
	Database  string
	Reason    string // a code of the closed list
	Detail    string // what it was: the object or the statement's kind, never a literal
	ServerPID uint32
	Since     time.Time
}

// LoginRow counts the logins that failed for one reason.
type LoginRow struct {
	Reason string // a code of the closed list
	Failed int64
}

// CacheRow is one figure of the answers kept of a table, or of a database when Table is "".
type CacheRow struct {
	Database, Table string
	Figure, Reason  string
	Value           float64
}

// ConfigRow is one configuration key; secrets are masked already.
type ConfigRow struct {
	Key, Value, Default, Where string
	Changeable                 bool // without a restart
}
