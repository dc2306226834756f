package schema

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"qvpgw/internal/catalog"
)

// watched are the platform's tables whose changes are logged unless the
// configuration says otherwise: hypertables with aggregates, tables with vectors.
var watched = []string{"market_data", "tick_data", "portfolio_values", "feature_embeddings", "volatility_regimes"}

// Watch has the triggers of the change log on the tables for which want says true and
// on those of the platform that it does not name, and nowhere else among these.
// Tables that are not there, and plain tables of the platform that TimescaleDB is
// missing for, are left alone. It returns what it changed, a line each; an error says
// which tables could not be changed.
func Watch(ctx context.Context, q Query, want map[string]bool) (changed []string, err error) {
	there, err := read(ctx, q, "whether there is a change log", "SELECT to_regclass('qvpgw.settled') IS NOT NULL AND NOT pg_is_in_recovery()", 1)
	if err != nil || there[0][0] != "t" {
		return nil, err
	}
	tables := map[string]bool{}
	for _, name := range watched {
		tables[name] = true
	}
	maps.Copy(tables, want)
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		rows, err := read(ctx, q, "whether "+name+" is logged", `
WITH `+loggedCTE+`
SELECT r.oid, EXISTS (SELECT FROM logged l WHERE l.relation = r.oid),
       EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = r.oid AND (p.pronamespace, p.proowner) IN (`+ownSchema+`))
FROM pg_class r WHERE r.oid = to_regclass(`+catalog.Literal(name)+`)`, 3)
		if err != nil {
			return changed, err
		}
		if len(rows) == 0 {
			continue
		}
		oid, logs, any := rows[0][0], rows[0][1] == "t", rows[0][2] == "t"
		call, says := "", ""
		switch {
		case tables[name] && !logs:
			call, says = "watch", "its changes are logged"
		case !tables[name] && any:
			call, says = "unwatch", "its changes are no longer logged"
		default:
			continue
		}
		_, err = q(ctx, "SELECT qvpgw."+call+"("+oid+")")
		var pg interface{ SQLState() string }
		switch _, named := want[name]; {
		case err == nil:
			changed = append(changed, name+": "+says)
		case !named && errors.As(err, &pg) && pg.SQLState() == "42809": // a plain table: TimescaleDB is missing
		default:
			failed = append(failed, fmt.Errorf("cannot change the change log's triggers of %s: %w", name, err))
		}
	}
	return changed, errors.Join(failed...)
}
