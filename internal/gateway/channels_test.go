package gateway_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

func TestNotificationsReachAnIdleListener(t *testing.T) {
	dsn := nativeDatabase(t, "")
	for _, servers := range []int{1, 3} { // one: LISTEN pins (trap T16)
		t.Run(fmt.Sprintf("%d server connections", servers), func(t *testing.T) {
			_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: servers}})
			listener, sender := dial(t, addr, dsn), direct(t, dsn)
			listener.must("LISTEN news")
			if got, want := listener.pins(), map[int]string{1: "listen"}[servers]; got != want {
				t.Errorf("pinned by %q, want %q", got, want)
			}
			sender.must("NOTIFY news, 'from another'")
			if got := listener.next(); got != "notification news from another of another's" {
				t.Errorf("got %q", got)
			}
			// Its own comes with the reply, from the process that it takes for its own.
			want := []string{"complete NOTIFY", "notification news mine of its own", "ready I"}
			if got := listener.query("NOTIFY news, 'mine'"); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for range 3 {
				sender.must("SELECT pg_notify('news', 'again')")
				if got := listener.next(); got != "notification news again of another's" {
					t.Errorf("got %q", got)
				}
				listener.want("SELECT 1", "1")
			}
			listener.want("SELECT pg_listening_channels()", "news")
			listener.must("UNLISTEN *")
			listener.want("SELECT pg_listening_channels()", "")
			sender.must("NOTIFY news, 'unheard'")
			listener.want("SELECT 2", "2")
			listener.must("LISTEN news")
			listener.must("DISCARD ALL")
			sender.must("NOTIFY news, 'unheard'")
			if got := listener.query("SELECT 3"); rowsOf(got) != "3" || len(got) != 4 {
				t.Errorf("after DISCARD ALL: got %q", got)
			}
			if got := listener.pins(); got != "" {
				t.Errorf("after DISCARD ALL pinned by %q", got)
			}
		})
	}
}

// listening are conversations of one client that listens; what it hears must be what
// a direct one hears. A step that begins with "<" is sent by somebody else, before
// the client's next one.
var listening = []struct {
	name  string
	steps []string
}{
	{"LISTEN counts at COMMIT", []string{
		"BEGIN", "LISTEN a", "<NOTIFY a, '1'", "COMMIT", "<NOTIFY a, '2'", "SELECT 1",
		"BEGIN", "UNLISTEN a", "<NOTIFY a, '3'", "ROLLBACK", "<NOTIFY a, '4'", "SELECT 2",
		"BEGIN", "UNLISTEN *", "LISTEN b", "COMMIT", "<NOTIFY a, '5'", "<NOTIFY b, '6'", "SELECT 3", "SELECT pg_listening_channels()",
	}},
	{"channels are listed as they came", []string{
		"LISTEN d", "LISTEN b", "LISTEN e", "LISTEN a", "UNLISTEN b", "LISTEN d", "LISTEN c", "LISTEN b", "SELECT pg_listening_channels()",
	}},
	{"ROLLBACK forgets it", []string{
		"BEGIN", "LISTEN a", "ROLLBACK", "<NOTIFY a, '1'", "SELECT 1", "BEGIN", "LISTEN a", "SELECT 1/0", "LISTEN b", "COMMIT", "<NOTIFY a, '2'", "SELECT 2",
	}},
	{"savepoints", []string{
		"BEGIN", "SAVEPOINT s", "LISTEN a", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "LISTEN c", "COMMIT",
		"<NOTIFY a, '1'", "<NOTIFY b, '2'", "<NOTIFY c, '3'", "SELECT 1",
		"BEGIN", "SAVEPOINT s", "LISTEN d", "ROLLBACK TO s", "COMMIT", "<NOTIFY d, '4'", "SELECT 2",
		"BEGIN", "SAVEPOINT s", "LISTEN e", "RELEASE s", "COMMIT", "<NOTIFY e, '5'", "SELECT 3", "SELECT * FROM pg_listening_channels() ORDER BY 1",
	}},
	{"nothing is heard inside a transaction", []string{
		"LISTEN a", "BEGIN", "<NOTIFY a, '1'", "SELECT 1", "<NOTIFY a, '2'", "SELECT 2", "COMMIT", "NOTIFY a, 'own'",
		"BEGIN", "NOTIFY a, 'later'", "SELECT 3", "NOTIFY a, 'later'", "NOTIFY a, 'last'", "COMMIT",
		"BEGIN", "NOTIFY a, 'never'", "ROLLBACK", "SELECT 4", "NOTIFY a, 'x'; SELECT 5; NOTIFY a, 'y'", "SELECT pg_notify('a', 'z')",
	}},
	{"names", []string{
		`LISTEN "Quoted ""name"`, `<NOTIFY "Quoted ""name", 'q'`, "SELECT 1", "LISTEN A", "<NOTIFY a, 'folded'", "SELECT 2", "LISTEN a", "UNLISTEN other", "UNLISTEN a",
		"<NOTIFY a, 'gone'", "SELECT 3", "SELECT pg_listening_channels()", "DISCARD ALL", "SELECT pg_listening_channels()",
	}},
	{"several statements in one text", []string{
		"LISTEN a; LISTEN b", "<NOTIFY a, '1'", "<NOTIFY b, '2'", "SELECT 1", "LISTEN c", "<NOTIFY c, '3'", "SELECT 2",
	}},
	{"several statements in one text after others", []string{
		"LISTEN a", "LISTEN a; LISTEN b", "<NOTIFY a, '1'", "<NOTIFY b, '2'", "SELECT 1",
	}},
}

// In these, a two-phase transaction that is refused has not LISTENed.
var listeningOtherwise = []struct {
	name  string
	steps []string
}{
	{"another client_encoding since", []string{
		"LISTEN a", "SET client_encoding TO 'LATIN1'", "<NOTIFY a, 'schön'", "SELECT 1", "<NOTIFY a, 'süß'", "SELECT 'ä'", "LISTEN b", "<NOTIFY b, 'ö'", "SELECT 2",
		"UNLISTEN a", "<NOTIFY a, 'unheard'", "SELECT 3", "SET client_encoding TO 'UTF8'", "<NOTIFY b, 'ü'", "SELECT 4", "SELECT pg_listening_channels()",
	}},
	{"another client_encoding in the transaction", []string{
		"BEGIN", "LISTEN a", "SET client_encoding TO 'LATIN1'", "COMMIT", "<NOTIFY a, 'schön'", "SELECT 1",
		"BEGIN", "SET client_encoding TO 'UTF8'", "ROLLBACK", "<NOTIFY a, 'süß'", "SELECT 2",
	}},
	{"a name in another encoding", []string{
		`LISTEN "bär"`, "SET client_encoding TO 'LATIN1'", `<NOTIFY "bär", 'x'`, "SELECT 1", "SELECT length(c) FROM pg_listening_channels() c",
	}},
	{"PREPARE TRANSACTION after LISTEN", []string{
		"BEGIN", "LISTEN a", "PREPARE TRANSACTION 'x'", "<NOTIFY a, '1'", "SELECT 1", "BEGIN", "UNLISTEN *", "PREPARE TRANSACTION 'u'", "ROLLBACK PREPARED 'u'", "SELECT 2",
		"BEGIN", "LISTEN a", "SELECT 1/0", "PREPARE TRANSACTION 'x'", "SELECT 3", "LISTEN a", "BEGIN", "UNLISTEN a", "PREPARE TRANSACTION 'x'", "BEGIN", "SELECT 4", "PREPARE TRANSACTION 'y'", "ROLLBACK PREPARED 'y'",
		"BEGIN", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "PREPARE TRANSACTION 'z'", "ROLLBACK PREPARED 'z'", "<NOTIFY a, '2'", "SELECT 5",
	}},
}

func TestAListenerHearsWhatADirectOneHears(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	for _, l := range append(slices.Clone(listening), listeningOtherwise...) {
		for _, extended := range []bool{false, true} {
			if extended && slices.ContainsFunc(l.steps, func(s string) bool { return strings.Contains(s, "; ") }) {
				continue
			}
			t.Run(fmt.Sprintf("%s, extended %v", l.name, extended), func(t *testing.T) {
				want, from := hear(t, direct(t, dsn), direct(t, dsn), l.steps, extended, 0)
				got, heard := hear(t, dial(t, addr, dsn), direct(t, dsn), l.steps, extended, len(from))
				for i := range want {
					if want[i] != got[i] {
						t.Errorf("step %d, %s:\ndirect  %s\ngateway %s", i, l.steps[i], want[i], got[i])
					}
				}
				if !slices.Equal(from, heard) {
					t.Errorf("from others:\ndirect  %q\ngateway %q", from, heard)
				}
			})
		}
	}
}

// hear runs steps and returns what the client got with each, its own notifications
// included, and the notifications of others, at least so many. None may come inside
// a transaction.
func hear(t *testing.T, p, sender *peer, steps []string, extended bool, atLeast int) (out, others []string) {
	t.Helper()
	note := func(l string, inTx bool) bool {
		if !strings.HasSuffix(l, "another's") {
			return false
		}
		if others = append(others, l); inTx {
			t.Errorf("%s: %q inside a transaction", p.name, l)
		}
		return true
	}
	for _, sql := range steps {
		if other, ok := strings.CutPrefix(sql, "<"); ok {
			sender.must(other)
			time.Sleep(5 * time.Millisecond)
			out = append(out, "")
			continue
		}
		inTx := p.tx == 'T'
		if extended {
			p.send(group("", sql)...)
		} else {
			p.send(simple(sql))
		}
		var lines []string
		for _, l := range p.reply(1) {
			// With the reply that ends a transaction they may come.
			if !note(l, inTx && p.tx == 'T') && !strings.HasPrefix(l, "columns") {
				lines = append(lines, l)
			}
		}
		out = append(out, strings.Join(lines, ", "))
	}
	for len(others) < atLeast {
		l := p.next()
		if !note(l, false) {
			t.Fatalf("%s: got %q after %q", p.name, l, others)
		}
	}
	p.send(&pgproto3.Terminate{})
	return out, others
}

// TestANotificationNamesItsSenderAsClientsKnowIt: the process id of the sender is
// the one that its client was given.
func TestANotificationNamesItsSenderAsClientsKnowIt(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	listener := dial(t, addr, dsn)
	listener.must("LISTEN who")
	senders := []*peer{dial(t, addr, dsn), dial(t, addr, dsn), dial(t, addr, dsn)}
	for i := range 30 {
		s := senders[i%3]
		s.must("NOTIFY who, '" + fmt.Sprint(s.pid) + "'")
		m, err := listener.receive()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := m.(*pgproto3.NotificationResponse)
		if !ok || n.Payload != fmt.Sprint(n.PID) {
			t.Errorf("%d sent, got %+v", s.pid, m)
		}
	}
}

func TestListenersThatShareAConnectionHearTheirOwnChannelsAlone(t *testing.T) {
	dsn := nativeDatabase(t, "")
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	var all []*peer
	for i := range 20 {
		p := dial(t, addr, dsn)
		p.must(fmt.Sprintf("LISTEN c%d", i))
		p.must("LISTEN everybody")
		all = append(all, p)
	}
	sender := dial(t, addr, dsn)
	for i, p := range all {
		sender.must(fmt.Sprintf("NOTIFY c%d, '%d'", i, i))
		if got := p.next(); got != fmt.Sprintf("notification c%d %d of another's", i, i) {
			t.Errorf("client %d got %q", i, got)
		}
	}
	sender.must("NOTIFY everybody, 'all'")
	for i, p := range all {
		if got := p.next(); got != "notification everybody all of another's" {
			t.Errorf("client %d got %q", i, got)
		}
		p.send(&pgproto3.Terminate{})
	}
	// The last one's end gives the connection back.
	sender.send(&pgproto3.Terminate{})
	settled(t, g)
}

// TestAListenerWhoseServerConnectionIsLostIsTold: it may have missed something.
func TestAListenerWhoseServerConnectionIsLostIsTold(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	p := dial(t, addr, dsn)
	p.must("LISTEN news")
	run(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
	if got := p.next(); !strings.HasPrefix(got, "FATAL 57P01") {
		t.Errorf("got %q", got)
	}
	p = dial(t, addr, dsn)
	p.must("LISTEN news")
	p.want("SELECT pg_listening_channels()", "news")
}

// TestAListenerThatDoesNotReadIsEndedAndNobodyElseWaits has one of two listeners
// never read.
func TestAListenerThatDoesNotReadIsEndedAndNobodyElseWaits(t *testing.T) {
	dsn := nativeDatabase(t, "")
	g, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
	deaf, good := dial(t, addr, dsn), dial(t, addr, dsn)
	_ = deaf.conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	deaf.must("LISTEN news")
	good.must("LISTEN news")
	sender := direct(t, dsn)
	heard := make(chan int)
	go func() {
		n := 0
		for ; n < 3000; n++ {
			if l := good.next(); !strings.HasPrefix(l, "notification") {
				break
			}
		}
		heard <- n
	}()
	sender.must("DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_notify('news', i || repeat('x', 7000)); END LOOP; END $$")
	if n := <-heard; n != 3000 {
		t.Errorf("the good listener heard %d", n)
	}
	for deadline := time.Now().Add(patience); len(g.Clients()) > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the deaf listener stays")
		}
	}
}

// TestAListenWithoutAConnectionToListenOn: the client's own does it when all others
// are taken and it was not answered yet; one that was answered waits for another.
func TestAListenWithoutAConnectionToListenOn(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, QueueTimeout: patience})
	client, busy, sender := dial(t, addr, dsn), dial(t, addr, dsn), direct(t, dsn)
	heard := func(p *peer, what string) {
		t.Helper()
		sender.must("NOTIFY news, '" + what + "'")
		if got := p.next(); got != "notification news "+what+" of another's" {
			t.Errorf("%s: got %q", what, got)
		}
	}
	busy.must("BEGIN")
	client.must("BEGIN")
	client.must("LISTEN news")
	client.must("COMMIT")
	if got := client.pins(); got != "listen" {
		t.Errorf("with all connections taken: pinned by %q, want listen", got)
	}
	heard(client, "pinned")
	client.must("UNLISTEN *")
	client.must("DISCARD ALL")
	client.want("SELECT 1", "1")
	busy.must("COMMIT")
	time.Sleep(2 * time.Second) // for so long nobody tries again

	client.must("BEGIN")
	client.must("LISTEN news")
	run(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'idle' AND application_name NOT LIKE '%direct%' AND datname = current_database() AND backend_type = 'client backend' AND pid <> "+fmt.Sprint(sender.pid))
	busy.must("BEGIN")
	time.AfterFunc(3*time.Second, func() { busy.must("COMMIT") })
	client.must("COMMIT") // waits for the connection of the busy one
	if got := client.pins(); got != "" {
		t.Errorf("answered before: pinned by %q", got)
	}
	heard(client, "shared")
}

// TestAListenerWithChannelsOnItsOwnConnectionToo ends all of them.
func TestAListenerWithChannelsOnItsOwnConnectionToo(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	p, sender := dial(t, addr, dsn), direct(t, dsn)
	p.must("LISTEN shared")
	p.must("LISTEN own; LISTEN other") // looked at after it: pins
	if got := p.pins(); got != "listen" {
		t.Fatalf("pinned by %q, want listen", got)
	}
	p.must("LISTEN shared") // not twice
	for _, channel := range []string{"shared", "own", "other"} {
		sender.must("NOTIFY " + channel + ", 'x'")
		if got := p.next(); got != "notification "+channel+" x of another's" {
			t.Errorf("%s: got %q", channel, got)
		}
	}
	p.want("SELECT 1", "1")
	p.must("UNLISTEN shared")
	sender.must("NOTIFY shared, 'unheard'")
	p.must("LISTEN other")
	p.must("UNLISTEN *")
	for _, channel := range []string{"shared", "own", "other"} {
		sender.must("NOTIFY " + channel + ", 'unheard'")
	}
	p.want("SELECT 2", "2")
	p.want("SELECT 3", "3")
}

// TestNothingIsHeardAfterAnUnlistenWasAnswered has another client send all the time.
func TestNothingIsHeardAfterAnUnlistenWasAnswered(t *testing.T) {
	dsn := nativeDatabase(t, "")
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 3}})
	listener, sender := dial(t, addr, dsn), direct(t, dsn)
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				sender.must("NOTIFY news, 'again'")
			}
		}
	}()
	heard := 0
	for i := range 60 {
		listener.must("LISTEN news")
		listener.must("SELECT 1")
		var got []string
		if i%2 == 0 {
			got = listener.query("UNLISTEN news")
		} else {
			listener.send(group("", "UNLISTEN news")...)
			got = listener.reply(1)
		}
		heard += len(got)
		if got := listener.query("SELECT 2"); len(got) != 4 {
			t.Fatalf("after UNLISTEN: %q", got)
		}
	}
	close(stop)
	<-done
	if heard < 180 {
		t.Errorf("%d messages answered 60 UNLISTENs: nothing was under way", heard)
	}
}
