package schema

import (
	"slices"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// node is one relation while its cleanliness is worked out.
type node struct {
	relation *catalog.Relation
	read     []string // what reading it may run
	write    []string // what writing it may run
	needs    []edge
	code     catalog.Code // what that may do
	any      bool         // it is any code of the database
	numbers  bool         // a trigger of it may call nextval
	notifies bool         // and one may send notifications
}

// taint notes what is against a relation: mode "w" for writing, "rw" for both.
func (v *node) taint(mode, what string) {
	v.write = append(v.write, what)
	if mode == "rw" {
		v.read = append(v.read, what)
	}
}

// edge leads to a relation that is touched along.
type edge struct {
	to   *node
	kind string // "reads", "holds", "cascades", "rules"
}

// graph is the snapshot being made.
type graph struct {
	snapshot *catalog.Snapshot
	byOID    map[catalog.OID]*node

	functions *functions
	events    []catalog.OID // of the functions of DDL event triggers
}

// Stand in codeSQL for a function's oid; 0 is any function of the database.
const (
	hidden  = 1 // code whose text is in no function
	nothing = 2 // runs no function that is a user's: it touches other relations, or sequences
)

// does notes what the function of an oid does that stands against the relation.
func (g *graph) does(v *node, oid catalog.OID) {
	var c *catalog.Code
	if g.functions != nil {
		c = g.functions.of(oid)
	}
	switch {
	case oid == hidden:
		adds(&v.code, &catalog.Code{State: uint16(sqltext.LeavesAnything)})
	case oid == nothing:
	case c != nil:
		adds(&v.code, c)
	default:
		v.any = true
	}
}

// code reads codeSQL's rows.
func (g *graph) code(rows [][]string) error {
	var n numbers
	s := g.snapshot
	for _, row := range rows {
		a, b, what := g.byOID[n.oid(row[1])], g.byOID[n.oid(row[2])], row[3]
		switch row[0] {
		case "known-function":
			s.CleanFunctions[what] = row[2] == "1"
		case "known-operator":
			s.CleanOperators[what] = row[2] == "1"
		case "known-type":
			s.CleanTypes[what] = row[2] == "1"
		case "tainted":
			g.functions.taint(n.oid(row[2]))
		case "trigger":
			if c := g.functions.of(n.oid(row[2])); a != nil && c != nil {
				a.numbers, a.notifies = a.numbers || c.Nextval, a.notifies || c.Notifies
			}
		case "function":
			s.UserFunctions[what] = true
		case "operator":
			s.UserOperators[what] = true
		case "type":
			s.UserTypes[what] = true
		case "cast":
			s.UserCasts = true
		case "event":
			s.EventTriggers = true
			g.events = append(g.events, n.oid(row[2]))
		case "validator":
			s.Validators = true
		case "login":
			s.LoginTriggers = true
		case "taint-w", "taint-rw":
			if a != nil {
				a.taint(row[0][len("taint-"):], what+" of "+a.relation.Name.Name)
				g.does(a, n.oid(row[2]))
			}
		case "reads", "rules":
			switch {
			case a != nil && b != nil:
				a.needs = append(a.needs, edge{b, row[0]})
			case a != nil:
				// A chunk, or a relation made since the relations were read.
				a.taint("rw", a.relation.Name.Name+" reads a relation that is not followed")
				a.any = true
			}
		case "holds", "cascades":
			// Indexes hold indexes; they are no nodes.
			if a != nil && b != nil {
				a.needs = append(a.needs, edge{b, row[0]})
				if what == "default" && b.relation.Nextval {
					a.taint("w", "foreign key of "+b.relation.Name.Name+" sets a default that calls nextval")
				}
			}
		}
	}
	return n.err
}

// settle carries what is against a relation to those that touch it along: a view
// does what the relations do that it reads, a partitioned table what its
// partitions do, a referenced table what deleting from the referencing one does.
func (g *graph) settle() {
	// Few relations have edges, and paths are short: repeat until nothing moves.
	for moved := true; moved; {
		moved = false
		for _, v := range g.byOID {
			for _, e := range v.needs {
				moved = v.carry(e) || moved
			}
		}
	}
	for _, v := range g.byOID {
		r := v.relation
		r.Clean = len(v.read) == 0 && len(v.write) == 0
		r.ReadClean = len(v.read) == 0
		if all := slices.Concat(v.read, v.write); len(all) > 0 {
			r.Unclean = slices.Min(all)
			if !v.any {
				r.Code = &v.code
			}
		}
		r.WriteNextval, r.WriteNotifies = v.numbers, v.notifies
	}
}

// carry takes over what e's end does, and says whether that was news.
func (v *node) carry(e edge) bool {
	moved := adds(&v.code, &e.to.code)
	if e.to.any && !v.any || e.to.numbers && !v.numbers {
		v.any, v.numbers, moved = v.any || e.to.any, v.numbers || e.to.numbers, true
	}
	if e.to.notifies && !v.notifies {
		v.notifies, moved = true, true
	}
	if len(e.to.write) > 0 && len(v.write) == 0 {
		v.write, moved = e.to.write[:1], true
	}
	switch e.kind {
	case "rules":
		if e.to.relation.Nextval && !v.numbers {
			v.numbers, moved = true, true
		}
		return moved
	case "cascades":
		return moved
	}
	if len(e.to.read) > 0 && len(v.read) == 0 {
		v.read, moved = e.to.read[:1], true
	}
	from, to := e.to.relation, v.relation
	if from.InsertTrigger && !to.InsertTrigger {
		to.InsertTrigger, moved = true, true
	}
	if e.kind == "reads" {
		if from.Nextval && !to.Nextval {
			to.Nextval, moved = true, true
		}
		if from.RowSecurity && !to.RowSecurity {
			to.RowSecurity, moved = true, true
		}
	}
	return moved
}
