package schema

import (
	"context"
	"fmt"
	"strings"

	"qvpgw/internal/catalog"
)

// countedRows is where counting of what would be lost ends.
const countedRows = 1_000_000

// mayLose refuses to undo files that drop rows, unless yes.
func (s *session) mayLose(ctx context.Context, undone []file, yes bool) error {
	if yes {
		return nil
	}
	q := ConnQuery(s.driver.conn)
	var lost []string
	for i := len(undone) - 1; i >= 0; i-- {
		for _, name := range undone[i].loses {
			what, err := loss(ctx, q, name)
			if err != nil {
				return fmt.Errorf("cannot count what going down would lose of %s: %w", name, err)
			}
			if what != "" {
				lost = append(lost, what)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("cannot migrate down: this would drop %s: say --yes to lose them", strings.Join(lost, ", "))
}

// loss says what is in a table, a column (table.column) or a continuous aggregate,
// "" when nothing of it would be lost.
func loss(ctx context.Context, q Query, name string) (string, error) {
	relation, condition, unit := "", "", "rows"
	var rows [][]string
	var err error
	if strings.Count(name, ".") < 2 {
		if rows, err = q(ctx, fmt.Sprintf("SELECT coalesce(to_regclass(%s)::text, '')", catalog.Literal(name))); err != nil {
			return "", err
		}
		relation = rows[0][0]
	}
	if i := strings.LastIndexByte(name, '.'); relation == "" && i > 0 {
		column := name[i+1:]
		rows, err = q(ctx, fmt.Sprintf("SELECT attrelid::regclass FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped", catalog.Literal(name[:i]), catalog.Literal(column)))
		if err != nil {
			return "", err
		}
		if len(rows) > 0 {
			relation, condition, unit = rows[0][0], " WHERE "+catalog.Quote(column)+" IS NOT NULL", "values"
		}
	}
	if relation == "" {
		return "", nil
	}
	from := relation + condition
	if condition == "" {
		old, err := beyondRaw(ctx, q, name)
		if err != nil {
			return "", err
		}
		if old != "" {
			from, unit = old, "rows older than the oldest that they come from"
		}
	}
	rows, err = q(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s LIMIT %d) r", from, countedRows))
	if err != nil {
		return "", err
	}
	switch n := rows[0][0]; n {
	case "0":
		return "", nil
	case fmt.Sprint(countedRows):
		return fmt.Sprintf("%s (%s %s or more)", name, n, unit), nil
	default:
		return fmt.Sprintf("%s (%s %s)", name, n, unit), nil
	}
}

// aggregateSQL names what the continuous aggregate %s holds and comes from.
const aggregateSQL = `
SELECT m.schema_name, m.table_name, md.column_name, r.schema_name, r.table_name, rd.column_name, b.bucket_width
FROM _timescaledb_catalog.continuous_agg a
JOIN _timescaledb_catalog.hypertable m ON m.id = a.mat_hypertable_id
JOIN _timescaledb_catalog.dimension md ON md.hypertable_id = m.id
JOIN _timescaledb_catalog.hypertable r ON r.id = a.raw_hypertable_id
JOIN _timescaledb_catalog.dimension rd ON rd.hypertable_id = r.id
JOIN _timescaledb_catalog.continuous_aggs_bucket_function b ON b.mat_hypertable_id = m.id
WHERE to_regclass(quote_ident(a.user_view_schema) || '.' || quote_ident(a.user_view_name)) = to_regclass(%s)`

// beyondRaw selects the rows of a continuous aggregate that cannot be made again,
// because retention has dropped the rows they came from; "" when name is no
// continuous aggregate.
func beyondRaw(ctx context.Context, q Query, name string) (from string, err error) {
	there, err := q(ctx, "SELECT to_regclass('_timescaledb_catalog.continuous_aggs_bucket_function') IS NOT NULL")
	if err != nil || there[0][0] != "t" {
		return "", err
	}
	rows, err := q(ctx, fmt.Sprintf(aggregateSQL, catalog.Literal(name)))
	if err != nil || len(rows) == 0 {
		return "", err
	}
	r := rows[0]
	return fmt.Sprintf("%s WHERE %s + %s::interval <= coalesce((SELECT min(%s) FROM %s), 'infinity')",
		catalog.Name{Schema: r[0], Name: r[1]}, catalog.Quote(r[2]), catalog.Literal(r[6]), catalog.Quote(r[5]), catalog.Name{Schema: r[3], Name: r[4]}), nil
}
