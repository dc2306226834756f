package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"qvpgw/internal/bench"
	"qvpgw/internal/figure"
)

// loadTest is what `qvpgw bench` was asked for.
type loadTest struct {
	dsn, against    string
	clients, rounds int
	length          time.Duration
	protocol        string
	statement, file string
}

func benchCommand() *cobra.Command {
	var o loadTest
	c := &cobra.Command{
		Use: "bench [dsn]", Args: cobra.MaximumNArgs(1),
		Short: "Put load on a gateway or a server, or on two in turns",
		Long: `Clients send a statement over and over to the server of the DSN, each its next one
when the last is answered. Without a DSN libpq's environment variables count. With
--against the two servers take turns, and the ratios are those of the median round.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.dsn = args[0]
			}
			return o.run(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.against, "against", "", "DSN of the server to compare with")
	f.IntVar(&o.clients, "clients", 8, "clients at a time")
	f.DurationVar(&o.length, "time", 5*time.Second, "length of a round")
	f.IntVar(&o.rounds, "rounds", 0, "rounds (default 1, with --against 5)")
	f.StringVar(&o.protocol, "protocol", string(bench.Simple), "simple, extended or prepared")
	f.StringVar(&o.statement, "statement", "SELECT 1", "what to send; {1..1000} is a random number")
	f.StringVar(&o.file, "file", "", "file with the statements of a transaction, each but the last with ; at the end of a line")
	c.MarkFlagsMutuallyExclusive("statement", "file")
	return c
}

func (o *loadTest) run(ctx context.Context, w io.Writer) (err error) {
	r, err := o.plan()
	if err != nil {
		return err
	}
	names, dsns := []string{"tested"}, []string{o.dsn}
	if o.against != "" {
		names, dsns = append(names, "against"), append(dsns, o.against)
	}
	if o.rounds == 0 {
		o.rounds = len(dsns)*4 - 3 // 1 alone, 5 for two
	}
	fleets := make([]*bench.Fleet, len(dsns))
	for i, dsn := range dsns {
		if fleets[i], err = bench.Connect(ctx, bench.Options{DSN: dsn, Clients: o.clients}); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		defer func() { err = errors.Join(err, fleets[i].Close()) }()
	}
	fmt.Fprintf(w, "%-8s %5s  %9s  %8s %8s %8s  %s\n", "", "round", "tps", "p50 ms", "p95 ms", "p99 ms", "errors")
	rounds := make([][]loadRound, len(dsns))
	for round := range o.rounds {
		for i, f := range fleets {
			res, err := f.Run(ctx, r)
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			x := newLoadRound(res)
			rounds[i] = append(rounds[i], x)
			fmt.Fprintf(w, "%-8s %5d  %9.0f  %8.3f %8.3f %8.3f  %d\n", names[i], round+1, x.tps, x.p50, x.p95, x.p99, res.Errors)
			if res.FirstError != nil {
				fmt.Fprintf(w, "  an error: %v\n", res.FirstError)
			}
		}
	}
	return printLoad(w, names, rounds)
}

// plan checks what was asked for.
func (o *loadTest) plan() (bench.Run, error) {
	p, err := bench.ParseProtocol(o.protocol)
	if err != nil {
		return bench.Run{}, err
	}
	if o.length <= 0 || o.rounds < 0 {
		return bench.Run{}, errors.New("cannot run for no time: --time and --rounds must be positive")
	}
	text := o.statement
	if o.file != "" {
		b, err := os.ReadFile(o.file)
		if err != nil {
			return bench.Run{}, fmt.Errorf("cannot read the statements: %w", err)
		}
		text = string(b)
	}
	s, err := bench.ParseScript(text)
	return bench.Run{Script: s, Protocol: p, Duration: o.length}, err
}

// loadRound is one round of one side: transactions a second, milliseconds.
type loadRound struct{ tps, p50, p95, p99, errors float64 }

func newLoadRound(r bench.Result) loadRound {
	ms := func(p float64) float64 { return float64(r.Latencies.Percentile(p)) / float64(time.Millisecond) }
	return loadRound{tps: r.TPS(), p50: ms(0.5), p95: ms(0.95), p99: ms(0.99), errors: float64(r.Errors)}
}

// loadFigures are what is printed of a side; errors are summed, of the others the
// median counts.
var loadFigures = []struct {
	name string
	of   func(loadRound) float64
}{
	{"tps", func(r loadRound) float64 { return r.tps }},
	{"p50_ms", func(r loadRound) float64 { return r.p50 }},
	{"p95_ms", func(r loadRound) float64 { return r.p95 }},
	{"p99_ms", func(r loadRound) float64 { return r.p99 }},
}

// printLoad prints the medians and, of two sides, the medians of the rounds' ratios.
func printLoad(w io.Writer, names []string, rounds [][]loadRound) error {
	var err error
	say := func(name string, value float64) {
		line, e := figure.Line(name, value)
		err = errors.Join(err, e)
		fmt.Fprintln(w, line)
	}
	for i, side := range rounds {
		errs := 0.0
		for _, r := range side {
			errs += r.errors
		}
		for _, x := range loadFigures {
			say("load."+names[i]+"."+x.name, medianOf(side, nil, x.of))
		}
		say("load."+names[i]+".errors", errs)
	}
	if len(rounds) == 2 {
		for _, x := range loadFigures {
			if medianOf(rounds[1], nil, x.of) > 0 {
				say("load.ratio."+x.name[:3], medianOf(rounds[0], rounds[1], x.of))
			}
		}
	}
	return err
}

// medianOf returns the median of by, or of its ratio to that of the same round.
func medianOf[T any](a, to []T, by func(T) float64) float64 {
	v := make([]float64, len(a))
	for i := range a {
		v[i] = by(a[i])
		if to != nil {
			v[i] /= by(to[i])
		}
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
