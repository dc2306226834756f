package schema

import (
	"encoding/json"
	"fmt"

	"qvpgw/internal/catalog"
)

// functionSchema is the schema of the functions that programs call.
const functionSchema = "qvp"

// platformSQL describes a function p in language l of the platform's schema as
// JSON, and gives ” for all others.
const platformSQL = `CASE WHEN p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = '` + functionSchema + `') THEN json_build_object(
         'row', p.xmin::text, 'schema', p.pronamespace::bigint, 'volatility', p.provolatile, 'set', p.proretset, 'table', p.prorettype = 'record'::regtype,
         'body', CASE WHEN p.prokind = 'f' AND l.lanname = 'sql' AND NOT p.prosecdef AND p.proconfig IS NULL AND NOT p.proisstrict AND p.prosqlbody IS NULL
                       AND p.provariadic = 0 AND coalesce(array_to_string(p.proargmodes, '') ~ ('^i{' || p.pronargs || '}t*$'), true) THEN p.prosrc ELSE '' END,
         'arguments', (SELECT json_agg(json_build_object('name', coalesce(p.proargnames[i], ''), 'schema', n.nspname, 'type', t.typname, 'default', coalesce(pg_get_function_arg_default(p.oid, i), '')) ORDER BY i)
                       FROM generate_series(1, p.pronargs) i JOIN pg_type t ON t.oid = p.proargtypes[i - 1] JOIN pg_namespace n ON n.oid = t.typnamespace),
         'columns', CASE WHEN p.prorettype = 'record'::regtype
                    THEN (SELECT json_agg(json_build_object('name', p.proargnames[i], 'oid', t.oid::bigint, 'typmod', -1, 'schema', n.nspname, 'type', t.typname) ORDER BY i)
                          FROM generate_series(1, cardinality(p.proargmodes)) i JOIN pg_type t ON t.oid = p.proallargtypes[i] JOIN pg_namespace n ON n.oid = t.typnamespace
                          WHERE p.proargmodes[i] = 't')
                    ELSE (SELECT json_agg(json_build_object('name', a.attname, 'oid', t.oid::bigint, 'typmod', a.atttypmod, 'schema', n.nspname, 'type', t.typname) ORDER BY a.attnum)
                          FROM pg_type r JOIN pg_attribute a ON a.attrelid = r.typrelid JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
                          WHERE r.oid = p.prorettype AND r.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) END)::text ELSE '' END`

// platformFunction reads what platformSQL gives.
func platformFunction(text string) (*catalog.Function, error) {
	type name struct{ Name, Schema, Type string }
	var d struct {
		Row, Volatility, Body string
		Schema                catalog.OID
		Set, Table            bool
		Arguments             []struct {
			name
			Default string
		}
		Columns []struct {
			name
			OID    catalog.OID
			Typmod int32
		}
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("cannot read its description: %w", err)
	}
	if len(d.Volatility) != 1 {
		return nil, fmt.Errorf("volatility %q", d.Volatility)
	}
	f := &catalog.Function{
		Name: catalog.Name{Schema: functionSchema}, Row: d.Row, Schema: d.Schema,
		Volatility: d.Volatility[0], Body: d.Body, Set: d.Set, Table: d.Table,
	}
	for _, a := range d.Arguments {
		f.Arguments = append(f.Arguments, catalog.Argument{Name: a.Name, Type: catalog.Name{Schema: a.Schema, Name: a.Type}, Default: a.Default})
	}
	for i, c := range d.Columns {
		f.Columns = append(f.Columns, catalog.Output{
			Column:   catalog.Column{Name: c.Name, Number: int16(i + 1), Type: c.OID, TypMod: c.Typmod},
			TypeName: catalog.Name{Schema: c.Schema, Name: c.Type},
		})
	}
	return f, nil
}

// platform returns the platform's functions that are alone with their name and run
// no code that is not known.
func (fs *functions) platform() map[catalog.Name]*catalog.Function {
	found, times := map[catalog.Name]*catalog.Function{}, map[catalog.Name]int{}
	for _, f := range fs.list {
		if f.platform != nil {
			times[f.platform.Name]++
			if !f.unclean {
				found[f.platform.Name] = f.platform
			}
		}
	}
	for name, n := range times {
		if n > 1 {
			delete(found, name)
		}
	}
	return found
}
