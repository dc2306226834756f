package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/sqltext"
)

// leaves takes note of what a text that is about to be sent may leave behind in
// the session: it is looked for when the transaction has ended (trap T7).
func (s *session) leaves(plan *router.Plan, sure bool) {
	if plan.Leaves|plan.Ends == 0 {
		return
	}
	if sure && plan.Leaves&unseen != 0 {
		s.kept |= plan.Pins & found
	}
	s.due |= plan.Leaves | plan.Ends&statesOf(router.Pins(s.pins.Load()))
	for _, name := range plan.Settings {
		if !slices.Contains(s.names, name) {
			s.names = append(s.names, name)
		}
		s.local = s.local || meaning(name)
		s.literals = s.literals || slices.Contains(literalSettings, name)
	}
	s.local = s.local || plan.Leaves&sqltext.LeavesRole != 0
}

// unseen is what no question finds: code that may have left it keeps its pin.
const unseen = sqltext.LeavesAnything | sqltext.LeavesSeed | sqltext.LeavesLibrary

// readBack is what a check takes over into the session's settings.
const readBack = sqltext.LeavesSettings | sqltext.LeavesRole

// looks are the questions of a check whose answer is a pin. Each is a condition
// that no object of a user has a part in.
var looks = []struct {
	state sqltext.State
	pin   router.Pins
	sql   string
}{
	{sqltext.LeavesTemp, router.PinTemp, `EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
	OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
	OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())`},
	{sqltext.LeavesAdvisory, router.PinAdvisory, `EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())`},
	{sqltext.LeavesCursor, router.PinCursor, `EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)`},
	{sqltext.LeavesPrepared, router.PinPrepare, `EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`},
	{sqltext.LeavesListen, router.PinListen, `EXISTS (SELECT FROM pg_catalog.pg_listening_channels())`},
}

// code are the pins for code that runs, found those that a check takes, or takes back.
const (
	code  = router.PinUnparsed | router.PinFunction | router.PinRelation | router.PinDo
	found = code | router.PinTemp | router.PinPrepare |
		router.PinCursor | router.PinListen | router.PinAdvisory | router.PinSetting
)

// statesOf returns the states that pins stand for.
func statesOf(p router.Pins) (s sqltext.State) {
	for _, l := range looks {
		if p&l.pin != 0 {
			s |= l.state
		}
	}
	return s
}

// check asks the server, between two transactions and after the client has its
// answer, what is left in the session of that which may have been: settings and
// role are then the client's like those it has SET, for the rest there is a pin.
// Code of which is not known what it does keeps its pin.
func (s *session) check() error {
	pins := router.Pins(s.pins.Load())
	defer func() {
		p := router.Pins(s.pins.Load())
		s.srv.m.Pinned(uint32(p &^ s.counted))
		s.counted = p
	}()
	if s.srv.unchecked.Load() || s.mode == Session || pins == router.PinCatalog && !s.lasting {
		return nil
	}
	if s.due == 0 {
		if s.kept == 0 && pins&code != 0 {
			s.pins.Store(uint32(pins &^ code)) // it leaves nothing, and is known
		}
		return nil
	}
	if s.kept != 0 || pins&router.PinProcess != 0 {
		temp := pins&(router.PinTemp|router.PinProcess) == router.PinTemp && s.due&sqltext.LeavesTemp != 0
		s.forgetDue()
		if !temp {
			return nil
		}
		return s.checkTemp()
	}
	due := s.due | statesOf(pins)
	rows, err := s.conn.Query(s.question(due), switchTimeout)
	s.conn.Stream.SetDst(s.net)
	var se *pool.ServerError
	switch {
	case errors.As(err, &se), err == nil && (len(rows) != 1 || len(rows[0]) != answers+len(s.names)):
		s.pin(router.PinSetting) // asked again after the next transaction
		return nil
	case err != nil:
		return s.serverGone(err)
	}
	pins &^= found
	row := rows[0]
	for _, l := range looks {
		if row[0] != nil && strings.Contains(*row[0], l.pin.Names()[0]) {
			pins |= l.pin
		}
	}
	if !s.takeOver(due, row) {
		pins |= router.PinSetting
		s.kept |= router.PinSetting
	}
	s.pins.Store(uint32(pins))
	s.forgetDue()
	return nil
}

// checkTemp ends the pin for temporary objects that are gone, of a client that is pinned
// for good by something else: who looks is told what keeps it.
func (s *session) checkTemp() error {
	rows, err := s.conn.Query(s.question(sqltext.LeavesTemp), switchTimeout)
	s.conn.Stream.SetDst(s.net)
	var se *pool.ServerError
	switch {
	case errors.As(err, &se):
	case err != nil:
		return s.serverGone(err)
	case len(rows) == 1 && len(rows[0]) > 0 && rows[0][0] != nil && *rows[0][0] == "" && s.kept&^router.PinTemp != 0:
		s.unpin(router.PinTemp)
	}
	return nil
}

// forgetDue ends what was due.
func (s *session) forgetDue() {
	s.due, s.names = 0, s.names[:0]
	s.local, s.literals = false, false
}

// answers is how many columns of a check's answer come before the settings: the
// pins, the settings of the server itself, the role, the session's user.
const answers = 4

// question is the text of a check.
func (s *session) question(due sqltext.State) string {
	var b strings.Builder
	b.WriteString("SELECT pg_catalog.concat_ws(' ', NULL")
	for _, l := range looks {
		if due&l.state != 0 {
			fmt.Fprintf(&b, ", CASE WHEN %s THEN '%s' END", l.sql, l.pin.Names()[0])
		}
	}
	b.WriteString("), ")
	var plain []string
	for _, name := range s.names {
		if !strings.Contains(name, ".") {
			plain = append(plain, catalog.Literal(name))
		}
	}
	if len(plain) == 0 {
		b.WriteString("NULL")
	} else {
		fmt.Fprintf(&b, `(SELECT pg_catalog.string_agg(pg_catalog.lower(name) OPERATOR(pg_catalog.||) '=' OPERATOR(pg_catalog.||) pg_catalog.current_setting(name), pg_catalog.chr(1))
	FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY[%s]))`, strings.Join(plain, ", "))
	}
	b.WriteString(", pg_catalog.current_setting('role'), session_user")
	for _, name := range s.names {
		if strings.Contains(name, ".") {
			fmt.Fprintf(&b, ", pg_catalog.current_setting(%s, true)", catalog.Literal(name))
		} else {
			b.WriteString(", NULL")
		}
	}
	return b.String()
}

// takeOver makes the settings that a check found the session's own; false when
// they cannot be set again elsewhere.
func (s *session) takeOver(due sqltext.State, row []*string) bool {
	settings := slices.Clone(s.bucket.Settings)
	put := func(name string, value *string) {
		i := slices.IndexFunc(settings, func(x pool.Setting) bool { return x.Name == name })
		switch {
		case value == nil && i < 0, value != nil && *value == "" && i < 0:
		case value == nil:
			settings = slices.Delete(settings, i, i+1)
		case i < 0:
			settings = append(settings, pool.Setting{Name: name, SQL: pool.SetStatement(name, *value)})
		default:
			settings[i].SQL = pool.SetStatement(name, *value)
		}
	}
	if due&sqltext.LeavesSettings != 0 {
		own := map[string]*string{}
		if row[1] != nil {
			for _, x := range strings.Split(*row[1], "\x01") {
				name, value, _ := strings.Cut(x, "=")
				own[name] = &value
			}
		}
		for i, name := range s.names {
			if value := row[answers+i]; strings.Contains(name, ".") {
				put(name, value)
			} else {
				put(name, own[name])
			}
		}
	}
	if due&sqltext.LeavesRole != 0 && row[2] != nil && row[3] != nil {
		role, user := row[2], row[3]
		if *role == "none" {
			role = nil
		}
		if *user == s.login {
			user = nil
		}
		put("role", role)
		put("session_authorization", user)
	}
	b := s.pool.Intern(settings)
	if !ascii(b.Key()) && b.Get("client_encoding") != "" {
		return false // the server converts a text before it reads it
	}
	s.bucket, s.conn.Bucket = b, b
	return true
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}
