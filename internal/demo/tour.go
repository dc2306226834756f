package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Result is what the tour found.
type Result struct {
	Lines       int
	Unequal     int // lines that do not hold: answer, route or check
	WithinBound int // of those that hold: with sums of floats that were added in another order
}

// OK says whether every line holds.
func (r Result) OK() bool { return r.Lines > 0 && r.Unequal == 0 }

// The tour's limits: one statement, and the clean-up at its end.
const (
	statementTimeout = time.Minute
	cleanupTimeout   = time.Minute
)

// Tour runs statements through the gateway at dsn, each as it comes and again
// after SET qvpgw.route = off and SET qvpgw.cache = off, compares the answers
// (columns with their types, rows in order, tag or error) and writes a table to
// out: route and reason, rows, median times, equal or not, and after it what
// failed and the figures demo.lines and demo.unequal. The database must hold what
// Load loads. Late bars and a vector are inserted by a second client on the way
// and deleted at the end, whatever happens, so that the tour can be run again.
//
// A line that does not hold is counted in Result; an error means that the tour
// could not be run to its end.
func Tour(ctx context.Context, dsn string, out io.Writer) (Result, error) {
	t := &tour{out: out}
	t.write = func(ctx context.Context, statements []string) error { return write(ctx, dsn, statements) }

	f, err := prepare(ctx, dsn)
	if err != nil {
		return t.result, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if err := cleanup(ctx, dsn); err != nil {
			fmt.Fprintf(out, "the tour's rows could not be deleted again: %v\n", err)
		}
	}()

	conn, err := connect(ctx, dsn)
	if err != nil {
		return t.result, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	t.reader = client{conn}
	return t.run(ctx, steps(f))
}

// write runs statements as a client of its own.
func write(ctx context.Context, dsn string, statements []string) error {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if err := exec(ctx, conn, s); err != nil {
			return fmt.Errorf("cannot run %s: %w", clip(s, 60), err)
		}
	}
	return nil
}

// sweep deletes the rows that tours insert and says whether there were any late
// bars.
func sweep(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	if err := exec(ctx, conn, deleteNearest()); err != nil {
		return false, fmt.Errorf("cannot delete the tour's vector: %w", err)
	}
	results, err := conn.Exec(ctx, deleteLateBars()).ReadAll()
	if err != nil {
		return false, fmt.Errorf("cannot delete the tour's late bars: %w", err)
	}
	return len(results) > 0 && results[0].CommandTag.RowsAffected() > 0, nil
}

func cleanup(ctx context.Context, dsn string) error {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	late, err := sweep(ctx, conn)
	if err != nil || !late {
		return err
	}
	calls, err := refreshes(ctx, conn)
	if err != nil {
		return err
	}
	for _, call := range calls {
		if err := exec(ctx, conn, call); err != nil {
			return fmt.Errorf("cannot run %s: %w", call, err)
		}
	}
	return nil
}

// prepare deletes what an interrupted tour left and reads what the statements
// are made of.
func prepare(ctx context.Context, dsn string) (facts, error) {
	if err := cleanup(ctx, dsn); err != nil {
		return facts{}, err
	}
	conn, err := connect(ctx, dsn)
	if err != nil {
		return facts{}, err
	}
	defer conn.Close(ctx)
	var f facts
	last, err := queryOne(ctx, conn, "SELECT timestamp FROM market_data WHERE symbol = '"+Minute+"' ORDER BY timestamp DESC LIMIT 1")
	if err != nil {
		return facts{}, fmt.Errorf("cannot find the last minute bar, is the demo's data loaded: %w", err)
	}
	at, err := time.Parse("2006-01-02 15:04:05-07", last)
	if err != nil {
		return facts{}, fmt.Errorf("cannot read the last minute bar's time: %w", err)
	}
	f.from = at.AddDate(0, 0, -120)
	text, err := queryOne(ctx, conn, "SELECT embedding FROM feature_embeddings WHERE symbol = '"+Daily+"' AND feature_type = '"+FeatureType+
		"' ORDER BY timestamp DESC LIMIT 1")
	if err != nil {
		return facts{}, fmt.Errorf("cannot find the last embedding, is the demo's data loaded: %w", err)
	}
	if f.vector, err = besides(text); err != nil {
		return facts{}, fmt.Errorf("cannot read the last embedding: %w", err)
	}
	f.refreshes, err = refreshes(ctx, conn)
	return f, err
}

// besides gives a direction near the embedding, given as text, but not its own.
func besides(text string) ([]float32, error) {
	var x []float64
	for _, s := range strings.Split(strings.Trim(text, "[]"), ",") {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, err
		}
		x = append(x, v*(1+0.3*math.Sin(float64(len(x)))))
	}
	v, ok := normalise(x)
	if !ok {
		return nil, errors.New("its length is 0")
	}
	return v, nil
}

// tour is a run of the steps.
type tour struct {
	reader session
	write  func(ctx context.Context, statements []string) error
	out    io.Writer
	result Result
	notes  []string
}

// outcome is what is shown of a step.
type outcome struct {
	route            string
	rows             int
	through, without time.Duration // medians; without is 0 for a step that is run alone
	verdict          verdict
	note             string
}

func (t *tour) run(ctx context.Context, all []step) (Result, error) {
	t.head()
	for i, s := range all {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		o, err := t.step(ctx, s)
		cancel()
		if err != nil {
			return t.result, fmt.Errorf("cannot finish line %d of the tour (%s): %w", i+1, s.title, err)
		}
		t.result.Lines++
		switch o.verdict {
		case unequal:
			t.result.Unequal++
		case withinBound:
			t.result.WithinBound++
		}
		t.row(i+1, s, o)
	}
	t.foot()
	return t.result, nil
}

// step runs one line.
func (t *tour) step(ctx context.Context, s step) (outcome, error) {
	if len(s.before) > 0 {
		if err := t.write(ctx, s.before); err != nil {
			return outcome{}, err
		}
	}
	runs := s.runs
	if runs == 0 {
		runs = manyRuns
	}
	through, routes, err := t.series(ctx, s.query, runs, "auto")
	if err != nil {
		return outcome{}, err
	}
	o := outcome{route: routes[0], rows: len(through[0].rows), through: median(through), verdict: equal}
	if s.alone {
		if len(through[0].rows) == 0 {
			o.verdict, o.note = unequal, "no rows"
			if err := through[0].err; err != nil {
				o.note = err.Error()
			}
		}
	} else {
		without, offRoutes, err := t.series(ctx, s.query, runs, "off")
		if err != nil {
			return outcome{}, err
		}
		o.without = median(without)
		for _, a := range through {
			if v, note := compare(a, without[0], s.sums); v < o.verdict {
				o.verdict, o.note = v, note
			}
		}
		// Else the comparison would prove nothing. Rules hold all the same.
		if !matches(offRoutes[0], []string{"pass", "refused"}) {
			o.fail(fmt.Sprintf("route %q although routing and caching are off", offRoutes[0]))
		}
	}
	for _, route := range routes {
		if !matches(route, s.route) {
			o.fail(fmt.Sprintf("route %q, want %s", route, strings.Join(s.route, " or ")))
			break
		}
	}
	if s.check != nil {
		for _, a := range through {
			if err := s.check(a); err != nil {
				o.fail(err.Error())
				break
			}
		}
	}
	if e := through[0].err; e != nil && o.verdict != unequal {
		o.note = fmt.Sprintf("%s %s; detail: %s; hint: %s", e.Code, e.Message, e.Detail, e.Hint)
	}
	return o, nil
}

func (o *outcome) fail(note string) {
	if o.verdict == unequal {
		note = o.note + "; " + note
	}
	o.verdict, o.note = unequal, note
}

// series asks the same several times with routing and caching set to mode and
// reads the route of each.
func (t *tour) series(ctx context.Context, q query, runs int, mode string) ([]answer, []string, error) {
	for _, name := range []string{"qvpgw.route", "qvpgw.cache"} {
		if err := t.reader.set(ctx, name, mode); err != nil {
			return nil, nil, err
		}
	}
	var answers []answer
	var routes []string
	for range runs {
		a, err := t.reader.ask(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		route, err := t.reader.route(ctx)
		if err != nil {
			return nil, nil, err
		}
		answers, routes = append(answers, a), append(routes, route)
	}
	return answers, routes, nil
}

// matches says whether route, as qvpgw.last_route gives it (action, reason and
// what it was answered from), is one of wanted: the same action, and each further
// word somewhere in it. With none wanted any route will do.
func matches(route string, wanted []string) bool {
	said := strings.Fields(route)
	for i, word := range said {
		said[i] = strings.TrimPrefix(strings.TrimPrefix(word, "public."), "rule_")
	}
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool {
		words := strings.Fields(w)
		return len(said) > 0 && said[0] == words[0] && !slices.ContainsFunc(words[1:], func(word string) bool {
			return !slices.Contains(said[1:], word)
		})
	})
}

func median(answers []answer) time.Duration {
	took := make([]time.Duration, len(answers))
	for i, a := range answers {
		took[i] = a.took
	}
	slices.Sort(took)
	return took[len(took)/2]
}
