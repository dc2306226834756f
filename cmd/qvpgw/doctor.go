package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"qvpgw/internal/config"
	"qvpgw/internal/schema"
)

func doctorCommand(load loadFunc) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Args: cobra.NoArgs,
		Short: "Say what the database is, what the gateway can do with it, and what to mend; status 1 if something is broken",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			r, err := diagnose(c.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				var b []byte
				if b, err = r.JSON(); err == nil {
					_, err = c.OutOrStdout().Write(b)
				}
			} else {
				_, err = fmt.Fprint(c.OutOrStdout(), r.Text())
			}
			if err == nil && !r.Healthy() {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// diagnose examines the gateway's own database, as its own role.
func diagnose(ctx context.Context, cfg *config.Config) (schema.Report, error) {
	b := cfg.Backend
	conn, err := pgx.Connect(ctx, connString(b, b.Database, b.User, string(b.Password)))
	if err != nil {
		return schema.Report{}, fmt.Errorf("cannot connect to the server (backend.host %s, backend.port %d): %w", b.Host, b.Port, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	o := schema.DoctorOptions{
		PoolSize: cfg.Pool.MaxServers(), Policies: policies(cfg),
		AuthQuery: cfg.Auth.Query && cfg.Auth.QueryText == config.Default().Auth.QueryText,
	}
	o.Demanded, o.Without = extensions(cfg)
	o.TrustLogs = cfg.Route.Mode == config.RouteWatermark
	for name, t := range cfg.Schema.ChangeLog.Tables {
		if t == config.Off {
			o.Unlogged = append(o.Unlogged, name)
		}
	}
	return schema.Doctor(ctx, schema.ConnQuery(conn), o)
}

// extensions are those that the configuration demands, and those that it does without.
func extensions(cfg *config.Config) (demanded, without []string) {
	for _, x := range []struct {
		name string
		want config.Toggle
	}{{"timescaledb", cfg.Schema.TimescaleDB}, {"vector", cfg.Schema.PGVector}} {
		switch x.want {
		case config.On:
			demanded = append(demanded, x.name)
		case config.Off:
			without = append(without, x.name)
		}
	}
	return demanded, without
}

func explainCommand(load loadFunc) *cobra.Command {
	return &cobra.Command{
		Use: "explain statement", Args: cobra.MinimumNArgs(1),
		Short: "Ask the running gateway what it would do with a statement",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			b := cfg.Backend
			host, port, err := clientAddress(cfg.Listen)
			if err != nil {
				return err
			}
			b.Host, b.Port, b.SSLMode = host, port, "prefer"
			conn, err := pgconn.Connect(c.Context(), connString(b, b.Database, b.User, string(b.Password)))
			if err != nil {
				return fmt.Errorf("cannot connect to the gateway at %s: %w", cfg.Listen, err)
			}
			defer conn.Close(c.Context())
			results, err := conn.Exec(c.Context(), "EXPLAIN (QVPGW) "+strings.Join(args, " ")).ReadAll()
			if err != nil {
				return err
			}
			for _, r := range results {
				for _, row := range r.Rows {
					fmt.Fprintln(c.OutOrStdout(), string(row[0]))
				}
			}
			return nil
		},
	}
}
