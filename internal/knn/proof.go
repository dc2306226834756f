package knn

import (
	"sync/atomic"
	"time"
)

// Verdict is what became of a kept answer.
type Verdict uint8

// The verdicts; String is the metric label.
const (
	Valid      Verdict = iota // it is the database's answer
	Changed                   // something changed, and no change log says what
	Entered                   // a row was inserted that may be among the nearest
	Touched                   // a row of it was changed or deleted
	Unknown                   // any row may have changed: TRUNCATE, a large statement
	Defined                   // a definition or a right changed
	Forgotten                 // the changes since are not kept any more
	Restarted                 // another server, or the same one anew
	Unreadable                // no round could be had
	Verdicts
)

var verdictNames = [Verdicts]string{"valid", "changed", "entered", "touched", "unknown", "defined", "forgotten", "restarted", "unreadable"}

func (v Verdict) String() string { return verdictNames[v] }

// Area is the part of the vectors' space whose rows may be in an answer.
type Area interface {
	// MayEnter is false only if it is proven that a row with this vector, or without
	// one (nil), sorts behind the answer's last row.
	MayEnter(vector []float32) bool
}

// Proof is what an answer is judged by. It is immutable but for how far it was judged.
type Proof struct {
	// Snapshot was taken before the query was sent, on the same server; Began is a
	// time before that.
	Snapshot Snapshot
	Began    time.Time
	// Nearest is the table whose rows are ordered by distance. Inserts into it are
	// judged by Area, nil: any may enter.
	Nearest uint32
	Area    Area
	// Keys are the answer's rows of Nearest; All: these are all of them, so
	// that changes of others leave the answer alone.
	Keys Keys
	All  bool

	mark Mark
	seen []atomic.Uint64 // for each table of mark, the changes judged
}

// Mark is the state of a Log before a query is sent.
type Mark struct {
	epoch  uint64
	server string
	logged bool // all of the tables are
	tables []marked
}

type marked struct {
	oid uint32
	gen uint64
	seq uint64
}

// Prove returns p with the mark that was taken before the query was sent. server is what
// the server that ran it said of itself, as Reading.Server; false when it is not the one
// that the rounds ask.
func (p *Proof) Prove(m Mark, server string) bool {
	if server != m.server {
		return false
	}
	p.mark = m
	p.seen = make([]atomic.Uint64, len(m.tables))
	for i, t := range m.tables {
		p.seen[i].Store(t.seq)
	}
	return true
}

// Finish makes p ready to be judged: its Keys are there.
func (p *Proof) Finish() { p.Keys.finish() }

// Size is what the proof takes, in bytes, without Area.
func (p *Proof) Size() int64 {
	n := int64(len(p.Snapshot.Text)) + 8*int64(len(p.Snapshot.open)) + 56*int64(len(p.mark.tables)) + 224
	return n + p.Keys.size()
}

// harms says what a change of a table does to the answer.
func (p *Proof) harms(table uint32, c *Change) Verdict {
	if p.Snapshot.sees(c.XID) {
		return Valid
	}
	if table != p.Nearest {
		return Unknown
	}
	switch c.Kind {
	case Inserted:
		if p.Area == nil || p.Area.MayEnter(c.Vector) {
			return Entered
		}
		return Valid
	case Removed:
		if p.All {
			if !p.Keys.mayHave(c.Key) {
				return Valid
			}
		}
		return Touched
	}
	return Unknown
}
