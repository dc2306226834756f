package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// function is a function of a user, or one of an extension whose code is not known.
type function struct {
	oid     catalog.OID
	name    string
	body    sqltext.Body
	trigger bool // returns trigger
	used    bool // see usedSQL

	platform *catalog.Function // what the snapshot has of it, if it is the platform's

	tainted bool // a type or a default of its arguments runs code
	code    catalog.Code
	unclean bool // it, or what it reaches, may leave something or run other code
}

// functions are all of them, and what is known by name.
type functions struct {
	list   []*function
	byName map[string][]*function
}

// functionsSQL: oid, name, language, source, returns trigger, used, names, platform,
// whether the source is made of a tree, with the names that things have now, whether it
// is declared to have no side effects.
// The source of an internal one is a call of PostgreSQL's own functions with its code.
// The names are those of the functions that an aggregate stands on, platform is
// described at platformSQL.
const functionsSQL = `
WITH ` + ownedCTE + `,
own (prosrc, source) AS MATERIALIZED (
  SELECT prosrc, string_agg('SELECT ' || proname || '();', ' ') FROM pg_proc
  WHERE oid < 16384 AND prolang = 12 AND prosrc IN (SELECT prosrc FROM pg_proc WHERE oid >= 16384 AND prolang = 12) GROUP BY prosrc)
SELECT p.oid, p.proname, l.lanname,
       CASE WHEN p.prolang = 12 THEN own.source
            WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) WHEN length(p.prosrc) <= 100000 THEN p.prosrc END,
       p.prorettype = 'trigger'::regtype,
       ` + usedSQL + `,
       CASE WHEN p.prokind = 'a' THEN (
         SELECT concat_ws(' ', aggtransfn::text, aggfinalfn::text, aggcombinefn::text, aggserialfn::text, aggdeserialfn::text, aggmtransfn::text, aggminvtransfn::text, aggmfinalfn::text)
         FROM pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE '' END,
       ` + platformSQL + `,
       p.prosqlbody IS NOT NULL,
       p.provolatile <> 'v'
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN own ON own.prosrc = p.prosrc AND p.prolang = 12
WHERE p.oid >= 16384
  AND (p.pronamespace, p.proowner) NOT IN (` + ownSchema + `)
  AND p.oid NOT IN (SELECT objid FROM owned WHERE classid = 'pg_proc'::regclass AND known)`

// usedSQL says whether something else than a trigger or a function stands on function p,
// or the default of a function's argument may.
const usedSQL = `EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
               AND d.deptype <> 'e' AND d.classid <> 'pg_trigger'::regclass
               AND (d.classid <> 'pg_proc'::regclass OR EXISTS (SELECT FROM pg_proc q WHERE q.oid = d.objid AND q.proargdefaults IS NOT NULL)))`

// newFunctions reads functionsSQL's rows. Bodies that were scanned before are in known.
func newFunctions(rows [][]string, known map[catalog.OID]scanned) (*functions, error) {
	var n numbers
	fs := &functions{byName: map[string][]*function{}}
	for _, row := range rows {
		f := &function{oid: n.oid(row[0]), name: row[1], trigger: row[4] == "t", used: row[5] == "t"}
		switch {
		case known[f.oid].of(row):
			f.body = known[f.oid].body
		case row[6] != "":
			f.body.Words = map[string]bool{}
			for w := range strings.FieldsSeq(row[6]) {
				f.body.Words[strings.Trim(w[strings.LastIndexByte(w, '.')+1:], `"`)] = true
			}
		case (row[2] == "sql" || row[2] == "plpgsql" || row[2] == "internal") && row[3] != "":
			f.body = sqltext.ScanBody(row[3])
		case row[9] == "t":
			// PostgreSQL wants a function with side effects to be declared VOLATILE. That is
			// believed of what it keeps for its caller alone: it is not clean.
			f.body = sqltext.Body{Currval: true}
		default:
			f.body = sqltext.Body{State: sqltext.LeavesAnything, Wide: true, Nextval: true, Currval: true, Writes: true, Notifies: true}
		}
		if row[7] != "" {
			var err error
			if f.platform, err = platformFunction(row[7]); err != nil {
				return nil, fmt.Errorf("function %s: %w", f.name, err)
			}
			f.platform.OID, f.platform.Name.Name, f.platform.Refuses = f.oid, f.name, row[2] == "plpgsql" && f.body.Raises
		}
		fs.list = append(fs.list, f)
		fs.byName[f.name] = append(fs.byName[f.name], f)
	}
	return fs, n.err
}

// harmless returns the functions that leave nothing behind. One that may call nextval
// or send notifications counts only where it is called by a name that is seen.
func (fs *functions) harmless() map[catalog.OID]bool {
	oids := map[catalog.OID]bool{}
	for _, f := range fs.list {
		if f.harmless() {
			oids[f.oid] = true
		}
	}
	return oids
}

func (f *function) harmless() bool {
	return !f.unclean && (!f.code.Nextval && !f.code.Notifies || f.trigger || !f.used)
}

// settle works out what each function reaches. What is against a relation, and
// with it what a function that touches it reaches, depends on which functions are
// clean: g is of a catalog in which the harmless ones are. It says whether some no
// longer are, or triggers were found to do more, so that the relations are to be looked
// at again.
func (fs *functions) settle(g *graph) (moved bool) {
	s := g.snapshot
	relations := map[string][]*catalog.Relation{}
	for _, r := range s.Relations {
		if !r.Clean || r.Nextval || r.WriteNextval || r.WriteNotifies {
			relations[r.Name.Name] = append(relations[r.Name.Name], r)
		}
	}
	harmless, does := len(fs.harmless()), fs.triggersDo() // the one only shrinks, the other only grows
	for again := true; again; {
		again = false
		for _, f := range fs.list {
			again = fs.reach(f, s, relations) || again
			again = adds(&s.AnyCode, &f.code) || again
		}
	}
	return len(fs.harmless()) != harmless || fs.triggersDo() != does
}

// reach takes over what f's names stand for and says whether that was news.
func (fs *functions) reach(f *function, s *catalog.Snapshot, relations map[string][]*catalog.Relation) (moved bool) {
	b := &f.body
	if own := (catalog.Code{State: uint16(b.State), Settings: b.Settings, Nextval: b.Nextval, DDL: b.DDL, Notifies: b.Notifies}); adds(&f.code, &own) {
		moved = true
	}
	unclean := f.unclean || b.State != 0 || b.Currval
	// Casts, and comparisons like that of IN, run code that no name in the text shows.
	shown := !b.Wide && !f.tainted && !s.UserCasts
	for _, op := range [...]string{"=", "<>", "<", "<=", ">", ">="} {
		shown = shown && !s.UserOperators[op]
	}
	for w := range b.Words {
		shown = shown && !s.UserOperators[w] && !s.UserTypes[w]
	}
	if !shown {
		unclean = true
		moved = adds(&f.code, &s.AnyCode) || moved
	}
	for w := range b.Words {
		for _, to := range fs.byName[w] {
			unclean = unclean || to.unclean
			moved = adds(&f.code, &to.code) || moved
		}
		for _, r := range relations[w] {
			written := catalog.Code{Nextval: r.Nextval && b.Nextval || r.WriteNextval && b.Writes, Notifies: r.WriteNotifies && b.Writes}
			moved = adds(&f.code, &written) || moved
			if r.Clean {
				continue
			}
			unclean = true
			code := &s.AnyCode
			if r.Code != nil {
				code = r.Code
			}
			moved = adds(&f.code, code) || moved
		}
	}
	if unclean && !f.unclean {
		f.unclean, moved = true, true
	}
	return moved
}

// adds takes over into to what from has and says whether that was news.
func adds(to, from *catalog.Code) (moved bool) {
	if to.State|from.State != to.State {
		to.State, moved = to.State|from.State, true
	}
	if from.Nextval && !to.Nextval {
		to.Nextval, moved = true, true
	}
	if from.Notifies && !to.Notifies {
		to.Notifies, moved = true, true
	}
	if from.DDL && !to.DDL {
		to.DDL, moved = true, true
	}
	for _, name := range from.Settings {
		if to.State&uint16(sqltext.LeavesAnything) != 0 {
			break // the names do not matter any more
		}
		if !slices.Contains(to.Settings, name) {
			to.Settings, moved = append(slices.Clip(to.Settings), name), true
		}
		if len(to.Settings) > maxSettings {
			to.Settings, to.State = nil, to.State|uint16(sqltext.LeavesAnything)
		}
	}
	return moved
}

// maxSettings bounds the names that are read after a statement.
const maxSettings = 100

// told returns the harmless functions of triggers that may call nextval or send
// notifications.
func (fs *functions) told() map[catalog.OID]bool {
	oids := map[catalog.OID]bool{}
	for _, f := range fs.list {
		if f.harmless() && f.trigger && (f.code.Nextval || f.code.Notifies) {
			oids[f.oid] = true
		}
	}
	return oids
}

// triggersDo counts what told's functions may do.
func (fs *functions) triggersDo() (n int) {
	for _, f := range fs.list {
		if f.harmless() && f.trigger {
			if f.code.Nextval {
				n++
			}
			if f.code.Notifies {
				n++
			}
		}
	}
	return n
}

// taint notes that the function of an oid runs code before its body does.
func (fs *functions) taint(oid catalog.OID) {
	for _, f := range fs.list {
		if f.oid == oid {
			f.tainted = true
		}
	}
}

// of returns what the function of an oid may do, nil when it is not known.
func (fs *functions) of(oid catalog.OID) *catalog.Code {
	for _, f := range fs.list {
		if f.oid == oid {
			return &f.code
		}
	}
	return nil
}

// publish gives the snapshot what is known by name.
func (fs *functions) publish(s *catalog.Snapshot) {
	s.Code = map[string]*catalog.Code{}
	s.Words = map[string]bool{}
	s.Functions = fs.platform()
	for _, f := range fs.list {
		maps.Copy(s.Words, f.body.Words)
	}
	for name, list := range fs.byName {
		var c catalog.Code
		known := false
		for _, f := range list {
			known = known || f.unclean || f.code.Nextval || f.code.Notifies || f.code.DDL
			adds(&c, &f.code)
		}
		if known {
			s.Code[name] = &c
		}
	}
}
