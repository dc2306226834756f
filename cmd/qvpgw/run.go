package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
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
	cfg     *config.Config
	log     *slog.Logger
	started time.Time
	metrics *metrics.Metrics
	cache   *cache.Cache
	gateway *gateway.Server
	console *admin.Console
	process *handoff.Process
}

func logger(cfg *config.Config, w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: cfg.Log.Level.Slog()}
	if cfg.Log.Format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// build makes the parts; nothing listens and nothing is dialled yet.
func build(cfg *config.Config, log *slog.Logger, login fixed, process *handoff.Process) (*program, error) {
	if err := cfg.CheckRules(rules.Names()); err != nil {
		return nil, err
	}
	modes := map[string]string{}
	for name, m := range cfg.Rules {
		modes[name] = string(m)
	}
	set, err := rules.New(modes)
	if err != nil {
		return nil, err
	}
	p := &program{cfg: cfg, log: log, started: time.Now(), metrics: metrics.New(), cache: cache.New(int64(cfg.Cache.Bytes)), process: process}
	p.metrics.Build(versionText())
	p.metrics.Generation(process.Generation())
	guard, err := p.guard(cfg)
	if err != nil {
		return nil, err
	}
	gear, err := gateway.ParseGear(string(cfg.Engine.Gear))
	if err != nil {
		return nil, err
	}
	loops := cfg.Engine.Loops
	if loops == 0 {
		loops = runtime.NumCPU()
	}
	// A loop that is busy leaves goroutines their processors (trap T11).
	runtime.GOMAXPROCS(loops + runtime.NumCPU())
	opt := gateway.Options{
		Gear:  gear,
		Loops: loops,
		Backend: func(database, user string) (*pgconn.Config, error) {
			return backend(cfg, database, user)
		},
		Policy: func(database, user string) (gateway.Policy, error) {
			return policy(cfg, database, user)
		},
		LoginDatabase: login.database, LoginUser: login.user,
		Guard:         guard,
		MaxLogins:     cfg.Limits.MaxLogins,
		MaxClients:    cfg.Limits.MaxClients,
		LoginTimeout:  cfg.Limits.ClientLoginTimeout,
		QueueTimeout:  cfg.Pool.QueryWaitTimeout,
		CancelTimeout: cfg.Limits.CancelTimeout,
		IdleTimeout:   cfg.Limits.ClientIdleTimeout,
		IdleInTx:      cfg.Limits.IdleInTransactionTimeout,
		MaxText:       int(cfg.Limits.MaxStatement),
		NoRoute:       !cfg.Route.Enabled || cfg.Schema.TimescaleDB == config.Off,
		ExactFloats:   cfg.Route.Float == config.FloatExact,
		NoCache:       !cfg.Cache.Enabled || cfg.Schema.PGVector == config.Off,
		Rules:         set,
		NewLoader:     newLoader,
		CatalogEvery:  cfg.Catalog.Refresh,
		Cache:         p.cache,
		MaxEntry:      int(cfg.Cache.MaxEntry),
		Generation:    process.Generation(),
		Elsewhere:     process.Cancel,
		Console:       p.answer,
		Admins:        cfg.ConsoleUsers(),
		Metrics:       p.metrics,
		Version:       versionText(),
		Log:           log,
	}
	p.gateway = gateway.New(opt)
	p.console = p.newConsole()
	p.watch()
	return p, nil
}

// backend is the way to the server for a client's database and user.
func backend(cfg *config.Config, database, user string) (*pgconn.Config, error) {
	to, ok := cfg.Policy(database, user)
	if !ok {
		return nil, notServed(database)
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
	c, err := pgconn.ParseConfig(connString(to.Backend, to.Database, user, password))
	if err != nil {
		return nil, fmt.Errorf("cannot use the backend's settings: %w", err)
	}
	c.RuntimeParams = map[string]string{} // PGOPTIONS and the like are the gateway's, not its clients'
	return c, nil
}

// newLoader returns a reader of one database's catalog.
func newLoader() func(gateway.QueryFunc, *catalog.Snapshot) (*catalog.Snapshot, error) {
	l := new(schema.Loader)
	return func(run gateway.QueryFunc, last *catalog.Snapshot) (*catalog.Snapshot, error) {
		return l.Read(run, last)
	}
}

// migrate brings the schema up to date, if the gateway owns it.
func (p *program) migrate(ctx context.Context) error {
	if !p.cfg.Schema.Migrate {
		return nil
	}
	_, err := schema.NewMigrator(p.dsn(), schema.Options{Log: func(s string) { p.log.Info(s) }}).Up(ctx)
	if err != nil {
		return fmt.Errorf("cannot migrate the schema (schema.migrate: false serves without): %w", err)
	}
	return nil
}
