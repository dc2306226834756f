package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Level says how much a finding matters.
type Level string

// The levels of findings.
const (
	Note    Level = "note"    // worth knowing
	Warning Level = "warning" // works, but not as it could, or under an assumption
	Fault   Level = "fault"   // something that was asked for does not work
)

// Finding is something about the database that somebody should know.
type Finding struct {
	Level  Level    `json:"level"`
	Code   string   `json:"code"` // stable, as "aggregates-missing"; Kinds has all
	Text   string   `json:"text"`
	Off    string   `json:"turns_off,omitempty"` // what does not work for it
	Mend   []string `json:"mend,omitempty"`      // what mends it, in order: SQL with a semicolon, or a command of this program
	Advice string   `json:"advice,omitempty"`    // what people have to know or do besides
}

// Capability is something the gateway does, and whether it can here.
type Capability struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	Why  string `json:"why"`
}

// Report is what doctor found.
type Report struct {
	Server         string       `json:"server"` // "PostgreSQL 17.5"
	ServerVersion  int          `json:"server_version"`
	Timescale      string       `json:"timescaledb"` // "" without it
	Edition        string       `json:"edition"`     // "Community", "Apache", "" without TimescaleDB
	Vector         string       `json:"pgvector"`    // "" without it
	Database       string       `json:"database"`
	Role           string       `json:"role"`
	InRecovery     bool         `json:"in_recovery"`
	Prepared       int          `json:"prepared_transactions"`
	MaxConnections int          `json:"max_connections"`
	Migrations     Status       `json:"migrations"`
	Hypertables    int          `json:"hypertables"`
	Aggregates     int          `json:"aggregates"`
	Capabilities   []Capability `json:"capabilities"`
	Findings       []Finding    `json:"findings"`
}

// Healthy says that nothing that was asked for is broken.
func (r Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level == Fault })
}

// JSON is the report for programs.
func (r Report) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the report as JSON: %w", err)
	}
	return append(b, '\n'), nil
}

// Text is the report for people.
func (r Report) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("server", "%s", r.Server)
	if r.Timescale == "" {
		line("timescaledb", "missing")
	} else {
		line("timescaledb", "%s, %s edition", r.Timescale, r.Edition)
	}
	line("pgvector", "%s", orMissing(r.Vector))
	line("database", "%s as %s, %d hypertables, %d continuous aggregates", r.Database, r.Role, r.Hypertables, r.Aggregates)
	state := "current"
	switch {
	case r.Migrations.Dirty:
		state = "dirty"
	case !r.Migrations.Current():
		state = fmt.Sprintf("newest is %s", versionText(r.Migrations.Newest))
	}
	line("schema", "version %s, %s", versionText(r.Migrations.Version), state)
	line("recovery", "%s", map[bool]string{true: "a standby", false: "a primary"}[r.InRecovery])
	b.WriteByte('\n')
	for _, c := range r.Capabilities {
		line(c.Name, "%-4s %s", map[bool]string{true: "on", false: "OFF"}[c.On], c.Why)
	}
	if len(r.Findings) == 0 {
		b.WriteString("\nnothing stands in the way\n")
		return b.String()
	}
	b.WriteByte('\n')
	for _, f := range r.Findings {
		line(string(f.Level), "%s: %s", f.Code, f.Text)
		if f.Off != "" {
			line("", "turns off: %s", f.Off)
		}
		for _, m := range f.Mend {
			line("", "-> %s", m)
		}
		if f.Advice != "" {
			line("", "   %s", f.Advice)
		}
	}
	return b.String()
}

func orMissing(version string) string {
	if version == "" {
		return "missing"
	}
	return version
}
