package schema

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	layout  layout
	known   bool                             // layout was read
	server  map[string]catalog.ServerSetting // the newest that were not hidden
	kept    *kept                            // what the last whole snapshot is made of, nil before the first
	pattern []string                         // patternSQL's row, once it is read
}

// Load reads a whole Snapshot with a new Loader.
func Load(ctx context.Context, q Query) (*catalog.Snapshot, error) {
	return new(Loader).Load(ctx, q)
}

// Load reads a whole Snapshot: eight queries without TimescaleDB, ten with it, and
// one more for each round of what functions reach.
// They are read one after the other, so a snapshot taken while DDL runs may be
// torn; the next Load then has another Fingerprint. What is seen to have come in between
// is read at once.
func (l *Loader) Load(ctx context.Context, q Query) (*catalog.Snapshot, error) {
	s, err := l.load(ctx, q)
	if err != nil || !l.kept.torn() {
		return s, err
	}
	whole, err := l.exchange(ctx, q, s, new(catalog.Touched))
	if errors.Is(err, errWhole) {
		return s, nil
	}
	return whole, err
}

// load is Load, perhaps torn.
func (l *Loader) load(ctx context.Context, q Query) (*catalog.Snapshot, error) {
	l.kept = nil
	s, sum, err := l.facts(ctx, q)
	if err != nil {
		return nil, err
	}
	k := &kept{plain: s, sum: sum}
	if k.there, k.used, err = l.list(ctx, q); err != nil {
		return nil, err
	}
	var parts [5][][]string
	for i, part := range [...]struct {
		what  string
		sql   string
		width int
	}{
		{"relations", l.layout.relationsSQL(), 8},
		{"columns", l.layout.columnsSQL(""), 8},
		{"hypertables", hypertablesSQL, 6},
		{"continuous aggregates", aggregatesSQL, 14},
		{"functions", functionsSQL, 10},
	} {
		absent := part.sql == hypertablesSQL && !l.layout.present || part.sql == aggregatesSQL && !(l.layout.present && s.Community)
		if !absent {
			if parts[i], err = read(ctx, q, part.what, part.sql, part.width); err != nil {
				return nil, err
			}
		}
		k.sum.add(part.what, parts[i])
	}
	if err := k.take(parts); err != nil {
		return nil, err
	}
	fs, err := newFunctions(parts[4], nil)
	if err != nil {
		return nil, fmt.Errorf("cannot understand the catalog's functions: %w", err)
	}
	// Which functions are clean depends on the relations that they touch, and those
	// on the functions of their triggers and the like: all are taken for clean until
	// something is found against them.
	g := newGraph(s, fs)
	fs.settle(g)
	for {
		if k.code, err = read(ctx, q, codeRows, l.layout.codeSQL(fs), 4); err != nil {
			return nil, err
		}
		if err := g.fill(k); err != nil {
			return nil, err
		}
		if !fs.settle(g) {
			break
		}
		g = newGraph(s, fs)
	}
	k.sum.add(codeRows, k.code)
	k.clean, k.told = fs.harmless(), fs.told()
	k.keepBodies(fs)
	g.publish()
	return l.finish(ctx, q, g.snapshot, k)
}

// codeRows names codeSQL's rows.
const codeRows = "triggers and views"

// finish gives a snapshot of k's rows what is in none of them.
func (l *Loader) finish(ctx context.Context, q Query, s *catalog.Snapshot, k *kept) (*catalog.Snapshot, error) {
	if err := l.readDefaults(ctx, q, s); err != nil {
		return nil, err
	}
	s.Fingerprint = k.sum.String()
	s, err := l.loadVolatile(ctx, q, s)
	if err != nil {
		return nil, err
	}
	l.kept = k
	return s, nil
}

// readDefaults gives a snapshot its Defaults.
func (l *Loader) readDefaults(ctx context.Context, q Query, s *catalog.Snapshot) error {
	rows, err := read(ctx, q, "settings of databases and roles", defaultsSQL, 4)
	if err != nil {
		return err
	}
	if s.Defaults, err = l.defaults(rows); err != nil {
		return fmt.Errorf("cannot understand pg_db_role_setting: %w", err)
	}
	return nil
}

// take keeps the rows of Load's parts.
func (k *kept) take(parts [5][][]string) (err error) {
	if k.relations, err = oneByOID(parts[0]); err == nil {
		if k.columns, err = byOID(parts[1]); err == nil {
			k.functions, err = oneByOID(parts[4])
		}
	}
	k.others = [2][][]string{parts[2], parts[3]}
	if err != nil {
		return fmt.Errorf("cannot understand the catalog: %w", err)
	}
	return nil
}

// newGraph returns an empty graph of a snapshot of which the plain facts are known.
func newGraph(plain *catalog.Snapshot, fs *functions) *graph {
	return &graph{snapshot: bare(*plain), byOID: map[catalog.OID]*node{}, functions: fs}
}

// fill adds all rows of k and settles what they say.
func (g *graph) fill(k *kept) error {
	for _, step := range []struct {
		add  func([][]string) error
		rows [][]string
	}{
		{g.relations, slices.Collect(maps.Values(k.relations))},
		{g.columns, slices.Concat(slices.Collect(maps.Values(k.columns))...)},
		{g.hypertables, k.others[0]},
		{g.aggregates, k.others[1]},
		{g.code, k.code},
	} {
		if err := step.add(step.rows); err != nil {
			return fmt.Errorf("cannot understand the catalog: %w", err)
		}
	}
	g.settle()
	return nil
}

// publish gives the snapshot what is known of code.
func (g *graph) publish() {
	s, fs := g.snapshot, g.functions
	fs.publish(s)
	s.Bases = map[string]bool{}
	for _, v := range g.byOID {
		for _, e := range v.needs {
			s.Bases[e.to.relation.Name.Name] = true
			if e.kind == "holds" { // what it holds has its triggers
				s.Bases[v.relation.Name.Name] = true
			}
		}
		if v.relation.HypertableID != 0 {
			s.Bases[v.relation.Name.Name] = true
		}
	}
	for _, oid := range g.events {
		c := fs.of(oid)
		if c == nil {
			c = &s.AnyCode
		}
		adds(&s.EventCode, c)
	}
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

// drop takes away what add added.
func (c *checksum) drop(what string, rows [][]string) {
	var sum checksum
	sum.add(what, rows)
	*c -= sum
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
		g.byOID[r.OID] = &node{relation: r}
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
