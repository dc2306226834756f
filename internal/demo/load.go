package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Load brings the demo's data, derived from the daily bars in the CSV file at
// path, into the migrated database at dsn, refreshes its continuous aggregates
// and analyzes its tables. What is already there whole is left alone, so that a
// second call takes little more than the counting of rows; what is there in part
// is deleted and loaded again, each set of rows in one transaction. Only rows of
// the demo's symbols, feature type and strategy are ever deleted, but for the
// tables that have no such column (portfolio_values, volatility_regimes).
//
// Progress goes to progress: a line for each piece, on a terminal in place. An
// error says which rows could not be loaded; what was committed before stays.
func Load(ctx context.Context, dsn, path string, progress io.Writer) error {
	bars, err := ReadBars(path)
	if err != nil {
		return err
	}
	data, err := NewDataset(bars)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))

	// Rows that an interrupted tour left behind would make the counts differ.
	if _, err := sweep(ctx, conn); err != nil {
		return err
	}
	m := newMeter(progress)
	var loaded []string
	for _, s := range sets(data) {
		fresh, err := loadSet(ctx, conn, s, m)
		if err != nil {
			return fmt.Errorf("cannot load %s: %w", s.title, err)
		}
		if fresh {
			loaded = append(loaded, s.table)
		}
	}
	if err := refreshAll(ctx, conn, m); err != nil {
		return err
	}
	return analyze(ctx, conn, loaded, m)
}

// connect opens a connection of the demo with the time zone UTC, which the
// tour's buckets by date_trunc depend on.
func connect(ctx context.Context, dsn string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("cannot parse the demo's connection string: %w", err)
	}
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["application_name"] = "qvpgw demo"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the demo's database: %w", err)
	}
	return conn, nil
}

// set is a kind of rows that is loaded whole or not at all.
type set struct {
	title   string
	table   string
	columns string
	where   string // condition of the rows that are ours
	rows    int
	piece   int // rows of one COPY: its text is held in memory here and by the backend
	append  func(dst []byte, i int) []byte
}

func (s set) count() string  { return "SELECT count(*) FROM " + s.table + " WHERE " + s.where }
func (s set) remove() string { return "DELETE FROM " + s.table + " WHERE " + s.where }
func (s set) copy() string   { return "COPY " + s.table + " (" + s.columns + ") FROM STDIN" }

func sets(d *Dataset) []set {
	bar := func(symbol string, bars []Bar) func([]byte, int) []byte {
		return func(dst []byte, i int) []byte {
			b := bars[i]
			return line(dst, b.Time, symbol, b.Open, b.High, b.Low, b.Close, b.Volume)
		}
	}
	const barColumns = "timestamp, symbol, open, high, low, close, volume"
	return []set{
		{
			// A daily bar in nearly every chunk of twenty years: small pieces, for
			// each makes hundreds of chunks.
			title: "daily bars " + Daily, table: "market_data", columns: barColumns,
			where: "symbol = '" + Daily + "'", rows: len(d.Daily), piece: 1000, append: bar(Daily, d.Daily),
		},
		{
			title: "minute bars " + Minute, table: "market_data", columns: barColumns,
			where: "symbol = '" + Minute + "'", rows: len(d.Minutes), piece: 5000, append: bar(Minute, d.Minutes),
		},
		{
			title: "ticks " + Minute, table: "tick_data",
			columns: "timestamp, symbol, price, volume, bid, ask, exchange",
			where:   "symbol = '" + Minute + "'", rows: len(d.Ticks), piece: 5000,
			append: func(dst []byte, i int) []byte {
				t := d.Ticks[i]
				return line(dst, t.Time, Minute, t.Price, t.Volume, t.Bid, t.Ask, "DRAWN")
			},
		},
		{
			title: "embeddings " + Daily, table: "feature_embeddings",
			columns: "timestamp, symbol, feature_type, embedding, metadata",
			where:   "symbol = '" + Daily + "' AND feature_type = '" + FeatureType + "'",
			rows:    len(d.Embeddings), piece: 500,
			append: func(dst []byte, i int) []byte {
				e := d.Embeddings[i]
				about := `{"from": "` + d.Daily[i].Time.Format(time.DateOnly) + `", "to": "` + e.Time.Format(time.DateOnly) + `"}`
				return line(dst, e.Time, Daily, FeatureType, e.Vector, about)
			},
		},
		{
			title: "volatility regimes", table: "volatility_regimes",
			columns: "timestamp, regime_label, regime_vector, realized_vol, vix_level, skew, kurtosis",
			where:   "true", rows: len(d.Regimes), piece: 500,
			append: func(dst []byte, i int) []byte {
				r := d.Regimes[i]
				return line(dst, r.Time, r.Label, r.Vector, r.RealizedVol, r.VIXLevel, r.Skew, r.Kurtosis)
			},
		},
		{
			title: "trades", table: "trades",
			columns: "timestamp, symbol, action, quantity, price, commission, strategy",
			where:   "strategy = '" + strategyName + "'", rows: len(d.Trades), piece: 5000,
			append: func(dst []byte, i int) []byte {
				t := d.Trades[i]
				return line(dst, t.Time, Daily, t.Action, t.Quantity, t.Price, t.Commission, strategyName)
			},
		},
		{
			title: "portfolio values", table: "portfolio_values",
			columns: "timestamp, total_value, cash, equity",
			where:   "true", rows: len(d.Values), piece: 5000,
			append: func(dst []byte, i int) []byte {
				v := d.Values[i]
				return line(dst, v.Time, v.Total, v.Cash, v.Equity)
			},
		},
	}
}

// loadSet copies the rows of s unless they are there already, which it reports as
// false.
func loadSet(ctx context.Context, conn *pgconn.PgConn, s set, m *meter) (bool, error) {
	have, err := queryInt(ctx, conn, s.count())
	if err != nil {
		return false, fmt.Errorf("cannot count its rows: %w", err)
	}
	m.begin(s.title, s.rows)
	if have == s.rows {
		m.end("already there")
		return false, nil
	}
	if err := exec(ctx, conn, "BEGIN"); err != nil {
		return false, err
	}
	if have > 0 {
		if err := exec(ctx, conn, s.remove()); err != nil {
			return false, fmt.Errorf("cannot delete the %d of %d rows that are there: %w", have, s.rows, err)
		}
	}
	// An HNSW index is built in an eighth of the time that it takes to grow row by
	// row (on the embedded backend 5,000 x 128: 4 s against 33 s).
	indexes, err := vectorIndexes(ctx, conn, s.table)
	if err != nil {
		return false, err
	}
	for _, x := range indexes {
		if err := exec(ctx, conn, x.drop); err != nil {
			return false, fmt.Errorf("cannot drop an index before loading: %w", err)
		}
	}
	var text []byte
	for from := 0; from < s.rows; from += s.piece {
		to := min(from+s.piece, s.rows)
		text = text[:0]
		for i := from; i < to; i++ {
			text = s.append(text, i)
		}
		if _, err := conn.CopyFrom(ctx, bytes.NewReader(text), s.copy()); err != nil {
			return false, fmt.Errorf("cannot copy rows %d to %d: %w", from, to, err)
		}
		m.step(to)
	}
	for _, x := range indexes {
		if err := exec(ctx, conn, x.create); err != nil {
			return false, fmt.Errorf("cannot make an index again after loading: %w", err)
		}
	}
	if err := exec(ctx, conn, "COMMIT"); err != nil {
		return false, err
	}
	m.end("")
	return true, nil
}

// index is how an index is dropped and made again.
type index struct{ drop, create string }

// vectorIndexes gives the HNSW indexes of a table.
func vectorIndexes(ctx context.Context, conn *pgconn.PgConn, table string) ([]index, error) {
	results, err := conn.Exec(ctx, `SELECT format('DROP INDEX %s', x.indexrelid::regclass), pg_get_indexdef(x.indexrelid)`+
		` FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam`+
		` WHERE a.amname = 'hnsw' AND x.indrelid = `+quote(table)+`::regclass`).ReadAll()
	if err != nil || len(results) != 1 {
		return nil, fmt.Errorf("cannot list the vector indexes of %s: %w", table, err)
	}
	var all []index
	for _, row := range results[0].Rows {
		all = append(all, index{drop: string(row[0]), create: string(row[1])})
	}
	return all, nil
}

// refreshAll brings all continuous aggregates up to date.
func refreshAll(ctx context.Context, conn *pgconn.PgConn, m *meter) error {
	calls, err := refreshes(ctx, conn)
	if err != nil {
		return err
	}
	m.begin("continuous aggregates", len(calls))
	for i, call := range calls {
		if err := exec(ctx, conn, call); err != nil {
			return fmt.Errorf("cannot run %s: %w", call, err)
		}
		m.step(i + 1)
	}
	m.end("")
	return nil
}

// refreshes gives the statements that bring all continuous aggregates up to date,
// those that others are built on first. They cannot run in a transaction.
func refreshes(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	calls, err := queryColumn(ctx, conn,
		`SELECT format('CALL refresh_continuous_aggregate(%L, NULL, NULL)', format('%I.%I', user_view_schema, user_view_name))`+
			` FROM _timescaledb_catalog.continuous_agg ORDER BY mat_hypertable_id`)
	if err != nil {
		return nil, fmt.Errorf("cannot list the continuous aggregates: %w", err)
	}
	return calls, nil
}

func analyze(ctx context.Context, conn *pgconn.PgConn, tables []string, m *meter) error {
	if len(tables) == 0 {
		return nil
	}
	m.begin("statistics", len(tables))
	done := map[string]bool{}
	for i, table := range tables {
		if !done[table] {
			if err := exec(ctx, conn, "ANALYZE "+table); err != nil {
				return fmt.Errorf("cannot analyze %s: %w", table, err)
			}
		}
		done[table] = true
		m.step(i + 1)
	}
	m.end("")
	return nil
}

// exec runs SQL by the simple protocol and drops its rows.
func exec(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

// queryColumn gives the first column of the rows of one statement, as text.
func queryColumn(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results of one statement", len(results))
	}
	var column []string
	for _, row := range results[0].Rows {
		column = append(column, string(row[0]))
	}
	return column, nil
}

// queryOne gives the only value of a statement, as text.
func queryOne(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	column, err := queryColumn(ctx, conn, sql)
	if err != nil {
		return "", err
	}
	if len(column) != 1 {
		return "", fmt.Errorf("%d rows, want one", len(column))
	}
	return column[0], nil
}

func queryInt(ctx context.Context, conn *pgconn.PgConn, sql string) (int, error) {
	s, err := queryOne(ctx, conn, sql)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}
