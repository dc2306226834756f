package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"qvpgw/internal/config"
	"qvpgw/internal/schema"
)

type loadFunc = func() (*config.Config, error)

func migrateCommand(load loadFunc) *cobra.Command {
	root := &cobra.Command{Use: "migrate", Short: "Bring the schema to a version, or say where it stands"}
	asJSON := root.PersistentFlags().Bool("json", false, "print JSON")
	yes := root.PersistentFlags().Bool("yes", false, "let a migration down, or a retention that up makes, drop rows")
	var adopt bool
	open := func(c *cobra.Command) (*schema.Migrator, error) {
		cfg, err := load()
		if err != nil {
			return nil, err
		}
		b := cfg.Backend
		o := schema.Options{Yes: *yes, Policies: policies(cfg), Log: func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }}
		o.Demanded, o.Without = extensions(cfg)
		return schema.NewMigrator(connString(b, b.Database, b.User, string(b.Password)), o), nil
	}
	show := func(c *cobra.Command, v interface{ Text() string }) error {
		if *asJSON {
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(v)
		}
		_, err := fmt.Fprint(c.OutOrStdout(), v.Text())
		return err
	}
	result := func(use, short string, args cobra.PositionalArgs, run func(context.Context, *schema.Migrator, []string) (schema.Result, error)) {
		root.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: args,
			RunE: func(c *cobra.Command, a []string) error {
				m, err := open(c)
				if err != nil {
					return err
				}
				r, err := run(c.Context(), m, a)
				if err != nil {
					if len(r.Adopted) > 0 {
						err = errors.Join(show(c, r), err) // that is done, whatever came after it
					}
					return err
				}
				return show(c, r)
			},
		})
	}
	result("up", "Apply all migrations that are pending, and the policies that are configured", cobra.NoArgs, func(ctx context.Context, m *schema.Migrator, _ []string) (schema.Result, error) {
		if adopt {
			return m.Adopt(ctx)
		}
		return m.Up(ctx)
	})
	for _, c := range root.Commands() {
		if c.Name() == "up" {
			c.Flags().BoolVar(&adopt, "adopt", false, "take over tables that are there already, with their rows")
		}
	}
	result("down [n]", "Undo the last n migrations (default 1)", cobra.MaximumNArgs(1), func(ctx context.Context, m *schema.Migrator, a []string) (schema.Result, error) {
		n, err := number(a, 1)
		if err != nil {
			return schema.Result{}, err
		}
		return m.Down(ctx, n)
	})
	result("goto version", "Migrate up or down to a version", cobra.ExactArgs(1), func(ctx context.Context, m *schema.Migrator, a []string) (schema.Result, error) {
		n, err := number(a, 0)
		if err != nil {
			return schema.Result{}, err
		}
		return m.Goto(ctx, n)
	})
	result("force version", "Mark a version as clean without running anything", cobra.ExactArgs(1), func(ctx context.Context, m *schema.Migrator, a []string) (schema.Result, error) {
		n, err := number(a, 0)
		if err != nil {
			return schema.Result{}, err
		}
		return m.Force(ctx, n)
	})
	root.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Say which migrations are applied, and which policies hold", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				m, err := open(c)
				if err != nil {
					return err
				}
				s, err := m.Status(c.Context())
				if err != nil {
					return err
				}
				return show(c, s)
			},
		},
		&cobra.Command{
			Use: "version", Short: "Print the schema's version", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				m, err := open(c)
				if err != nil {
					return err
				}
				v, dirty, err := m.Version(c.Context())
				if err != nil {
					return err
				}
				text := strconv.Itoa(v)
				if v < 0 {
					text = "none"
				}
				if dirty {
					text += " (dirty)"
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), text)
				return err
			},
		},
		createCommand(open),
	)
	return root
}

// createCommand writes migrations into the folder of the program's source.
func createCommand(open func(*cobra.Command) (*schema.Migrator, error)) *cobra.Command {
	var fromDiff bool
	var dir, scratch string
	c := &cobra.Command{
		Use: "create title", Short: "Write the two files of a new migration", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, a []string) (err error) {
			var up, down string
			if fromDiff {
				m, err := open(c)
				if err != nil {
					return err
				}
				d, err := m.Diff(c.Context(), scratch)
				if err != nil {
					return err
				}
				for _, k := range d.Kept {
					fmt.Fprintln(c.ErrOrStderr(), "kept, though no migration makes it:", k)
				}
				if d.Empty() {
					_, err = fmt.Fprintln(c.OutOrStdout(), "the schema is the wanted one: nothing to write")
					return err
				}
				upText, downText := d.Files()
				up, down, err = schema.CreateWith(dir, a[0], upText, downText)
				if err != nil {
					return err
				}
			} else if up, down, err = schema.Create(dir, a[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), up+"\n"+down)
			return err
		},
	}
	c.Flags().BoolVar(&fromDiff, "from-diff", false, "write what makes the database's schema the wanted one")
	c.Flags().StringVar(&dir, "dir", "migrations", "the folder of the migrations")
	c.Flags().StringVar(&scratch, "scratch", "", "address of an empty database to make the wanted schema in; default: one is made and dropped")
	return c
}

// number reads the first argument, or the default.
func number(args []string, def int) (int, error) {
	if len(args) == 0 {
		return def, nil
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("cannot read %q as a number of migrations or a version", args[0])
	}
	return n, nil
}
