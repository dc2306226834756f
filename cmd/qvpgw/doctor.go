package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"qvpgw/internal/schema"
)

func doctorCommand(load loadFunc) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Args: cobra.NoArgs,
		Short: "Say what the database is, what the gateway can do with it, and what to mend",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			b := cfg.Backend
			conn, err := pgx.Connect(c.Context(), connString(b, b.Database, b.User, string(b.Password)))
			if err != nil {
				return fmt.Errorf("cannot connect to the server (backend.host %s, backend.port %d): %w", b.Host, b.Port, err)
			}
			defer conn.Close(c.Context())
			r, err := schema.Doctor(c.Context(), schema.ConnQuery(conn), schema.DoctorOptions{PoolSize: cfg.Pool.MaxServers()})
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), r.Text())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
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
