package config

import "time"

// Config is the whole configuration. Its nesting and its tags are config.yaml's.
type Config struct {
	Listen     string `yaml:"listen"`      // host:port for PostgreSQL clients; no host: every address
	ListenUnix string `yaml:"listen_unix"` // folder of a Unix socket for them; "": there is none
	HTTP       string `yaml:"http"`        // host:port for metrics, health and the page; "" serves none

	Log     Log     `yaml:"log"`
	Engine  Engine  `yaml:"engine"`
	Backend Backend `yaml:"backend"`
	Pool    Pool    `yaml:"pool"`

	// Databases and Users are exceptions by name; see Config.Policy.
	Databases map[string]Database   `yaml:"databases"`
	Users     map[string]UserPolicy `yaml:"users"`

	Limits Limits `yaml:"limits"`
	Auth   Auth   `yaml:"auth"`
	TLS    TLS    `yaml:"tls"`
	Route  Route  `yaml:"route"`
	Cache  Cache  `yaml:"cache"`

	// Rules overrides what single rules do, by rule name. The names belong to the
	// rule set; CheckRules compares them with it.
	Rules map[string]RuleMode `yaml:"rules"`

	Catalog Catalog `yaml:"catalog"`
	Schema  Schema  `yaml:"schema"`

	// where says for a key ("pool.size") what set it: "config.yaml:12" or
	// "POSTGRES_POOL_SIZE"; keys at their default are not in it.
	where map[string]string
}

// Engine is how clients are driven.
type Engine struct {
	Gear  Gear `yaml:"gear"`
	Loops int  `yaml:"loops"` // 0: one for every two processors
}

// Log is what is written to standard error.
type Log struct {
	Level  LogLevel  `yaml:"level"`
	Format LogFormat `yaml:"format"`
}

// Backend is the database server, and how the gateway itself logs in to it.
type Backend struct {
	Host string `yaml:"host"` // names, addresses or directories of Unix sockets; see Hosts
	Port int    `yaml:"port"`

	TargetSessionAttrs TargetSession `yaml:"target_session_attrs"`
	LoadBalanceHosts   LoadBalance   `yaml:"load_balance_hosts"`
	DNSRefresh         time.Duration `yaml:"dns_refresh"` // 0: connections outlive their address

	Database    string  `yaml:"database"`
	User        string  `yaml:"user"`
	Password    Secret  `yaml:"password"`
	SSLMode     SSLMode `yaml:"sslmode"`
	SSLRootCert string  `yaml:"sslrootcert"`
	SSLCert     string  `yaml:"sslcert"`
	SSLKey      string  `yaml:"sslkey"`

	SSLNegotiation SSLNegotiation `yaml:"sslnegotiation"`
	ChannelBinding ChannelBinding `yaml:"channel_binding"`

	ConnectTimeout time.Duration `yaml:"connect_timeout"`
}

// Pool bounds the server connections of one database and user.
type Pool struct {
	Size              int           `yaml:"size"`
	Overflow          int           `yaml:"overflow"`
	Min               int           `yaml:"min"`
	Reserve           int           `yaml:"reserve"`
	ReserveTimeout    time.Duration `yaml:"reserve_timeout"`
	Mode              PoolMode      `yaml:"mode"`
	QueryWaitTimeout  time.Duration `yaml:"query_wait_timeout"`  // 0: waits for ever
	QueryWaitNotify   time.Duration `yaml:"query_wait_notify"`   // 0: says nothing
	ServerLifetime    time.Duration `yaml:"server_lifetime"`     // 0: no limit
	ServerIdleTimeout time.Duration `yaml:"server_idle_timeout"` // of one within Size; 0: kept open
	ServerCheckDelay  time.Duration `yaml:"server_check_delay"`  // 0: checked before each use
	LoginBackoff      time.Duration `yaml:"login_backoff"`
	LoginBackoffMax   time.Duration `yaml:"login_backoff_max"`
	OnLoginFailure    OnFailure     `yaml:"on_login_failure"`
}

// Limits bound what clients may take. A timeout of 0 is off.
type Limits struct {
	MaxClients               int           `yaml:"max_clients"`
	MaxDatabaseClients       int           `yaml:"max_database_clients"` // 0: no limit of its own, as below
	MaxUserClients           int           `yaml:"max_user_clients"`
	MaxDatabaseServers       int           `yaml:"max_database_servers"`
	MaxUserServers           int           `yaml:"max_user_servers"`
	MaxLogins                int           `yaml:"max_logins"` // clients that are not logged in yet
	MaxStatement             Bytes         `yaml:"max_statement"`
	ClientLoginTimeout       time.Duration `yaml:"client_login_timeout"`
	ClientIdleTimeout        time.Duration `yaml:"client_idle_timeout"`
	IdleInTransactionTimeout time.Duration `yaml:"idle_in_transaction_timeout"`
	SlowReaderTimeout        time.Duration `yaml:"slow_reader_timeout"`
	CancelTimeout            time.Duration `yaml:"cancel_timeout"`
	ShutdownTimeout          time.Duration `yaml:"shutdown_timeout"`
}

// Auth says which clients may log in.
type Auth struct {
	Method AuthMethod `yaml:"method"` // what holds without HBA
	HBA    []string   `yaml:"hba"`    // lines of pg_hba.conf
	Ident  []string   `yaml:"ident"`  // lines of pg_ident.conf
	Query  bool       `yaml:"query"`
	// QueryText asks the server for the secret of user $1.
	QueryText string   `yaml:"query_text"`
	Users     []User   `yaml:"users"`
	Admins    []string `yaml:"admins"`
}

// User is one client role. Exactly one of Password and Verifier is set.
type User struct {
	Name           string `yaml:"name"`
	Password       Secret `yaml:"password"`
	Verifier       Secret `yaml:"verifier"`        // SCRAM-SHA-256$<iterations>:<salt>$<stored>:<server>, or md5<hash>
	ServerPassword Secret `yaml:"server_password"` // for its server connections; "": Password
}

// TLS is offered to clients.
type TLS struct {
	Mode       TLSMode    `yaml:"mode"`
	Cert       string     `yaml:"cert"`
	Key        string     `yaml:"key"`
	ClientCA   string     `yaml:"client_ca"` // who signs clients' certificates; "": they are not asked for one
	MinVersion TLSVersion `yaml:"min_version"`
}

// Route answers aggregate queries from continuous aggregates.
type Route struct {
	Enabled bool        `yaml:"enabled"`
	Mode    RouteMode   `yaml:"mode"`
	Float   FloatMode   `yaml:"float"`
	Choice  RouteChoice `yaml:"choice"`
	// Auto and On: as Enabled says.
	Databases map[string]Toggle `yaml:"databases"`
	Tables    map[string]Toggle `yaml:"tables"` // by name, or schema.name
}

// Cache answers repeated k-NN queries from memory.
type Cache struct {
	Enabled  bool                 `yaml:"enabled"`
	Mode     CacheMode            `yaml:"mode"`
	MaxAge   time.Duration        `yaml:"max_age"`
	Tables   map[string]CacheMode `yaml:"tables"`
	Geometry bool                 `yaml:"geometry"`
	Bytes    Bytes                `yaml:"bytes"`
	MaxEntry Bytes                `yaml:"max_entry"`
	Changes  Bytes                `yaml:"changes"`
}

// Catalog is what the gateway knows of the database's objects.
type Catalog struct {
	Refresh time.Duration `yaml:"refresh"`
}

// Schema is what the gateway does to the database itself.
type Schema struct {
	Migrate     bool   `yaml:"migrate"`
	TimescaleDB Toggle `yaml:"timescaledb"`
	PGVector    Toggle `yaml:"pgvector"`

	Policies Policies `yaml:"policies"`

	Settle    bool      `yaml:"settle"`
	ChangeLog ChangeLog `yaml:"change_log"`
}

// ChangeLog is whose changes are logged in qvpgw.changes, and how long.
type ChangeLog struct {
	Tables map[string]Toggle `yaml:"tables"` // auto, as without an entry: the platform's own are
	Keep   time.Duration     `yaml:"keep"`
	Rows   int               `yaml:"rows"`
}

// Default returns the configuration that holds without file and environment.
// The shipped config.yaml says the same; a test compares them.
func Default() *Config {
	return &Config{
		Listen: ":6432",
		HTTP:   "127.0.0.1:8432",
		Log:    Log{Level: LogInfo, Format: LogText},
		Engine: Engine{Gear: GearAuto},
		Backend: Backend{
			Host:           "127.0.0.1",
			Port:           5432,
			Database:       "postgres",
			User:           "postgres",
			SSLMode:        SSLPrefer,
			SSLNegotiation: SSLPostgres,
			ChannelBinding: BindPrefer,
			ConnectTimeout: 10 * time.Second,

			TargetSessionAttrs: TargetAny,
			LoadBalanceHosts:   BalanceOff,
			DNSRefresh:         15 * time.Second,
		},
		Pool: Pool{
			Size:             20,
			Overflow:         10,
			ReserveTimeout:   5 * time.Second,
			Mode:             PoolTransaction,
			QueryWaitTimeout: 2 * time.Minute,
			QueryWaitNotify:  5 * time.Second,
			ServerLifetime:   time.Hour,
			ServerCheckDelay: 30 * time.Second,
			LoginBackoff:     time.Second,
			LoginBackoffMax:  30 * time.Second,
			OnLoginFailure:   FailError,
		},
		Databases: map[string]Database{},
		Users:     map[string]UserPolicy{},
		Limits: Limits{
			MaxClients:         10000,
			MaxLogins:          1000,
			MaxStatement:       1 << 20,
			ClientLoginTimeout: time.Minute,
			SlowReaderTimeout:  30 * time.Second,
			CancelTimeout:      10 * time.Second,
			ShutdownTimeout:    30 * time.Second,
		},
		Auth:    Auth{Method: AuthSCRAM, Query: true, QueryText: DefaultAuthQuery},
		TLS:     TLS{Mode: TLSDisable, MinVersion: TLS12},
		Route:   Route{Enabled: true, Mode: RouteStrict, Float: FloatReassociate, Choice: ChoiceCost, Databases: map[string]Toggle{}, Tables: map[string]Toggle{}},
		Cache:   Cache{Enabled: true, Mode: CacheStrict, MaxAge: 100 * time.Millisecond, Tables: map[string]CacheMode{}, Geometry: true, Bytes: 64 << 20, MaxEntry: 1 << 20, Changes: 8 << 20},
		Rules:   map[string]RuleMode{},
		Catalog: Catalog{Refresh: 5 * time.Second},
		Schema:  Schema{Settle: true, ChangeLog: ChangeLog{Tables: map[string]Toggle{}, Keep: 10 * time.Minute, Rows: 100_000}, Migrate: true, TimescaleDB: Auto, PGVector: Auto, Policies: defaultPolicies()},
		where:   map[string]string{},
	}
}

// DefaultAuthQuery gives what the server keeps for a user that may log in now.
const DefaultAuthQuery = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid " +
	"WHERE rolname = $1 AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())"

// MaxServers is how many server connections one database and user may have.
func (p Pool) MaxServers() int { return p.Size + p.Overflow + p.Reserve }

// ClientUsers returns the users that may log in by configuration: auth.users, and
// the backend's own user with its password when that is set and not listed.
func (c *Config) ClientUsers() []User {
	users := append([]User(nil), c.Auth.Users...)
	if c.Backend.Password == "" {
		return users
	}
	for _, u := range users {
		if u.Name == c.Backend.User {
			return users
		}
	}
	return append(users, User{Name: c.Backend.User, Password: c.Backend.Password})
}

// ConsoleUsers returns the users that may use the console: auth.admins, or without
// any the backend's own user.
func (c *Config) ConsoleUsers() []string {
	if len(c.Auth.Admins) > 0 {
		return c.Auth.Admins
	}
	return []string{c.Backend.User}
}

// Where says what set a key: "config.yaml:12", "POSTGRES_PORT", or "default".
func (c *Config) Where(key string) string {
	if w := c.where[key]; w != "" {
		return w
	}
	return "default"
}
