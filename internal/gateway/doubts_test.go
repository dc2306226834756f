package gateway

import (
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/router"
)

// changes is a router with a database's doubts.
type changes struct {
	doubts
	router  *router.Router
	context *router.Context
	n       uint64
}

func newChanges(words ...string) *changes {
	var h catalog.Holder
	s := &catalog.Snapshot{Fingerprint: "f", Relations: map[catalog.Name]*catalog.Relation{}, Words: map[string]bool{}}
	for _, name := range []string{"a", "b"} {
		n := catalog.Name{Schema: "public", Name: name}
		s.Relations[n] = &catalog.Relation{Name: n, Kind: 'r', Clean: true, ReadClean: true}
	}
	for _, w := range words {
		s.Words[w] = true
	}
	h.Store(s)
	c := &changes{
		router:  router.New(router.Options{Catalog: &h}),
		context: &router.Context{SearchPath: []string{"public"}, SettingsKnown: true, ConformingStrings: true},
	}
	c.read(s, 0)
	return c
}

func (c *changes) plan(sql string) *router.Plan { return c.router.Plan(c.context, []byte(sql)) }

func (c *changes) change(ddl string) {
	c.n++
	c.add(c.plan(ddl).Change, c.n)
}

func TestAChangeIsInDoubtUntilItIsReadForWhatMentionsIt(t *testing.T) {
	c := newChanges("shown")
	a, b, begin := c.plan("SELECT * FROM a"), c.plan("SELECT * FROM b"), c.plan("BEGIN")
	want := func(what string, da, db, dBegin bool) {
		t.Helper()
		for _, x := range []struct {
			name string
			have bool
			want bool
		}{{"a", c.about(a), da}, {"b", c.about(b), db}, {"begin", c.about(begin), dBegin}} {
			if x.have != x.want {
				t.Errorf("%s: the doubt about %s is %t", what, x.name, x.have)
			}
		}
	}
	snap := func(words ...string) *catalog.Snapshot {
		s := &catalog.Snapshot{Words: map[string]bool{}}
		for _, w := range words {
			s.Words[w] = true
		}
		return s
	}
	want("nothing changed", false, false, false)
	c.change("DROP TABLE a") // 1
	want("after DROP TABLE a", true, false, false)
	c.change("DROP TABLE b") // 2
	want("after DROP TABLE b", true, true, false)
	c.read(snap(), 1)
	want("the first is read", false, true, false)
	c.change("CREATE EXTENSION e") // 3
	want("after CREATE EXTENSION", true, true, true)
	c.read(snap("later"), 3)
	want("all are read", false, false, false)
	c.change("CREATE TABLE later (i int)") // 4
	want("a function mentions what is made", true, true, true)
	c.read(snap(), 4)
	c.change("CREATE TABLE told (i int)") // 5
	want("no function mentions it", false, false, false)
	c.read(snap("told"), 4)
	want("one does that was read meanwhile", true, true, true)
	c.read(snap(), 5)
	c.change("ALTER TABLE a ENABLE TRIGGER t") // 6
	want("a has more code", true, false, false)
	c.read(&catalog.Snapshot{Bases: map[string]bool{"a": true}}, 5)
	want("something stands on a that was read meanwhile", true, true, true)
	c.read(&catalog.Snapshot{Bases: map[string]bool{"a": true}}, 6)
	want("its code is read", false, false, false)
}

func TestReadingsThatNobodyWaitsForTakeATenthOfTheTime(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: time.Second, 20 * time.Millisecond: time.Second, 300 * time.Millisecond: 3 * time.Second, 2 * time.Second: 5 * time.Second,
	} {
		if got := suspectPause(took); got != want {
			t.Errorf("after a reading of %v the next one begins %v after it began, want %v", took, got, want)
		}
	}
}
