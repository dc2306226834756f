package gateway_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestIdleSessionTimeoutIsTheClients: a client that has it hears of it as from the
// server, however it was set, while the server's session serves others.
func TestIdleSessionTimeoutIsTheClients(t *testing.T) {
	dsn := nativeDatabase(t, "")
	database := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
	for name, c := range map[string]struct {
		startup []string
		setUp   string // by somebody else, before
		steps   []string
		stays   bool
	}{
		"SET":                        {steps: []string{"SET idle_session_timeout TO '2s'"}},
		"SET without a unit":         {steps: []string{"SET idle_session_timeout = 2000"}},
		"in the startup packet":      {startup: []string{"options=-c idle_session_timeout=2000"}},
		"of the database":            {setUp: "ALTER DATABASE " + database + " SET idle_session_timeout TO '2s'"},
		"in a transaction":           {steps: []string{"BEGIN", "SET idle_session_timeout TO '2s'", "COMMIT"}},
		"a RESET, to the startup's":  {startup: []string{"options=-c idle_session_timeout=2000"}, steps: []string{"SET idle_session_timeout TO 0", "RESET idle_session_timeout"}},
		"a client that is pinned":    {steps: []string{"CREATE TEMP TABLE scratch (a int)", "SET idle_session_timeout TO '2s'"}},
		"none":                       {steps: []string{"SET idle_session_timeout TO '2s'", "RESET idle_session_timeout"}, stays: true},
		"inside a transaction":       {steps: []string{"SET idle_session_timeout TO '2s'", "BEGIN"}, stays: true},
		"undone":                     {steps: []string{"BEGIN", "SET idle_session_timeout TO '2s'", "ROLLBACK"}, stays: true},
		"longer than the one before": {startup: []string{"options=-c idle_session_timeout=2000"}, steps: []string{"SET idle_session_timeout TO '1h'"}, stays: true},
	} {
		for gear, g := range map[string]gateway.Gear{"first gear": gateway.GearAuto, "second gear": gateway.GearSecond} {
			t.Run(name+", "+gear, func(t *testing.T) {
				t.Parallel()
				dsn, database := dsn, database
				if c.setUp != "" {
					dsn = nativeDatabase(t, "")
					own := dsn[strings.LastIndexByte(dsn, '/')+1 : strings.IndexByte(dsn, '?')]
					run(t, dsn, strings.ReplaceAll(c.setUp, database, own))
				}
				_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}, Gear: g})
				hear := func(p *peer) []string {
					for _, sql := range c.steps {
						p.must(sql)
					}
					wait := 20 * time.Second
					if c.stays {
						wait = 3 * time.Second
					}
					_ = p.conn.SetReadDeadline(time.Now().Add(wait))
					var heard []string
					for {
						m, err := p.front.Receive()
						if err != nil {
							return append(heard, err.Error()[:min(len(err.Error()), 14)])
						}
						heard = append(heard, p.show(m))
					}
				}
				other := dial(t, addr, dsn)
				other.want("SELECT 1", "1")
				want := make(chan []string, 1)
				go func() { want <- hear(direct(t, dsn, c.startup...)) }()
				p := dial(t, addr, dsn, c.startup...)
				got := hear(p)
				if direct := <-want; !slices.Equal(direct, got) {
					t.Errorf("direct  %q\ngateway %q", direct, got)
				}
				if ended := slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "FATAL 57P05") }); ended == c.stays {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}
