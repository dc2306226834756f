package schema

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"qvpgw/internal/catalog"
)

// Loader reads one database's catalog. It remembers how TimescaleDB's catalog is
// laid out between calls. Not safe for concurrent use; the zero value is ready.
type Loader struct {
	layout layout
	known  bool                             // layout was read
	server map[string]catalog.ServerSetting // the newest that were not hidden
}

// Load reads a whole Snapshot with a new Loader.
func Load(ctx context.Context, q Query) (*catalog.Snapshot, error) {
	return new(Loader).Load(ctx, q)
}

// Load reads a whole Snapshot: seven queries without TimescaleDB, nine with it, and
// one more for each round of what functions reach.
// They are read one after the other, so a snapshot taken while DDL runs may be
// torn; the next Load then has another Fingerprint.
func (l *Loader) Load(ctx context.Context, q Query) (*catalog.Snapshot, error) {
	s, sum, err := l.facts(ctx, q)
	if err != nil {
		return nil, err
	}
	var parts [][][]string
	for _, part := range []struct {
		what  string
		sql   string
		width int
	}{
		{"relations", l.layout.relationsSQL(), 8},
		{"columns", l.layout.columnsSQL(), 8},
		{"hypertables", hypertablesSQL, 6},
		{"continuous aggregates", aggregatesSQL, 14},
		{"functions", functionsSQL, 8},
	} {
		var rows [][]string
		absent := part.sql == hypertablesSQL && !l.layout.present || part.sql == aggregatesSQL && !(l.layout.present && s.Community)
		if !absent {
			if rows, err = read(ctx, q, part.what, part.sql, part.width); err != nil {
				return nil, err
			}
		}
		sum.add(part.what, rows)
		parts = append(parts, rows)
	}
	fs, err := newFunctions(parts[4])
	if err != nil {
		return nil, fmt.Errorf("cannot understand the catalog's functions: %w", err)
	}
	// Which functions are clean depends on the relations that they touch, and those
	// on the functions of their triggers and the like: all are taken for clean until
	// something is found against them.
	for first := true; ; first = false {
		made := bare(*s)
		g := graph{snapshot: made, byOID: map[catalog.OID]*node{}, functions: fs}
		if first {
			fs.settle(&g)
		}
		const what = "triggers and views"
		code, err := read(ctx, q, what, l.layout.codeSQL(fs), 4)
		if err != nil {
			return nil, err
		}
		for _, step := range []struct {
			add  func([][]string) error
			rows [][]string
		}{{g.relations, parts[0]}, {g.columns, parts[1]}, {g.hypertables, parts[2]}, {g.aggregates, parts[3]}, {g.code, code}} {
			if err := step.add(step.rows); err != nil {
				return nil, fmt.Errorf("cannot understand the catalog: %w", err)
			}
		}
		g.settle()
		if !fs.settle(&g) {
			sum.add(what, code)
			fs.publish(made)
			for _, oid := range g.events {
				c := fs.of(oid)
				if c == nil {
					c = &made.AnyCode
				}
				adds(&made.EventCode, c)
			}
			s = made
			break
		}
	}
	rows, err := read(ctx, q, "settings of databases and roles", defaultsSQL, 4)
	if err != nil {
		return nil, err
	}
	if s.Defaults, err = l.defaults(rows); err != nil {
		return nil, fmt.Errorf("cannot understand pg_db_role_setting: %w", err)
	}
	s.Fingerprint = sum.String()
	return l.LoadVolatile(ctx, q, s)
}

// facts reads versions and the layout.
func (l *Loader) facts(ctx context.Context, q Query) (*catalog.Snapshot, checksum, error) {
	rows, err := read(ctx, q, "versions", factsSQL, 8)
	if err != nil {
		return nil, 0, err
	}
	if len(rows) != 1 {
		return nil, 0, fmt.Errorf("cannot read versions from the system catalogs: %d rows, not one", len(rows))
	}
	row := rows[0]
	server, err := strconv.Atoi(row[0])
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the server's version: %w", err)
	}
	s := bare(catalog.Snapshot{
		ServerVersion: server,
		Timescale:     row[1],
		Vector:        row[2],
		Community:     row[1] != "" && row[3] == "timescale",
		InRecovery:    row[4] == "t",
	})
	columns := strings.Fields(row[5])
	l.layout = layout{
		present:   row[1] != "" && len(columns) > 0 && !parseVersion(row[1]).less(oldest),
		chunkOID:  slices.Contains(columns, "chunk.relid"),
		sliceByID: slices.Contains(columns, "dimension_slice.chunk_id"),
		dropped:   slices.Contains(columns, "chunk.dropped"),

		compressedID: slices.Contains(columns, "chunk.compressed_chunk_id"),
		ranges:       slices.Contains(columns, "continuous_aggs_materialization_ranges.materialization_id"),
		knownOnly:    row[6] == "t",
		settled:      row[7] == "t",
	}
	l.known = true
	var sum checksum
	row[4] = "" // recovery is volatile
	sum.add("versions", rows)
	return s, sum, nil
}

// bare returns a snapshot of which no more than s's plain facts are known.
func bare(s catalog.Snapshot) *catalog.Snapshot {
	return &catalog.Snapshot{
		ServerVersion: s.ServerVersion, Timescale: s.Timescale, Vector: s.Vector, Community: s.Community, InRecovery: s.InRecovery,
		Relations:     map[catalog.Name]*catalog.Relation{},
		UserFunctions: map[string]bool{}, UserOperators: map[string]bool{}, UserTypes: map[string]bool{},
		CleanFunctions: map[string]bool{}, CleanOperators: map[string]bool{}, CleanTypes: map[string]bool{},
		Hypertables: map[int32]*catalog.Hypertable{},
	}
}

// checksum is a sum over rows in any order.
type checksum uint64

func (c *checksum) add(what string, rows [][]string) {
	var d xxhash.Digest
	for _, row := range rows {
		d.Reset()
		_, _ = d.WriteString(what) // never fails
		for _, v := range row {
			_, _ = d.WriteString("\x00")
			_, _ = d.WriteString(v)
		}
		*c += checksum(d.Sum64())
	}
}

func (c checksum) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// relations reads relationsSQL's rows.
func (g *graph) relations(rows [][]string) error {
	var n numbers
	for _, row := range rows {
		if len(row[3]) != 1 {
			return fmt.Errorf("kind %q of relation %s", row[3], row[2])
		}
		r := &catalog.Relation{
			OID: n.oid(row[0]), Name: catalog.Name{Schema: row[1], Name: row[2]}, Kind: row[3][0],
			RowSecurity: row[4] == "t", InsertTrigger: row[5] == "t",
		}
		r.Log, r.Triggers = logged(row[6]), row[7]
		g.snapshot.Relations[r.Name] = r
		v := &node{relation: r}
		g.byOID[r.OID] = v
		if r.Kind == 'f' {
			v.taint("rw", r.Name.Name+" is a foreign table")
			v.any = true
		}
	}
	return n.err
}

// columns reads columnsSQL's rows.
func (g *graph) columns(rows [][]string) error {
	var n numbers
	for _, row := range rows {
		number, typmod := n.int64(row[1]), n.int32(row[4])
		c := catalog.Column{Name: row[2], Number: int16(number), Type: n.oid(row[3]), TypMod: typmod, NotNull: row[5] == "t", Nondeterministic: row[7] == "t"}
		v := g.byOID[n.oid(row[0])]
		if v == nil {
			continue // made after the relations were read
		}
		v.relation.Columns = append(v.relation.Columns, c)
		v.relation.Nextval = v.relation.Nextval || row[6] == "t"
	}
	return n.err
}

// hypertables reads hypertablesSQL's rows.
func (g *graph) hypertables(rows [][]string) error {
	var n numbers
	for _, row := range rows {
		h := &catalog.Hypertable{
			ID: n.int32(row[0]), Name: catalog.Name{Schema: row[1], Name: row[2]},
			TimeColumn: row[3], TimeType: n.oid(row[4]),
		}
		g.snapshot.Hypertables[h.ID] = h
		if r := g.snapshot.Relations[h.Name]; r != nil {
			r.HypertableID = h.ID
			if row[5] != "" {
				v := g.byOID[r.OID]
				v.taint("rw", "partitioning function "+row[5]+" of "+r.Name.Name)
				v.any = true
			}
		}
	}
	return n.err
}

// aggregates reads aggregatesSQL's rows.
func (g *graph) aggregates(rows [][]string) error {
	var n numbers
	for _, row := range rows {
		a := &catalog.Aggregate{
			ID: n.int32(row[0]), RawID: n.int32(row[1]),
			View:             catalog.Name{Schema: row[2], Name: row[3]},
			Materialization:  catalog.Name{Schema: row[4], Name: row[5]},
			Definition:       row[6],
			MaterializedOnly: row[7] == "t",
			Finalized:        row[8] == "t",
			Watermark:        math.MinInt64,
			BucketWidth:      row[9], BucketOrigin: row[10], BucketOffset: row[11], BucketTimeZone: row[12],
			BucketFixed: row[13] == "t",
		}
		if r := g.snapshot.Relations[a.Materialization]; r != nil {
			a.Columns = r.Columns
		}
		g.snapshot.Aggregates = append(g.snapshot.Aggregates, a)
	}
	return n.err
}
