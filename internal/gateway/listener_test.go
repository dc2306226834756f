package gateway_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestTheListenersConnectionIsGivenBackWhenTheLastLeavesBehindAnother has both leave
// before the server has answered the UNLISTEN of the first.
func TestTheListenersConnectionIsGivenBackWhenTheLastLeavesBehindAnother(t *testing.T) {
	dsn := nativeDatabase(t, "")
	v, through := newValve(t, dsn)
	g, addr := serve(t, through, gateway.Options{Pool: pool.Options{Size: 3}, NewLoader: noCatalog})
	first, last := dial(t, addr, dsn), dial(t, addr, dsn)
	first.must("LISTEN first")
	last.must("LISTEN last")
	if !slices.ContainsFunc(g.Servers(), func(x gateway.ServerStat) bool { return x.Use == "listener" && !x.Idle }) {
		t.Errorf("nobody is told what the listener holds: %+v", g.Servers())
	}
	v.close()
	_ = first.conn.Close()
	v.heard("UNLISTEN", 1)
	_ = last.conn.Close()
	v.heard("UNLISTEN", 2)
	v.open()
	wantWhole(t, g)
}

// TestAListenThatMeetsAnothersUnlistenIsHeard has the one sent before the other, and
// neither answered.
func TestAListenThatMeetsAnothersUnlistenIsHeard(t *testing.T) {
	dsn := nativeDatabase(t, "")
	v, through := newValve(t, dsn)
	_, addr := serve(t, through, gateway.Options{Pool: pool.Options{Size: 3}, NewLoader: noCatalog})
	leaves, comes := dial(t, addr, dsn), dial(t, addr, dsn)
	leaves.must("LISTEN news")
	leaves.must("LISTEN kept")
	v.close()
	comes.send(simple("LISTEN news"))
	v.heard(`LISTEN "news"`, 1)
	_ = leaves.conn.Close()
	v.heard(`UNLISTEN "kept"`, 1)
	v.open()
	comes.reply(1)
	direct(t, dsn).must("NOTIFY news, 'new'")
	if got := comes.next(); got != "notification news new of another's" {
		t.Errorf("got %q", got)
	}
}

// TestAListenThatIsNotRunKeepsNoConnection: one that is only prepared, one that is
// rolled back to a savepoint, one for which the listener's encoding is not the client's.
func TestAListenThatIsNotRunKeepsNoConnection(t *testing.T) {
	dsn := nativeDatabase(t, "")
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}, NewLoader: noCatalog})
	for name, does := range map[string]func(p *peer){
		"prepared": func(p *peer) {
			p.extended(&pgproto3.Parse{Query: "LISTEN news"}, &pgproto3.Sync{})
		},
		"rolled back": func(p *peer) {
			for _, sql := range []string{"BEGIN", "SAVEPOINT a", "LISTEN news", "ROLLBACK TO a", "COMMIT"} {
				p.must(sql)
			}
		},
		"in another encoding": func(p *peer) {
			p.must("SET client_encoding TO latin1")
			p.must("LISTEN news")
			p.must("UNLISTEN *")
			p.must("DISCARD ALL")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, addr, dsn)
			does(p)
			p.want("SELECT 1", "1")
			wantWhole(t, g)
		})
	}
}
