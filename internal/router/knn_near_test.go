package router

import (
	"strings"
	"testing"

	"qvpgw/internal/catalog"
)

// TestTheNormsOfANearQueryAreThoseOfItsTable: a name may have a dot in it, and may be a
// word of the grammar.
func TestTheNormsOfANearQueryAreThoseOfItsTable(t *testing.T) {
	s := fixture()
	odd := relation("public", "tenant.order", 'r', column("id", 20), column("the.vector", vectorOID))
	s.Relations[odd.Name] = odd
	r := New(Options{Catalog: holder(s)})
	for _, text := range []string{
		`SELECT id FROM "tenant.order" ORDER BY "the.vector" <=> '[1,2,3]' LIMIT 5`,
		`SELECT id FROM public."tenant.order" ORDER BY "the.vector" <=> '[1,2,3]' LIMIT 5`,
	} {
		n, ok := r.Near(plainContext(), []byte(text), "")
		if !ok {
			t.Fatalf("%s is no near query", text)
		}
		_, from, _ := strings.Cut(n.Squares(), " FROM ")
		if want := catalog.Quote("tenant.order"); strings.TrimPrefix(from, catalog.Quote("public")+".") != want {
			t.Errorf("%s asks %s", text, n.Squares())
		}
		if !strings.Contains(n.Squares(), `-("the.vector" <#> "the.vector")`) {
			t.Errorf("%s asks %s", text, n.Squares())
		}
	}
}
