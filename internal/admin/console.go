package admin

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Console answers the statements of the virtual database. Its functions give the
// rows of the moment, from any goroutine; one that is nil has none.
type Console struct {
	Version   string // of the program
	Pools     func() []PoolRow
	Clients   func() []ClientRow
	Servers   func() []ServerRow
	Stats     func() []StatsRow
	Databases func() []DatabaseRow
	Users     func() []UserRow
	Config    func() []ConfigRow
	Pins      func() []PinRow
	Cache     func() []CacheRow
	Logins    func() []LoginRow
	Login     func() int   // clients that are logging in
	Reload    func() error // reads the configuration again
	// Do carries out what is neither SHOW nor RELOAD; it returns when it is done or ctx ends. Its
	// error is an *Error. Nil: there is no more than these.
	Do func(ctx context.Context, c Command) error

	// mu protects the samples that averages are counted from.
	mu         sync.Mutex
	older, old sample
}

type sample struct {
	at   time.Time
	rows map[string]StatsRow // by database
}

// statsPeriod is how often samples are taken: averages are of one to two periods,
// like PgBouncer's with its stats_period of 60 s.
const statsPeriod = time.Minute

// Run takes the samples for SHOW STATS until ctx ends. Without it averages are
// since the first SHOW STATS.
func (c *Console) Run(ctx context.Context) {
	t := time.NewTicker(statsPeriod)
	defer t.Stop()
	for {
		c.sample(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (c *Console) sample(now time.Time) {
	s := sample{at: now, rows: map[string]StatsRow{}}
	for _, r := range rowsOf(c.Stats) {
		s.rows[r.Database] = r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.older, c.old = c.old, s
	if c.older.at.IsZero() {
		c.older = s
	}
}

// Answer returns the table for one statement, or carries it out. The error is an
// *Error.
func (c *Console) Answer(ctx context.Context, text string) (Table, error) {
	cmd, err := ParseCommand(text)
	if err != nil {
		return Table{}, err
	}
	switch {
	case cmd.Verb == "RELOAD":
		return Table{Tag: cmd.Verb}, c.reload()
	case cmd.Verb != "SHOW":
		if c.Do == nil {
			return Table{}, &Error{"0A000", cmd.Verb + " is not supported by this console", ""}
		}
		return Table{Tag: cmd.Verb}, c.Do(ctx, cmd)
	}
	t := c.show(cmd)
	t.Tag = cmd.Verb
	return t, nil
}

func (c *Console) show(cmd Command) Table {
	switch cmd.Topic {
	case "POOLS":
		return poolTable(rowsOf(c.Pools))
	case "CLIENTS":
		return clientTable(rowsOf(c.Clients))
	case "SERVERS":
		return serverTable(rowsOf(c.Servers))
	case "STATS":
		return c.stats(time.Now())
	case "DATABASES":
		return databaseTable(rowsOf(c.Databases))
	case "USERS":
		return userTable(rowsOf(c.Users))
	case "LISTS":
		return c.lists()
	case "CONFIG":
		return configTable(rowsOf(c.Config))
	case "CACHE":
		return cacheTable(rowsOf(c.Cache))
	case "LOGINS":
		return loginTable(rowsOf(c.Logins))
	case "PINS":
		return pinTable(rowsOf(c.Pins))
	case "VERSION":
		return Table{Columns: versionColumns, Rows: [][]string{{"qvpgw " + c.Version + " (console of PgBouncer 1.24)"}}}
	case "HELP":
		t := Table{Columns: helpColumns}
		for _, topic := range topics {
			t.Rows = append(t.Rows, []string{"SHOW " + topic.name, topic.answers})
		}
		for _, v := range verbs {
			t.Rows = append(t.Rows, []string{strings.TrimSpace(v.name + " " + v.takes), v.does})
		}
		return t
	}
	panic("BUG: ParseCommand gave the topic " + cmd.Topic)
}

// reload is RELOAD. F0000 is PostgreSQL's config_file_error.
func (c *Console) reload() error {
	if c.Reload == nil {
		return &Error{"0A000", "this gateway has no configuration to read again", ""}
	}
	if err := c.Reload(); err != nil {
		return &Error{"F0000", err.Error(), "The configuration in force stays as it was."}
	}
	return nil
}

func (c *Console) stats(now time.Time) Table {
	c.mu.Lock()
	older := c.older
	c.mu.Unlock()
	if older.at.IsZero() {
		c.sample(now)
		older.at = now
	}
	return statsTable(rowsOf(c.Stats), older.rows, now.Sub(older.at))
}

func (c *Console) lists() Table {
	login := 0
	if c.Login != nil {
		login = c.Login()
	}
	return listTable(len(rowsOf(c.Databases)), len(rowsOf(c.Users)), len(rowsOf(c.Pools)),
		len(rowsOf(c.Clients)), login, len(rowsOf(c.Servers)))
}

func rowsOf[T any](f func() []T) []T {
	if f == nil {
		return nil
	}
	return f()
}
