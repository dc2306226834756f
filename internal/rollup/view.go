package rollup

import "qvpgw/internal/catalog"

// Func is an aggregate function of PostgreSQL or TimescaleDB.
type Func uint8

// The functions that can be derived.
const (
	Count Func = iota + 1
	Sum
	Min
	Max
	Avg
	First // first(value, time)
	Last  // last(value, time)
	BoolAnd
	BoolOr
	BitAnd
	BitOr
	BitXor
)

// names are the functions by name; the first of several for one is the one that
// String gives.
var names = []struct {
	name string
	f    Func
}{
	{"count", Count},
	{"sum", Sum},
	{"min", Min},
	{"max", Max},
	{"avg", Avg},
	{"first", First},
	{"last", Last},
	{"bool_and", BoolAnd},
	{"every", BoolAnd},
	{"bool_or", BoolOr},
	{"bit_and", BitAnd},
	{"bit_or", BitOr},
	{"bit_xor", BitXor},
}

var byName = func() map[string]Func {
	m := make(map[string]Func, len(names))
	for _, n := range names {
		m[n.name] = n.f
	}
	return m
}()

// FuncNamed returns the function of that lower-case name.
func FuncNamed(name string) (Func, bool) {
	f, ok := byName[name]
	return f, ok
}

// String is the function's name.
func (f Func) String() string {
	for _, n := range names {
		if n.f == f {
			return n.name
		}
	}
	return "unknown"
}

// Partial names a value that an aggregate stores for each bucket and group.
type Partial struct {
	Func   Func
	Column string // of the raw hypertable, or an expression over several as SQL; "" for count(*)
}

// View is a continuous aggregate as this package understands it: over a hypertable,
// or over another aggregate of it. It is read-only.
type View struct {
	Aggregate *catalog.Aggregate
	Root      int32                // the hypertable at the bottom
	Under     []*catalog.Aggregate // those that it is made from, the nearest first
	Grid      Grid
	Bucket    string // column of the materialization that holds the bucket's start
	// Dims maps each grouped column of the raw hypertable to its column in the
	// materialization.
	Dims map[string]string
	// Extra: it is grouped by something besides the bucket and Dims, so that
	// several rows may exist for one bucket and one value of Dims.
	Extra    bool
	Partials map[Partial]string // to the column of the materialization
}

// Types of values by their OID in pg_catalog.
const (
	typeBool        catalog.OID = 16
	typeChar        catalog.OID = 18
	typeName        catalog.OID = 19
	typeInt8        catalog.OID = 20
	typeInt2        catalog.OID = 21
	typeInt4        catalog.OID = 23
	typeText        catalog.OID = 25
	typeOID         catalog.OID = 26
	typeFloat4      catalog.OID = 700
	typeFloat8      catalog.OID = 701
	typeBpchar      catalog.OID = 1042
	typeVarchar     catalog.OID = 1043
	typeDate        catalog.OID = 1082
	typeTimestamp   catalog.OID = 1114
	typeTimestamptz catalog.OID = 1184
	typeInterval    catalog.OID = 1186
	typeNumeric     catalog.OID = 1700
	typeUUID        catalog.OID = 2950
)

// Groupable reports whether equal values of the column are equal in every byte,
// so that it does not matter which row of a group gives the group's value. It
// does for 1.0 and 1.00, for 0 and -0, for citext, and for nondeterministic
// collations.
func Groupable(c catalog.Column) bool {
	if c.Nondeterministic {
		return false
	}
	switch c.Type {
	case typeBool, typeChar, typeName, typeInt2, typeInt4, typeInt8, typeText, typeOID, typeVarchar, typeDate, typeTimestamp, typeTimestamptz, typeUUID:
		return true
	case typeBpchar:
		return c.TypMod > 4 // padded to one length
	}
	return false
}

// ordered reports whether min and max of the column have one answer.
func ordered(c catalog.Column) bool {
	switch c.Type {
	case typeFloat4, typeFloat8:
		return true // 0 and -0 tie: PostgreSQL's own answer depends on the order of rows too
	case typeNumeric:
		return c.TypMod >= 4 // a fixed scale, or 1.0 and 1.00 tie
	case typeBool, typeUUID: // no min and max before PostgreSQL 18
		return false
	case typeChar, typeName: // min and max by an implicit cast
		return false
	}
	return Groupable(c)
}
