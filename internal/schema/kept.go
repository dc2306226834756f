package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// kept is what the newest Snapshot was made of, row by row, so that the rows of what
// changed can be exchanged for newer ones. Rows are never changed in place.
type kept struct {
	plain     *catalog.Snapshot // its plain facts alone
	relations map[catalog.OID][]string
	columns   map[catalog.OID][][]string
	functions map[catalog.OID][]string
	others    [2][][]string // hypertables and continuous aggregates
	code      [][]string
	sum       checksum
	clean     map[catalog.OID]bool    // see functions.harmless
	told      map[catalog.OID]bool    // see functions.told
	bodies    map[catalog.OID]scanned // of the functions, as they were scanned
	there     [kindsListed]listing    // what there was before any of the rows was read
	used      string                  // and which functions something stood on
}

// scanned is the body of a function, and the row that it was read from.
type scanned struct {
	row  []string
	body sqltext.Body
}

// of says whether a row of functionsSQL has the same body.
func (s scanned) of(row []string) bool {
	return s.row != nil && s.row[2] == row[2] && s.row[3] == row[3] && s.row[6] == row[6] && s.row[9] == row[9]
}

// clone returns a copy whose maps may be changed.
func (k *kept) clone() *kept {
	n := *k
	n.relations, n.columns, n.functions = maps.Clone(k.relations), maps.Clone(k.columns), maps.Clone(k.functions)
	return &n
}

// torn says whether a relation that is known reads one that is not.
func (k *kept) torn() bool {
	var n numbers
	return slices.ContainsFunc(k.code, func(row []string) bool {
		return row[0] == "reads" && k.relations[n.oid(row[1])] != nil && k.relations[n.oid(row[2])] == nil
	})
}

// keepBodies keeps the bodies of functions.
func (k *kept) keepBodies(fs *functions) {
	k.bodies = make(map[catalog.OID]scanned, len(fs.list))
	for _, f := range fs.list {
		k.bodies[f.oid] = scanned{k.functions[f.oid], f.body}
	}
}

// Kinds of objects that listSQL lists.
const (
	listedRelations = iota
	listedTypes
	listedFunctions
	kindsListed
)

// listing is what there is of one kind: each object with the transaction that wrote its
// row. One that another transaction has written since has another.
type listing struct {
	text    string
	objects map[catalog.OID]listed
}

type listed struct{ row, name string }

// newListing reads a column of listSQL.
func newListing(text string) (listing, error) {
	l := listing{text: text, objects: map[catalog.OID]listed{}}
	var n numbers
	for item := range strings.SplitSeq(text, "\x01") {
		if item == "" {
			continue
		}
		oid, rest, _ := strings.Cut(item, " ")
		row, name, ok := strings.Cut(rest, " ")
		if !ok {
			return l, fmt.Errorf("cannot read %q from the list of objects", item)
		}
		l.objects[n.oid(oid)] = listed{row, name}
	}
	return l, n.err
}

// since returns the objects of l that old has not, or has otherwise, and those of old
// that are gone.
func (l listing) since(old listing) (changed, gone []catalog.OID) {
	if l.text == old.text {
		return nil, nil
	}
	for oid, x := range l.objects {
		if old.objects[oid] != x {
			changed = append(changed, oid)
		}
	}
	for oid := range old.objects {
		if _, ok := l.objects[oid]; !ok {
			gone = append(gone, oid)
		}
	}
	return changed, gone
}

// byOID sorts rows by the oid in their first column.
func byOID(rows [][]string) (map[catalog.OID][][]string, error) {
	var n numbers
	m := make(map[catalog.OID][][]string, len(rows))
	for _, row := range rows {
		oid := n.oid(row[0])
		m[oid] = append(m[oid], row)
	}
	return m, n.err
}

// oneByOID is byOID for rows of which each oid has one.
func oneByOID(rows [][]string) (map[catalog.OID][]string, error) {
	var n numbers
	m := make(map[catalog.OID][]string, len(rows))
	for _, row := range rows {
		m[n.oid(row[0])] = row
	}
	return m, n.err
}

// array spells oids as an array of PostgreSQL.
func array[V any](oids map[catalog.OID]V) string {
	var b strings.Builder
	for i, oid := range slices.Sorted(maps.Keys(oids)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(oid), 10))
	}
	return "'{" + b.String() + "}'::oid[]"
}

// names spells names as an array of PostgreSQL.
func names(list map[string]bool) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(list)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(catalog.Literal(name))
	}
	return "ARRAY[" + b.String() + "]::name[]"
}
