package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"qvpgw/internal/config"
	"qvpgw/internal/demo"
	"qvpgw/internal/embedded"
	"qvpgw/internal/handoff"
	"qvpgw/internal/schema"
)

// demoBars is the npm package's file that the demo's data come from.
const demoBars = "vega-datasets/data/sp500-2000.csv"

func demoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: "Bring up a database with market data, serve it, and show what the gateway does",
		RunE: func(c *cobra.Command, _ []string) error {
			return runDemo(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	c.Flags().BoolVar(&o.once, "once", false, "exit after the tour: status 0 if every line of it holds")
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:6432", "address for PostgreSQL clients")
	c.Flags().StringVar(&o.http, "http", "127.0.0.1:8432", "address for metrics and the page")
	c.Flags().StringVar(&o.dir, "dir", filepath.Join(cache, "qvpgw", "demo-"+schema.Layout()), "where the demo's database is kept")
	return c
}

type demoOptions struct {
	once              bool
	listen, http, dir string
}

// runDemo brings up the embedded backend, loads it, serves it and runs the tour.
func runDemo(ctx context.Context, o demoOptions, out, errs io.Writer) error {
	began := time.Now()
	install := filepath.Join(filepath.Dir(o.dir), "embedded")
	fmt.Fprintln(errs, "starting TimescaleDB and pgvector (embedded, for demo and tests alone)")
	b, err := embedded.Start(ctx, embedded.Options{Dir: install, Data: filepath.Join(o.dir, "data"), Log: errs})
	if err != nil {
		return err
	}
	defer b.Close()
	cfg, err := demoConfig(o, b.Addr())
	if err != nil {
		return err
	}
	m := schema.NewMigrator(b.DSN(), schema.Options{Policies: policies(cfg), Log: func(s string) { fmt.Fprintln(errs, s) }})
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	bars, err := embedded.File(install, demoBars)
	if err != nil {
		return err
	}
	if err := demo.Load(ctx, b.DSN(), bars, errs); err != nil {
		return err
	}
	if err := settleDemo(ctx, b.DSN()); err != nil {
		return err
	}
	g, err := build(cfg, slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn})), fixed{cfg.Backend.Database, cfg.Backend.User}, new(handoff.Process))
	if err != nil {
		return err
	}
	fmt.Fprintf(errs, "loaded after %.1f s\n", time.Since(began).Seconds())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	tour := make(chan error, 1)
	ready := func() {
		go func() {
			err := runTour(ctx, o, out)
			tour <- err
			if o.once || err != nil && ctx.Err() == nil {
				stop()
			}
		}()
	}
	err = g.serve(ctx, nil, ready)
	select {
	case t := <-tour:
		if t != nil && !errors.Is(t, context.Canceled) {
			err = errors.Join(t, err)
		}
	default:
	}
	return err
}

// settleDemo settles the demo's aggregates at once: nobody else is there.
func settleDemo(ctx context.Context, dsn string) error {
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("cannot settle the demo's aggregates: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return schema.Settle(ctx, conn)
}

// runTour runs the tour through the gateway and says how to go on by hand.
func runTour(ctx context.Context, o demoOptions, out io.Writer) error {
	host, port, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fmt.Errorf("cannot use the address %q: %w", o.listen, err)
	}
	if host == "" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	dsn := fmt.Sprintf("postgres://postgres@%s/qvp?sslmode=disable", net.JoinHostPort(host, port))
	r, err := demo.Tour(ctx, dsn, out)
	if err != nil {
		return fmt.Errorf("cannot run the tour to its end: %w", err)
	}
	if o.once {
		if !r.OK() {
			return exitCode(1)
		}
		return nil
	}
	fmt.Fprintf(out, "\nserving; connect with\n\n  psql %q\n\nmetrics and the page: http://%s/    end with Ctrl-C\n", dsn, o.http)
	return nil
}

// demoConfig is the gateway's configuration for the embedded backend: it has one
// session, one database and one user.
func demoConfig(o demoOptions, backend string) (*config.Config, error) {
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		return nil, err
	}
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = o.listen, o.http
	cfg.Backend.Host = host
	if cfg.Backend.Port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	cfg.Backend.Database, cfg.Backend.User, cfg.Backend.SSLMode = "qvp", "postgres", config.SSLDisable
	cfg.Backend.ConnectTimeout = time.Minute // it is started again after a cancel
	cfg.Pool.Size, cfg.Pool.Overflow = 1, 0
	cfg.Pool.ServerLifetime, cfg.Pool.ServerIdleTimeout = 0, 0
	cfg.Auth.Method, cfg.Auth.Query = config.AuthTrust, false
	cfg.Limits.ShutdownTimeout = 3 * time.Second
	cfg.Rules = map[string]config.RuleMode{"delete_without_where": config.RuleRefuse, "update_without_where": config.RuleRefuse}
	cfg.Route.Choice = config.ChoiceAlways // its tables are small
	cfg.Catalog.Refresh = 30 * time.Second
	return cfg, cfg.Validate()
}
