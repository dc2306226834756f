package pool

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"qvpgw/internal/catalog"
	"qvpgw/internal/wire"
)

// Setting is one session setting that differs from the server's default: its
// name in lower case and the statement that brings it about, as
// "SET datestyle TO 'ISO, DMY'".
type Setting struct {
	Name string
	SQL  string
}

// Bucket is a set of settings. Buckets of one pool are interned: equal settings,
// same pointer, so that a connection that fits is found by comparing pointers.
// Immutable but for what is learned of it from the server.
type Bucket struct {
	Settings []Setting // sorted by name
	key      string
	restless bool // the server ends an idle session with these settings
	plain    bool // all of them are in plainSettings
	learned  atomic.Pointer[Learned]
}

// Learned is what the server said of a session with a bucket's settings.
type Learned struct {
	Params []Param // reported parameters (ParameterStatus)
	Era    uint32  // of the defaults under which it was learned
	Extra  any     // the gateway's own derivations
}

// Param is a reported server parameter.
type Param struct{ Name, Value string }

// Key is equal for equal settings and different for different ones.
func (b *Bucket) Key() string { return b.key }

// Learned returns what is known, or nil.
func (b *Bucket) Learned() *Learned { return b.learned.Load() }

// Learn keeps l for the bucket.
func (b *Bucket) Learn(l *Learned) { b.learned.Store(l) }

// Get returns the statement that sets name, "" when the bucket does not.
func (b *Bucket) Get(name string) string {
	for _, s := range b.Settings {
		if s.Name == name {
			return s.SQL
		}
	}
	return ""
}

// maxBuckets bounds the interned buckets of a pool: beyond it the table starts
// anew. A bucket that is no longer interned stays valid; comparing it costs a
// look at the key.
const maxBuckets = 4096

// buckets interns the Buckets of a pool.
type buckets struct {
	mu    sync.Mutex
	known map[string]*Bucket
	empty *Bucket

	messages sync.Map // of switchPair: []byte
	kept     atomic.Int32
}

func newBuckets() *buckets {
	e := &Bucket{plain: true}
	return &buckets{known: map[string]*Bucket{"": e}, empty: e}
}

// fleeting are the settings that end with their transaction, or are no state but an
// act, whatever the statement says: the server resets none of them (GUC_NO_RESET).
var fleeting = []string{"seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"}

// intern returns the Bucket for settings, which need not be sorted and which it
// keeps.
func (t *buckets) intern(settings []Setting) *Bucket {
	settings = slices.DeleteFunc(settings, func(s Setting) bool { return slices.Contains(fleeting, s.Name) })
	if len(settings) == 0 {
		return t.empty
	}
	slices.SortFunc(settings, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	var k strings.Builder
	for _, s := range settings {
		k.WriteString(s.SQL)
		k.WriteByte(0)
	}
	key := k.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.known[key]; b != nil {
		return b
	}
	if len(t.known) >= maxBuckets {
		t.known = map[string]*Bucket{"": t.empty}
	}
	b := &Bucket{Settings: settings, key: key}
	b.restless = b.Get("idle_session_timeout") != ""
	b.plain = !slices.ContainsFunc(settings, func(x Setting) bool { return !slices.Contains(plainSettings, x.Name) })
	t.known[key] = b
	return b
}

// plainSettings are those that anybody may set and that, with a value which the
// server has taken once, cannot fail, and that do not bear on the statements that
// set the others: they are set ahead of a statement without waiting.
var plainSettings = []string{
	"application_name", "bytea_output", "client_min_messages", "datestyle", "extra_float_digits",
	"intervalstyle", "search_path", "timezone",
}

// switchPair is from which settings to which.
type switchPair struct{ from, to *Bucket }

// maxMessages bounds the messages kept of a pool.
const maxMessages = 1 << 14

// SwitchMessage returns the Query message that turns a session with c's settings
// into one with to's, if that can be sent ahead of a statement without waiting for
// its outcome: each of the settings is a plain one that the server has taken before.
func (c *Conn) SwitchMessage(to *Bucket) ([]byte, bool) {
	from := c.Bucket
	if from == nil || !from.plain || !to.plain || to.Learned() == nil {
		return nil, false
	}
	t := c.pool.buckets
	pair := switchPair{from, to}
	if m, ok := t.messages.Load(pair); ok {
		return m.([]byte), true
	}
	m := wire.AppendQuery(nil, strings.Join(Switch(from, to), ";"))
	if t.kept.Add(1) > maxMessages {
		t.messages.Clear()
		t.kept.Store(0)
	}
	t.messages.Store(pair, m)
	return m, true
}

// Same says whether two buckets hold the same settings.
func Same(a, b *Bucket) bool { return a == b || a.key == b.key }

// Switch returns the statements that turn a session with from's settings into one
// with to's; none when they are the same. A role of the session's own may not set,
// or reset, what the pool's user may: it is put off first and on last.
func Switch(from, to *Bucket) []string {
	if Same(from, to) {
		return nil
	}
	var sql []string
	for _, name := range [...]string{"role", "session_authorization"} {
		if from.Get(name) != "" {
			sql = append(sql, "RESET "+name)
		}
	}
	i, j := 0, 0
	for i < len(from.Settings) || j < len(to.Settings) {
		switch {
		case i < len(from.Settings) && isRole(from.Settings[i].Name):
			i++
		case j < len(to.Settings) && isRole(to.Settings[j].Name):
			j++
		case j == len(to.Settings) || i < len(from.Settings) && from.Settings[i].Name < to.Settings[j].Name:
			sql = append(sql, "RESET "+quoteSetting(from.Settings[i].Name))
			i++
		case i == len(from.Settings) || from.Settings[i].Name > to.Settings[j].Name:
			sql = append(sql, to.Settings[j].SQL)
			j++
		default:
			if from.Settings[i].SQL != to.Settings[j].SQL {
				if to.Settings[j].Name == "datestyle" {
					sql = append(sql, "RESET datestyle") // what is set may be a part of it only
				}
				sql = append(sql, to.Settings[j].SQL)
			}
			i++
			j++
		}
	}
	for _, name := range [...]string{"session_authorization", "role"} {
		if set := to.Get(name); set != "" {
			sql = append(sql, set)
		}
	}
	return sql
}

func isRole(name string) bool { return name == "role" || name == "session_authorization" }

// quoteSetting quotes each part of a dotted setting's name.
func quoteSetting(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = catalog.Quote(p)
	}
	return strings.Join(parts, ".")
}

// SetStatement returns the statement that sets name to a value given as text, as
// a startup packet gives it.
func SetStatement(name, value string) string {
	switch name {
	case "application_name", "timezone", "client_min_messages", "bytea_output", "extra_float_digits", "intervalstyle":
		return "SET " + name + " TO " + catalog.Literal(value) // no list: the same, for less of the server's time
	}
	return "SELECT pg_catalog.set_config(" + catalog.Literal(name) + ", " + catalog.Literal(value) + ", false)"
}
