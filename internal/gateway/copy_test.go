package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestWhatAServerSaysAmidACopyIsHeardByAClientThatIsSilent has clients that wait for
// the server before they send more of their COPY.
func TestWhatAServerSaysAmidACopyIsHeardByAClientThatIsSilent(t *testing.T) {
	dsn := nativeDatabase(t, `CREATE TABLE copied (a int);
		CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', NEW.a; RETURN NEW; END $$;
		CREATE TRIGGER speaks BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION speak()`)
	_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 1}})
	row := func(text string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(text + "\n")} }
	const begins = "COPY copied FROM STDIN"
	// await reads up to a message, told by its beginning.
	await := func(p *peer, kind string) {
		p.Helper()
		for {
			m, err := p.receive()
			if err != nil {
				p.Fatalf("waiting for %s: %v", kind, err)
			}
			if e, ok := m.(*pgproto3.ErrorResponse); ok && kind == e.Code {
				return
			}
			if n, ok := m.(*pgproto3.NoticeResponse); ok && kind == n.Message {
				return
			}
			if _, ok := m.(*pgproto3.CopyInResponse); ok && kind == "copy" {
				return
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok && kind == "ready" {
				return
			}
		}
	}
	t.Run("it has failed", func(t *testing.T) {
		p, other := dial(t, addr, dsn), dial(t, addr, dsn)
		p.send(&pgproto3.Query{String: begins})
		await(p, "copy")
		p.send(row("1"))
		await(p, "row 1")
		p.send(row("no number"))
		await(p, "22P02")
		await(p, "ready")
		other.want("SELECT 'is served meanwhile'", "is served meanwhile")
		p.send(row("2"), &pgproto3.CopyDone{})
		p.want("SELECT count(*) FROM copied", "0")
	})
	t.Run("it has failed in a group", func(t *testing.T) {
		p := dial(t, addr, dsn)
		p.send(&pgproto3.Parse{Query: begins}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{})
		await(p, "copy")
		p.send(row("no number"))
		await(p, "22P02")
		p.send(row("2"), &pgproto3.CopyFail{Message: "given up"}, &pgproto3.Sync{})
		await(p, "ready")
		p.want("SELECT count(*) FROM copied", "0")
	})
	t.Run("it has failed in a transaction", func(t *testing.T) {
		p := dial(t, addr, dsn)
		p.must("BEGIN")
		p.send(&pgproto3.Query{String: begins})
		await(p, "copy")
		p.send(row("no number"))
		await(p, "ready")
		if got := strings.Join(p.query("COMMIT"), ", "); got != "complete ROLLBACK, ready I" {
			t.Errorf("COMMIT gave %s", got)
		}
	})
	t.Run("it has failed amid a message", func(t *testing.T) {
		_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}}) // one listens
		p, other := dial(t, addr, dsn), dial(t, addr, dsn)
		p.must("LISTEN news")
		p.send(&pgproto3.Query{String: begins})
		await(p, "copy")
		p.send(row("no number"))
		long, err := row(strings.Repeat("2\n", 50_000)).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{long[:30_000], long[30_000:60_000], long[60_000:]} {
			if _, err := p.conn.Write(part); err != nil {
				t.Fatal(err)
			}
			if len(part) == 30_000 && &part[0] == &long[0] {
				await(p, "22P02")
				await(p, "ready")
				run(t, dsn, "NOTIFY news") // the gateway's session is woken
				time.Sleep(50 * time.Millisecond)
			}
		}
		p.send(&pgproto3.CopyDone{})
		p.want("SELECT count(*) FROM copied", "0")
		other.want("SELECT 'is served'", "is served")
	})
	t.Run("it goes on", func(t *testing.T) {
		p := dial(t, addr, dsn)
		p.send(&pgproto3.Query{String: begins})
		await(p, "copy")
		for _, n := range []string{"3", "4", "5"} {
			p.send(row(n))
			await(p, "row "+n)
		}
		p.send(&pgproto3.CopyDone{})
		await(p, "ready")
		p.want("SELECT count(*) FROM copied", "3")
	})
	t.Run("it has ended the session", func(t *testing.T) {
		p := dial(t, addr, dsn)
		p.send(&pgproto3.Query{String: begins})
		await(p, "copy")
		run(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '"+begins+"' AND state = 'active'")
		await(p, "57P01")
	})
}
