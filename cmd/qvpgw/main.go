// Command qvpgw is a gateway that speaks the PostgreSQL wire protocol in front of
// TimescaleDB and pgvector.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"qvpgw/internal/config"
)

// version is set by the build; without it the module's version or commit counts.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	fmt.Fprintln(os.Stderr, "qvpgw: "+err.Error())
	os.Exit(1)
}

// exitCode ends the program without another word.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// command returns the program's command line.
func command(out, errs io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "qvpgw",
		Short:         "A PostgreSQL gateway in front of TimescaleDB and pgvector",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(errs)
	var file string
	root.PersistentFlags().StringVar(&file, "config", "", "configuration file (default: ./config.yaml if it is there)")
	load := func() (*config.Config, error) { return loadConfig(file) }
	root.AddCommand(
		serveCommand(load),
		demoCommand(),
		migrateCommand(load),
		doctorCommand(load),
		explainCommand(load),
		benchCommand(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "qvpgw", versionText()) },
		},
	)
	return root
}

// loadConfig reads the file, ./.env and the environment.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		if _, err := os.Stat("config.yaml"); err == nil {
			file = "config.yaml"
		}
	}
	return config.Load(file, os.LookupEnv, ".env")
}

// versionText is the version, or the commit that was built.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
