package router

import (
	"strings"
	"testing"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rules"
)

const vectorOID catalog.OID = 16500 // some number that is not built in

// relation makes a clean table of columns "name oid".
func relation(schema, name string, kind byte, columns ...catalog.Column) *catalog.Relation {
	for i := range columns {
		columns[i].Number = int16(i + 1)
	}
	return &catalog.Relation{
		OID: 20000, Name: catalog.Name{Schema: schema, Name: name}, Kind: kind,
		Columns: columns, Clean: true, ReadClean: true,
	}
}

func column(name string, oid catalog.OID) catalog.Column {
	return catalog.Column{Name: name, Type: oid}
}

// fixture is the catalog of the golden tests: the platform's tables, some with
// user code, and names that users made.
func fixture() *catalog.Snapshot {
	market := relation("public", "market_data", 'r',
		column("timestamp", 1184), column("symbol", 25), column("open", 701), column("high", 701),
		column("low", 701), column("close", 701), column("volume", 20))
	market.HypertableID = 1
	embeddings := relation("public", "feature_embeddings", 'r',
		column("id", 20), column("symbol", 25), column("timestamp", 1184), column("embedding", vectorOID),
		column("kind", 1043), column("score", 701), column("active", 16), column("metadata", 3802),
		column("location", 600), column("day", 1082))
	trades := relation("public", "trades", 'r',
		column("id", 20), column("symbol", 25), column("price", 1700), column("at", 1184))
	trades.Nextval = true
	secured := relation("public", "secured_embeddings", 'r', column("id", 20), column("embedding", vectorOID))
	secured.RowSecurity = true
	audited := relation("public", "audited", 'r', column("id", 20), column("note", 25))
	audited.Clean, audited.Unclean = false, "trigger audit on public.audited"
	opaque := relation("public", "opaque", 'v', column("id", 20))
	opaque.Clean, opaque.ReadClean, opaque.Unclean = false, false, "view public.opaque calls a user's function"
	other := relation("tenant", "audited", 'r', column("id", 20))
	accounts := relation("tenant", "accounts", 'r', column("id", 20), column("owner", 25))
	plainView := relation("public", "latest", 'v', column("symbol", 25))

	s := &catalog.Snapshot{
		Fingerprint: "fixture", ServerVersion: 170005, Timescale: "2.23.0", Community: true, Vector: "0.8.0",
		Relations:     map[catalog.Name]*catalog.Relation{},
		UserFunctions: words("slow_total lower_all first_agg total dblink dblink_exec"),
		UserOperators: words("<%> ==="),
		UserTypes:     words("mood positive_int"),
		Hypertables: map[int32]*catalog.Hypertable{
			1: {ID: 1, Name: market.Name, TimeColumn: "timestamp", TimeType: 1184},
		},
	}
	for _, r := range []*catalog.Relation{market, embeddings, trades, secured, audited, opaque, other, accounts, plainView} {
		s.Relations[r.Name] = r
	}
	return s
}

// plainContext is a session that changed nothing.
func plainContext() *Context {
	return &Context{
		Database: "qvpgw", User: "app", SearchPath: []string{"public"}, TimeZone: "UTC",
		SettingsKnown: true, ConformingStrings: true, Route: true, Cache: true,
	}
}

func holder(s *catalog.Snapshot) *catalog.Holder {
	h := new(catalog.Holder)
	if s != nil {
		h.Store(s)
	}
	return h
}

var fixedNow = func() time.Time { return time.Date(2024, 6, 15, 12, 0, 0, 0, time.UTC) }

// setup is what a golden case's directives change.
type setup struct {
	context *Context
	options Options
}

// directives reads a golden case's "@ word …" line: cache=off, route=off,
// strings=off, settings=unknown, catalog=none, path=a,b, rules=refuse, rules=warn,
// casts=user, events=user, operators=user, recovery=on.
func directives(t *testing.T, line string) setup {
	t.Helper()
	snap := fixture()
	c := plainContext()
	o := Options{Now: fixedNow}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "cache":
			c.Cache = false
		case "route":
			c.Route = false
		case "strings":
			c.ConformingStrings = false
		case "settings":
			c.SettingsKnown = false
		case "catalog":
			snap = nil
		case "path":
			c.SearchPath = strings.Split(value, ",")
		case "casts":
			snap.UserCasts = true
		case "events":
			snap.EventTriggers = true
		case "operators":
			snap.UserOperators["="] = true
		case "recovery":
			snap.InRecovery = true
		case "rules":
			all := map[string]string{}
			for _, name := range rules.Names() {
				all[name] = value
			}
			set, err := rules.New(all)
			if err != nil {
				t.Fatal(err)
			}
			o.Rules = set
		default:
			t.Fatalf("unknown directive %q", word)
		}
	}
	o.Catalog = holder(snap)
	return setup{context: c, options: o}
}
