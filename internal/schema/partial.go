package schema

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
)

// errWhole says that a change is not known well enough by the rows of what it touched.
var errWhole = errors.New("the whole catalog is to be read")

// maxTouched bounds the relations whose rows are read apart from the others.
const maxTouched = 1000

// touched are the objects whose rows are read anew.
type touched struct {
	names     map[string]bool // those that DDL mentioned
	relations map[catalog.OID]bool
	types     map[catalog.OID]bool
	functions map[catalog.OID]bool
	gone      [kindsListed]map[catalog.OID]bool

	typeNames, functionNames map[string]bool
	bad                      map[string]map[catalog.OID]bool // what runs code of users, by the kind of its rows
}

// LoadTouched returns the snapshot that Load would return when since the last one, which
// is this Loader's, nothing happened but DDL of which mentioned tells: it reads the rows of what
// came, went or was mentioned, and exchanges those that it has. Where code of users has to
// do with any of it, the whole catalog is read. It does not find what was changed without
// being mentioned, but for objects that came or went.
func (l *Loader) LoadTouched(ctx context.Context, q Query, last *catalog.Snapshot, mentioned *catalog.Touched) (*catalog.Snapshot, error) {
	if l.kept == nil {
		return l.Load(ctx, q)
	}
	s, err := l.exchange(ctx, q, last, mentioned)
	if errors.Is(err, errWhole) {
		return l.Load(ctx, q)
	}
	return s, err
}

// exchange is LoadTouched, or errWhole. What l keeps is changed only if it succeeds.
func (l *Loader) exchange(ctx context.Context, q Query, last *catalog.Snapshot, mentioned *catalog.Touched) (*catalog.Snapshot, error) {
	k := l.kept
	there, used, err := l.list(ctx, q)
	if err != nil {
		return nil, err
	}
	t, err := k.touch(there, mentioned.Names)
	if err != nil {
		return nil, err
	}
	n := k.clone()
	n.there, n.used = there, used
	restrict := " AND c.oid = ANY (" + array(t.relations) + ")"
	if len(t.relations) > 0 || len(t.gone[listedRelations]) > 0 {
		relations, err := read(ctx, q, "relations", l.layout.relationsSQL()+restrict, 8)
		if err != nil {
			return nil, err
		}
		columns, err := read(ctx, q, "columns", l.layout.columnsSQL(restrict), 8)
		if err != nil {
			return nil, err
		}
		if err := n.exchangeRelations(t, relations, columns); err != nil {
			return nil, err
		}
	}
	var functions [][]string
	if texts := k.texts(t); len(texts) > 0 {
		if functions, err = read(ctx, q, "functions", functionsSQL+" AND p.oid = ANY ("+array(texts)+")", 10); err != nil {
			return nil, err
		}
	}
	if err := n.exchangeFunctions(t, functions); err != nil {
		return nil, err
	}
	if len(l.pattern) == 0 {
		rows, err := read(ctx, q, "functions that leave state", patternSQL, 2)
		if err != nil {
			return nil, err
		}
		if len(rows) != 1 {
			return nil, fmt.Errorf("cannot read functions that leave state from the system catalogs: %d rows, not one", len(rows))
		}
		l.pattern = rows[0]
	}
	code, err := read(ctx, q, "what belongs to relations", l.layout.touchedSQL(t, k.told, l.pattern), 4)
	if err != nil {
		return nil, err
	}
	candidates, err := n.exchangeCode(t, code, l.layout.knownOnly)
	if err != nil {
		return nil, err
	}
	s, err := n.make(t, candidates)
	if err != nil {
		return nil, err
	}
	s.Fingerprint = n.sum.String()
	if s.Defaults = last.Defaults; mentioned.Roles {
		if err := l.readDefaults(ctx, q, s); err != nil {
			return nil, err
		}
	}
	if l.layout.present {
		if s, err = l.loadVolatile(ctx, q, s); err != nil {
			return nil, err
		}
	} else {
		s = s.With(catalog.Volatile{Moment: last.Moment, InRecovery: last.InRecovery})
	}
	l.kept = n
	return s, nil
}

// list reads listSQL.
func (l *Loader) list(ctx context.Context, q Query) (there [kindsListed]listing, used string, err error) {
	rows, err := read(ctx, q, "what there is", l.layout.listSQL(), kindsListed+1)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("cannot read what there is from the system catalogs: %d rows, not one", len(rows))
	}
	if err != nil {
		return there, "", err
	}
	for i := range there {
		if there[i], err = newListing(rows[0][i]); err != nil {
			return there, "", err
		}
	}
	return there, rows[0][kindsListed], nil
}

// touch finds what changed since k was read.
func (k *kept) touch(there [kindsListed]listing, mentioned []string) (*touched, error) {
	t := &touched{names: map[string]bool{}, typeNames: map[string]bool{}, functionNames: map[string]bool{}, bad: map[string]map[catalog.OID]bool{}}
	for _, name := range mentioned {
		t.names[name] = true
	}
	var changed [kindsListed]map[catalog.OID]bool
	for i := range there {
		now, gone := there[i].since(k.there[i])
		changed[i], t.gone[i] = map[catalog.OID]bool{}, map[catalog.OID]bool{}
		for _, oid := range now {
			changed[i][oid] = true
		}
		for _, oid := range gone {
			t.gone[i][oid] = true
		}
		for _, oids := range [...]map[catalog.OID]bool{changed[i], t.gone[i]} {
			for oid := range oids {
				for _, l := range [...]listing{there[i], k.there[i]} {
					if x, ok := l.objects[oid]; ok && i == listedTypes {
						t.typeNames[x.name] = true
					} else if ok && i == listedFunctions {
						t.functionNames[x.name] = true
					}
				}
			}
		}
	}
	t.relations, t.types, t.functions = changed[listedRelations], changed[listedTypes], changed[listedFunctions]
	for _, l := range [...]listing{there[listedRelations], k.there[listedRelations]} {
		for oid, x := range l.objects {
			if _, is := there[listedRelations].objects[oid]; is && t.names[x.name] {
				t.relations[oid] = true
			}
		}
	}
	if err := k.reach(t); err != nil {
		return nil, err
	}
	for oid := range t.functions {
		if _, old := k.functions[oid]; !old {
			put(t.bad, "bad-function", oid) // nobody has looked at it yet
		}
	}
	return t, nil
}

// reach goes through the rows of code: what is held by a relation changes with it. It
// returns errWhole for changes that others of the rows depend on.
func (k *kept) reach(t *touched) error {
	var n numbers
	held := map[catalog.OID][]catalog.OID{}
	for _, row := range k.code {
		switch kind := row[0]; kind {
		case "holds":
			a := n.oid(row[1])
			held[a] = append(held[a], n.oid(row[2]))
		case "bad-function", "bad-operator", "bad-class", "bad-type":
			put(t.bad, kind, n.oid(row[2]))
		case "operator", "known-operator":
			if t.names[row[3]] {
				return errWhole
			}
		case "type":
			if t.names[row[3]] || t.typeNames[row[3]] {
				return errWhole
			}
		case "taint-rw":
			if name, ok := strings.CutPrefix(row[3], "index "); ok && t.names[name] {
				return errWhole
			}
		}
	}
	for todo := slices.Collect(maps.Keys(t.relations)); len(todo) > 0; todo = todo[1:] {
		for _, oid := range held[todo[0]] {
			if !t.relations[oid] && !t.gone[listedRelations][oid] {
				t.relations[oid] = true
				todo = append(todo, oid)
			}
		}
	}
	// Hypertables and what stands on them are TimescaleDB's to describe.
	for oid := range t.relations {
		row := k.relations[oid]
		if row == nil {
			continue
		}
		for _, h := range k.others[0] {
			if h[1] == row[1] && h[2] == row[2] {
				return errWhole
			}
		}
		for _, a := range k.others[1] {
			if a[2] == row[1] && a[3] == row[2] {
				return errWhole
			}
		}
	}
	if len(t.relations) > maxTouched {
		return errWhole
	}
	for oid := range t.types {
		// The platform's functions are described with the names of their types.
		if _, old := k.there[listedTypes].objects[oid]; old && k.platform() {
			return errWhole
		}
	}
	return n.err
}

// texts returns the functions whose rows are read anew: those that changed, and those
// whose text has the names that other things have now.
func (k *kept) texts(t *touched) map[catalog.OID]bool {
	oids := maps.Clone(t.functions)
	for oid, row := range k.functions {
		if row[8] == "t" || row[6] != "" && len(t.functions) > 0 {
			oids[oid] = true
		}
	}
	return oids
}

// platform says whether there are functions of the platform.
func (k *kept) platform() bool {
	for _, row := range k.functions {
		if row[7] != "" {
			return true
		}
	}
	return false
}

func put(m map[string]map[catalog.OID]bool, kind string, oid catalog.OID) {
	if m[kind] == nil {
		m[kind] = map[catalog.OID]bool{}
	}
	m[kind][oid] = true
}

// exchangeRelations exchanges the rows of relations and of their columns.
func (k *kept) exchangeRelations(t *touched, relations, columns [][]string) error {
	rows, err := oneByOID(relations)
	if err != nil {
		return fmt.Errorf("cannot understand the catalog's relations: %w", err)
	}
	of, err := byOID(columns)
	if err != nil {
		return fmt.Errorf("cannot understand the catalog's columns: %w", err)
	}
	for _, oids := range [...]map[catalog.OID]bool{t.relations, t.gone[listedRelations]} {
		for oid := range oids {
			if old := k.relations[oid]; old != nil {
				k.sum.drop("relations", [][]string{old})
				k.sum.drop("columns", k.columns[oid])
				delete(k.relations, oid)
				delete(k.columns, oid)
			}
			if now := rows[oid]; now != nil {
				k.sum.add("relations", [][]string{now})
				k.relations[oid] = now
				if c := of[oid]; len(c) > 0 {
					k.sum.add("columns", c)
					k.columns[oid] = c
				}
			}
		}
	}
	return nil
}

// exchangeFunctions exchanges the rows of functions.
func (k *kept) exchangeFunctions(t *touched, functions [][]string) error {
	rows, err := oneByOID(functions)
	if err != nil {
		return fmt.Errorf("cannot understand the catalog's functions: %w", err)
	}
	used := map[string]bool{}
	for oid := range strings.FieldsSeq(k.used) {
		used[oid] = true
	}
	for oid, old := range k.functions {
		is := "f"
		if used[old[0]] {
			is = "t"
		}
		if _, read := rows[oid]; !read && old[5] != is && !t.functions[oid] {
			now := slices.Clone(old)
			now[5] = is
			rows[oid] = now
		}
		if rows[oid] != nil || t.functions[oid] || t.gone[listedFunctions][oid] {
			k.sum.drop("functions", [][]string{old})
			delete(k.functions, oid)
		}
	}
	for oid, row := range rows {
		k.sum.add("functions", [][]string{row})
		k.functions[oid] = row
	}
	return nil
}

// exchangeCode exchanges the rows of code, and returns those of the functions of the
// names that are concerned.
func (k *kept) exchangeCode(t *touched, code [][]string, knownOnly bool) (candidates [][]string, err error) {
	if knownOnly && len(k.functions) > 0 {
		return nil, errWhole
	}
	var now [][]string
	for _, row := range code {
		switch row[0] {
		case "whole":
			return nil, errWhole
		case "domain":
			if knownOnly {
				return nil, errWhole
			}
		case "candidate", "function":
			candidates = append(candidates, row)
		default:
			now = append(now, row)
		}
	}
	var n numbers
	relation := func(text string) bool {
		oid := n.oid(text)
		return t.relations[oid] || t.gone[listedRelations][oid]
	}
	var rest, old [][]string
	for _, row := range k.code {
		drop := false
		switch row[0] {
		case "taint-w", "taint-rw", "trigger":
			drop = relation(row[1])
		case "reads", "rules":
			drop = relation(row[1]) || t.gone[listedRelations][n.oid(row[2])]
		case "holds", "cascades":
			drop = relation(row[1]) || relation(row[2])
		case "function", "known-function":
			drop = t.functionNames[row[3]]
		case "tainted", "bad-function":
			oid := n.oid(row[2])
			drop = t.functions[oid] || t.gone[listedFunctions][oid]
		case "known-type":
			drop = t.typeNames[row[3]]
		case "bad-type":
			drop = t.gone[listedTypes][n.oid(row[2])]
		}
		if drop {
			old = append(old, row)
		} else {
			rest = append(rest, row)
		}
	}
	k.sum.drop(codeRows, old)
	k.sum.add(codeRows, now)
	k.code = append(rest, now...)
	return candidates, n.err
}

// make makes a snapshot of the rows. errWhole: functions are clean, or no longer are,
// that the change did not touch; the rows of code are then not those of this catalog.
func (k *kept) make(t *touched, candidates [][]string) (*catalog.Snapshot, error) {
	fs, err := newFunctions(slices.Collect(maps.Values(k.functions)), k.bodies)
	if err != nil {
		return nil, fmt.Errorf("cannot understand the catalog's functions: %w", err)
	}
	g := newGraph(k.plain, fs)
	fs.settle(g)
	for {
		if err := g.fill(k); err != nil {
			return nil, err
		}
		if !fs.settle(g) {
			break
		}
		g = newGraph(k.plain, fs)
	}
	clean, told := fs.harmless(), fs.told()
	for oid := range k.bodies {
		_, gone := t.gone[listedFunctions][oid]
		if !gone && (clean[oid] != k.clean[oid] || told[oid] != k.told[oid]) {
			return nil, errWhole
		}
	}
	k.clean, k.told = clean, told // nothing stands on those that came
	if err := k.functionRows(t, g.snapshot, candidates); err != nil {
		return nil, err
	}
	g.publish()
	k.keepBodies(fs)
	return g.snapshot, nil
}

// functionRows makes the rows of code for the names of functions that are concerned.
func (k *kept) functionRows(t *touched, s *catalog.Snapshot, candidates [][]string) error {
	var n numbers
	var rows [][]string
	users, known := map[string]bool{}, map[string]string{}
	for _, row := range candidates {
		name := row[3]
		if oid := n.oid(row[1]); row[0] == "candidate" && !k.clean[oid] {
			if t.functions[oid] {
				rows = append(rows, []string{"bad-function", "0", row[1], ""})
			}
			users[name] = true
		}
		known[name] = max(known[name], row[2])
	}
	for name := range known {
		if users[name] {
			s.UserFunctions[name] = true
			rows = append(rows, []string{"function", "0", "0", name})
		} else {
			s.CleanFunctions[name] = known[name] == "1"
			rows = append(rows, []string{"known-function", "0", known[name], name})
		}
	}
	k.sum.add(codeRows, rows)
	k.code = append(k.code, rows...)
	return n.err
}
