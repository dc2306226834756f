package rules

import (
	"fmt"
	"strconv"
	"strings"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// Action is what is done about a statement that a rule matches.
type Action uint8

// The actions, in rising order.
const (
	Off Action = iota
	Warn
	Refuse
)

var actions = map[string]Action{"off": Off, "warn": Warn, "refuse": Refuse}

// String is the word in the configuration.
func (a Action) String() string {
	for s, x := range actions {
		if x == a {
			return s
		}
	}
	return "off"
}

// Facts is what rules know of a statement. A statement that contains others
// (WITH … DELETE, EXPLAIN ANALYZE DELETE, PREPARE) is judged by each of them.
type Facts struct {
	Kind  sqltext.Kind // Select, Update, Delete, Truncate, Copy, DDL
	Table catalog.Name // the target, or the only table a Select reads; zero without
	// Hypertable: Table is a hypertable.
	Hypertable bool
	Where      bool // a condition of any form stands on it
	Time       bool // the condition mentions the hypertable's time column
	Limit      bool // LIMIT or FETCH FIRST
	Aggregate  bool // grouped, aggregated or DISTINCT: the answer is small
	Drop       bool // DDL: Table is dropped
	Program    bool // Copy: FROM or TO PROGRAM
	Offset     int64
}

// Verdict is what a rule says about a statement.
type Verdict struct {
	Rule     string // the rule's name
	Action   Action // Warn or Refuse
	SQLState string // five characters
	Message  string
	Detail   string // the rule and its reason code
	Hint     string // what to write instead
}

// largeOffset is the OFFSET, in rows, from which the rule large_offset matches.
const largeOffset = 10_000

// insufficientPrivilege is the SQLSTATE of a refusal: the standard's class for an
// operation that the one who asks may not do (PostgreSQL, appendix A).
const insufficientPrivilege = "42501"

// rule is one rule; matches reports whether f breaks it.
type rule struct {
	name    string
	matches func(f *Facts) bool
	message func(f *Facts) string
	hint    string
}

// known are all rules, the order in which they are asked.
var known = []rule{
	{
		name:    "delete_without_where",
		matches: func(f *Facts) bool { return f.Kind == sqltext.Delete && !f.Where },
		message: func(f *Facts) string { return "DELETE on " + f.table() + " has no WHERE" },
		hint:    "Say which rows: DELETE FROM … WHERE …; WHERE true for all of them. Old data of a hypertable goes with drop_chunks().",
	},
	{
		name:    "update_without_where",
		matches: func(f *Facts) bool { return f.Kind == sqltext.Update && !f.Where },
		message: func(f *Facts) string { return "UPDATE of " + f.table() + " has no WHERE" },
		hint:    "Say which rows: UPDATE … SET … WHERE …; WHERE true for all of them.",
	},
	{
		name:    "truncate_hypertable",
		matches: func(f *Facts) bool { return f.Kind == sqltext.Truncate && f.Hypertable },
		message: func(f *Facts) string { return "TRUNCATE of the hypertable " + f.table() },
		hint:    "Remove a range of time with drop_chunks(), or connect to the database itself.",
	},
	{
		name:    "drop_hypertable",
		matches: func(f *Facts) bool { return f.Kind == sqltext.DDL && f.Drop && f.Hypertable },
		message: func(f *Facts) string { return "DROP of the hypertable " + f.table() },
		hint:    "Remove a range of time with drop_chunks(), or connect to the database itself.",
	},
	{
		name: "unbounded_scan",
		matches: func(f *Facts) bool {
			return f.Kind == sqltext.Select && f.Hypertable && !f.Time && !f.Limit && !f.Aggregate
		},
		message: func(f *Facts) string { return "SELECT of all raw rows of the hypertable " + f.table() },
		hint:    "Add a condition on the time column, a LIMIT, or aggregate with time_bucket().",
	},
	{
		name:    "copy_program",
		matches: func(f *Facts) bool { return f.Kind == sqltext.Copy && f.Program },
		message: func(*Facts) string { return "COPY runs a program on the server" },
		hint:    "Use COPY … FROM STDIN or TO STDOUT, in psql \\copy.",
	},
	{
		name:    "large_offset",
		matches: func(f *Facts) bool { return f.Kind == sqltext.Select && f.Offset >= largeOffset },
		message: func(f *Facts) string {
			return "OFFSET " + strconv.FormatInt(f.Offset, 10) + " reads that many rows to throw them away"
		},
		hint: "Go on from the last row seen: WHERE (time, id) < (…) ORDER BY time DESC, id DESC LIMIT n.",
	},
}

// table is the target's name as messages show it.
func (f *Facts) table() string {
	switch {
	case f.Table.Name == "":
		return "a table"
	case f.Table.Schema == "":
		return `"` + f.Table.Name + `"`
	}
	return `"` + f.Table.Schema + "." + f.Table.Name + `"`
}

// Names returns the names of all rules, in the order in which they are asked.
func Names() []string {
	names := make([]string, len(known))
	for i := range known {
		names[i] = known[i].name
	}
	return names
}

// Set says for each rule what is done about it. The nil Set has all rules off.
type Set struct {
	actions []Action // as known
	any     bool
}

// New makes a Set from rule name to action: off, warn or refuse. Rules that are
// not named are off. An unknown name or action is an error that lists the known
// ones.
func New(config map[string]string) (*Set, error) {
	s := &Set{actions: make([]Action, len(known))}
	left := len(config)
	for i := range known {
		word, ok := config[known[i].name]
		if !ok {
			continue
		}
		left--
		a, ok := actions[word]
		if !ok {
			return nil, fmt.Errorf("cannot set rule %s to %q: use off, warn or refuse", known[i].name, word)
		}
		s.actions[i] = a
		s.any = s.any || a != Off
	}
	if left == 0 {
		return s, nil
	}
	for name := range config {
		if !isKnown(name) {
			return nil, fmt.Errorf("cannot set rule %q: there is no such rule; the rules are %s", name, strings.Join(Names(), ", "))
		}
	}
	return s, nil
}

func isKnown(name string) bool {
	for i := range known {
		if known[i].name == name {
			return true
		}
	}
	return false
}

// Any reports whether some rule is on.
func (s *Set) Any() bool { return s != nil && s.any }

// Check holds a statement against the rules and returns the strictest verdict,
// the first among equals; false when no rule that is on matches.
func (s *Set) Check(f *Facts) (Verdict, bool) {
	if !s.Any() {
		return Verdict{}, false
	}
	best := -1
	for i := range known {
		if a := s.actions[i]; a == Off || best >= 0 && s.actions[best] >= a {
			continue
		}
		if known[i].matches(f) {
			best = i
		}
	}
	if best < 0 {
		return Verdict{}, false
	}
	r := &known[best]
	return Verdict{
		Rule:     r.name,
		Action:   s.actions[best],
		SQLState: insufficientPrivilege,
		Message:  r.message(f),
		Detail:   "Rule " + r.name + " (reason rule_" + r.name + ").",
		Hint:     r.hint,
	}, true
}
