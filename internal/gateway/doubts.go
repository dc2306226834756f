package gateway

import (
	"qvpgw/internal/catalog"
	"qvpgw/internal/router"
)

// doubts are the changes of the catalog that are not read yet: each counts until a
// reading is done that was asked for by it or after it.
type doubts struct {
	names map[router.Identifier]uint64 // the newest reading that is wanted for each
	deep  map[router.Identifier]uint64 // of them, for those whose code others may run
	any   uint64                       // and for what may have changed anything
	have  uint64                       // the newest that is done
	words map[router.Identifier]bool   // what functions of the snapshot mention
	bases map[router.Identifier]bool   // what others stand on
}

// maxDoubtful bounds the names that changes are told apart by.
const maxDoubtful = 10_000

// add adds a change that the reading of number n is wanted for.
func (d *doubts) add(c router.Change, n uint64) {
	if c.Any || len(d.names)+len(c.Names) > maxDoubtful {
		d.any = n
		return
	}
	if d.names == nil {
		d.names, d.deep = map[router.Identifier]uint64{}, map[router.Identifier]uint64{}
	}
	for _, id := range c.Names {
		d.names[id] = n
	}
	for _, id := range c.Deep {
		d.deep[id] = n
	}
	d.reach()
}

// reach has a name that a function mentions count for any, and one whose code others run:
// the statements that run the function, and those of the others, do not show it.
func (d *doubts) reach() {
	for id, n := range d.deep {
		if d.bases[id] {
			d.any = max(d.any, n)
		}
	}
	for id, n := range d.names {
		if d.words[id] {
			d.any = max(d.any, n)
		}
	}
}

// read says that the reading of number n is done and gave snap.
func (d *doubts) read(snap *catalog.Snapshot, n uint64) {
	d.have = n
	for _, pending := range [...]map[router.Identifier]uint64{d.names, d.deep} {
		for id, m := range pending {
			if m <= n {
				delete(pending, id)
			}
		}
	}
	d.words, d.bases = identifiers(snap.Words), identifiers(snap.Bases, snap.CleanFunctions, snap.UserFunctions)
	d.reach()
}

// identifiers returns those of the names in some maps.
func identifiers(names ...map[string]bool) map[router.Identifier]bool {
	ids := map[router.Identifier]bool{}
	for _, m := range names {
		for name := range m {
			ids[router.IdentifierOf(name)] = true
		}
	}
	return ids
}

// about says whether a change may have a say in a plan.
func (d *doubts) about(p *router.Plan) bool {
	return d.any > d.have || p.Mentions(func(id router.Identifier) bool { return d.names[id] > d.have })
}
