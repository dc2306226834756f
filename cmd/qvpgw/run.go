package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"qvpgw/internal/admin"
	"qvpgw/internal/cache"
	"qvpgw/internal/catalog"
	"qvpgw/internal/config"
	"qvpgw/internal/gateway"
	"qvpgw/internal/handoff"
	"qvpgw/internal/metrics"
	"qvpgw/internal/rules"
	"qvpgw/internal/schema"
)

func serveCommand(load func() (*config.Config, error)) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Serve PostgreSQL clients", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGTERM, os.Interrupt)
			process, err := handoff.Start()
			if err != nil {
				return err
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			g, err := build(cfg, logger(cfg, c.ErrOrStderr()), fixed{}, process)
			if err != nil {
				return err
			}
			g.load = load
			if err := g.migrate(c.Context()); err != nil {
				return err
			}
			return g.serve(context.WithoutCancel(c.Context()), signals, func() {})
		},
	}
}

// fixed is the one login that a backend takes which knows no databases and users.
type fixed struct{ database, user string }

// program is the running gateway: every part, built in the order in which they
// depend on each other.
type program struct {
	config atomic.Pointer[config.Config] // as reload left it
	log    *slog.Logger
	load   func() (*config.Config, error) // reads it again; nil: it is in no file

	reloading   sync.Mutex // one reload at a time
	reconciling sync.Mutex // one comparison of policies at a time
	started     time.Time
	metrics     *metrics.Metrics
	cache       *cache.Cache
	gateway     *gateway.Server
	console     *admin.Console
	process     *handoff.Process
	asked       chan os.Signal // what the console's SHUTDOWN stands for
}

func logger(cfg *config.Config, w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: cfg.Log.Level.Slog()}
	if cfg.Log.Format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// cfg is the configuration in force.
func (p *program) cfg() *config.Config { return p.config.Load() }

// build makes the parts; nothing listens and nothing is dialled yet.
func build(cfg *config.Config, log *slog.Logger, login fixed, process *handoff.Process) (*program, error) {
	p := &program{log: log, started: time.Now(), metrics: metrics.New(), process: process, asked: make(chan os.Signal, 2)}
	p.config.Store(cfg)
	p.metrics.Build(versionText())
	p.metrics.Generation(process.Generation())
	var err error
	if p.cache, err = cache.New(int64(cfg.Cache.Bytes)); err != nil {
		return nil, err
	}
	opt, err := p.options(cfg)
	if err != nil {
		return nil, err
	}
	gear, err := gateway.ParseGear(string(cfg.Engine.Gear))
	if err != nil {
		return nil, err
	}
	loops := cfg.Engine.Loops
	if loops == 0 {
		loops = gateway.DefaultLoops()
	}
	// A loop that is busy leaves goroutines their processors (trap T11).
	runtime.GOMAXPROCS(loops + runtime.NumCPU())
	opt.Gear, opt.Loops = gear, loops
	opt.LoginDatabase, opt.LoginUser = login.database, login.user
	opt.MaxText = int(cfg.Limits.MaxStatement)
	opt.NoRoute = !cfg.Route.Enabled || cfg.Schema.TimescaleDB == config.Off
	opt.NoRouteDatabases, opt.NoRouteTables = off(cfg.Route.Databases), off(cfg.Route.Tables)
	opt.TrustLogs = cfg.Route.Mode == config.RouteWatermark
	opt.ExactFloats = cfg.Route.Float == config.FloatExact
	opt.AlwaysRoute = cfg.Route.Choice == config.ChoiceAlways
	opt.NoCache = !cfg.Cache.Enabled || cfg.Schema.PGVector == config.Off
	opt.Cache, opt.Changes, opt.CoarseCache = p.cache, int64(cfg.Cache.Changes), !cfg.Cache.Geometry
	opt.NewLoader, opt.CatalogEvery = newLoader, cfg.Catalog.Refresh
	opt.Generation, opt.Elsewhere = process.Generation(), process.Cancel
	opt.Console = p.answer
	opt.Metrics, opt.Version, opt.Log = p.metrics, versionText(), log
	p.gateway = gateway.New(opt)
	p.console = p.newConsole()
	p.watch()
	return p, nil
}

// options are those that a reload changes, too.
func (p *program) options(cfg *config.Config) (gateway.Options, error) {
	if err := cfg.CheckRules(rules.Names()); err != nil {
		return gateway.Options{}, err
	}
	actions := map[string]string{}
	for name, m := range cfg.Rules {
		actions[name] = string(m)
	}
	set, err := rules.New(actions)
	if err != nil {
		return gateway.Options{}, err
	}
	guard, err := p.guard(cfg)
	if err != nil {
		return gateway.Options{}, err
	}
	fresh := map[string]gateway.Freshness{}
	for name, mode := range cfg.Cache.Tables {
		fresh[name] = gateway.ParseFreshness(string(mode))
	}
	// Its files are read here, before anything of a reload holds.
	b := cfg.Backend
	if _, err := backendConfig(b, b.Database, b.User, string(b.Password)); err != nil {
		return gateway.Options{}, err
	}
	return gateway.Options{
		Guard: guard,
		Backend: func(database, user string) (*pgconn.Config, error) {
			return backend(cfg, database, user)
		},
		Policy: func(database, user string) (gateway.Policy, error) {
			return policy(cfg, database, user)
		},
		Rules:         set,
		Admins:        cfg.ConsoleUsers(),
		MaxLogins:     cfg.Limits.MaxLogins,
		MaxClients:    cfg.Limits.MaxClients,
		LoginTimeout:  cfg.Limits.ClientLoginTimeout,
		QueueTimeout:  cfg.Pool.QueryWaitTimeout,
		QueueNotify:   cfg.Pool.QueryWaitNotify,
		CancelTimeout: cfg.Limits.CancelTimeout,
		IdleTimeout:   cfg.Limits.ClientIdleTimeout,
		IdleInTx:      cfg.Limits.IdleInTransactionTimeout,
		SlowReader:    cfg.Limits.SlowReaderTimeout,
		MaxEntry:      int(cfg.Cache.MaxEntry),
		Freshness:     gateway.ParseFreshness(string(cfg.Cache.Mode)),
		MaxAge:        cfg.Cache.MaxAge,
		FreshTables:   fresh,
	}, nil
}

// backend is the way to the server for a client's database and user.
func backend(cfg *config.Config, database, user string) (*pgconn.Config, error) {
	to, err := served(cfg, database, user)
	if err != nil {
		return nil, err
	}
	password := ""
	for _, u := range cfg.ClientUsers() {
		if u.Name == user {
			password = string(u.ServerPassword)
			if password == "" {
				password = string(u.Password)
			}
		}
	}
	return backendConfig(to.Backend, to.Database, user, password)
}

// backendConfig reads the files that the backend's settings name.
func backendConfig(b config.Backend, database, user, password string) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(connString(b, database, user, password))
	if err != nil {
		return nil, fmt.Errorf("cannot use the backend's settings: %w", err)
	}
	c.RuntimeParams = map[string]string{} // PGOPTIONS and the like are the gateway's, not its clients'
	return c, nil
}

// newLoader returns a reader of one database's catalog.
func newLoader() gateway.LoadFunc {
	l := new(schema.Loader)
	return func(run gateway.QueryFunc, last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error) {
		return l.Read(run, last, touched)
	}
}

// migrate brings the schema up to date, if the gateway owns it. What is half made is
// not served in either case.
func (p *program) migrate(ctx context.Context) error {
	o := schema.Options{Policies: policies(p.cfg()), Log: func(s string) { p.log.Info(s) }}
	o.Demanded, o.Without = extensions(p.cfg())
	m := schema.NewMigrator(p.dsn(), o)
	if !p.cfg().Schema.Migrate {
		return p.whole(ctx, m)
	}
	r, err := m.Up(ctx)
	if err != nil && errors.Is(err, schema.ErrHalf) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	if lacks, ok := errors.AsType[*schema.PrivilegeError](err); ok {
		p.log.Warn("the schema is not migrated: what is there is served as it is", "why", lacks.Error())
		return p.whole(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("cannot migrate the schema (schema.migrate: false serves without): %w", err)
	}
	p.said(*r.Policies)
	return nil
}

// lookTimeout bounds the look at a schema that the gateway does not own.
const lookTimeout = 5 * time.Second

// whole refuses a schema that is seen to be half made. A server that cannot be asked
// now may be served later.
func (p *program) whole(ctx context.Context, m *schema.Migrator) error {
	ctx, stop := context.WithTimeout(ctx, lookTimeout)
	defer stop()
	s, err := m.Status(ctx)
	if err == nil {
		err = m.Demand(ctx)
	}
	if errors.Is(err, schema.ErrDemanded) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	if err != nil {
		p.log.Debug("the state of the schema is not known", "error", err)
		return nil
	}
	if s.Half() {
		return fmt.Errorf("cannot serve: %w: %s", schema.ErrHalf, s.Advice)
	}
	return nil
}

// off are the names that are switched off.
func off(list map[string]config.Toggle) map[string]bool {
	names := map[string]bool{}
	for name, t := range list {
		if t == config.Off {
			names[name] = true
		}
	}
	return names
}
