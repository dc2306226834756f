package knn

import (
	"slices"
	"sync"
	"time"
)

// Kind is what a change did, as qvpgw.changes has it.
type Kind byte

// The kinds.
const (
	Inserted Kind = '+'
	Removed  Kind = '-'
	AnyRow   Kind = 'x'
)

// Change is a row of the change log. It is immutable.
type Change struct {
	XID    uint64
	Table  uint32
	Kind   Kind
	Key    string
	Vector []float32
}

func (c *Change) size() int64 { return 64 + int64(len(c.Key)) + 4*int64(len(c.Vector)) }

// Facts are what a table is like.
type Facts struct {
	Logged     bool   // each of its changes is in the change log
	Exact      bool   // it has no index that could answer approximately, and no child
	Vector     string // its column with vectors that are logged, "" without
	VectorType string // its type's name
	Key        string // the column by which the log names rows, "" without
	KeyType    uint32
}

// Table is what a round says of one table.
type Table struct {
	OID         uint32
	Fingerprint string // of the definitions and rights that its rows are read by
	Facts       Facts
}

// Question is what a round asks.
type Question struct {
	Since  string   // the snapshot of the round before; "": there is none
	Tables []uint32 // to look at
	All    bool     // tables are asked for that no round has read yet
}

// Reading is a round's answer.
type Reading struct {
	Sent     time.Time // before its statement was sent
	Snapshot Snapshot
	Recovery bool    // a standby, where nothing is proven (trap T6)
	Server   string  // of which run of which server and which database, as the expression Server gives it
	Loaded   float64 // when the process that ran it read the files of settings, in seconds of Unix time
	Horizon  uint64  // rows of the change log with a lower xid may be gone; 0: none are
	Tables   []Table
	Changes  []Change
	Cut      bool // there were more
	Settings bool // the server's settings changed, and with them how values are written
}

// Log is what is known of the changes of one database.
type Log struct {
	// mu protects what follows.
	mu     sync.RWMutex
	epoch  uint64 // what was marked under another one cannot be judged
	ready  bool   // a round has been read in this epoch
	server string
	loaded float64 // the newest Reading.Loaded
	now    Snapshot
	sent   time.Time
	tables map[uint32]*table
	bytes  int64
	budget int64
	coarse bool
}

type table struct {
	Facts
	known bool
	print string
	gen   uint64 // counts definitions
	first uint64 // the sequence number of ring[0]
	ring  []Change
	bytes int64
}

// NewLog returns a Log that keeps changes of at most budget bytes. coarse: a change of a
// table ends all answers from it, for comparison.
func NewLog(budget int64, coarse bool) *Log {
	return &Log{tables: map[uint32]*table{}, budget: budget, coarse: coarse}
}

// maxTables bounds the tables that rounds look at.
const maxTables = 256

// Register has rounds look at tables from now on. Where there are too many, some of them
// gone perhaps, it begins anew.
func (l *Log) Register(oids []uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, oid := range oids {
		if l.tables[oid] == nil {
			if len(l.tables) >= maxTables {
				l.breakLocked()
				clear(l.tables)
			}
			l.tables[oid] = &table{}
		}
	}
}

// Ask returns the next round's question.
func (l *Log) Ask() Question {
	l.mu.RLock()
	defer l.mu.RUnlock()
	q := Question{Tables: make([]uint32, 0, len(l.tables)), All: !l.ready}
	if l.ready {
		q.Since = l.now.Text
	}
	for oid, t := range l.tables {
		q.Tables = append(q.Tables, oid)
		q.All = q.All || !t.known
	}
	slices.Sort(q.Tables)
	return q
}

// Apply takes note of a round.
func (l *Log) Apply(q Question, r *Reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Recovery || r.Settings || l.ready && (r.Server != l.server || r.Loaded > l.loaded) {
		l.breakLocked()
		if r.Recovery {
			return
		}
		q.Since = ""
	}
	if !l.ready {
		l.epoch++
		l.ready, l.server, l.loaded = true, r.Server, r.Loaded
		for _, t := range l.tables {
			t.forgetLocked(l)
		}
	} else if r.Cut || r.Horizon > l.now.xmin {
		// What came between is not known whole.
		for _, t := range l.tables {
			t.forgetLocked(l)
		}
	}
	l.now, l.sent = r.Snapshot, r.Sent
	for i := range r.Tables {
		x := &r.Tables[i]
		t := l.tables[x.OID]
		if t == nil {
			continue
		}
		if !t.known || t.print != x.Fingerprint {
			t.gen++
		}
		t.known, t.print, t.Facts = true, x.Fingerprint, x.Facts
	}
	if q.Since == "" {
		return
	}
	for i := range r.Changes {
		c := &r.Changes[i]
		if t := l.tables[c.Table]; t != nil {
			t.ring = append(t.ring, *c)
			t.bytes += c.size()
			l.bytes += c.size()
		}
	}
	for l.bytes > l.budget {
		l.trimLocked()
	}
}

// breakLocked has nothing from before be judged any more.
func (l *Log) breakLocked() {
	l.epoch++
	l.ready = false
	for _, t := range l.tables {
		t.forgetLocked(l)
		t.known = false
	}
}

// forgetLocked drops the changes and leaves a gap, which no answer from before gets over.
func (t *table) forgetLocked(l *Log) {
	t.first += uint64(len(t.ring)) + 1
	t.ring = nil
	l.bytes -= t.bytes
	t.bytes = 0
}

// trimLocked drops the older half of the changes of the table that has most of them.
func (l *Log) trimLocked() {
	var most *table
	for _, t := range l.tables {
		if most == nil || t.bytes > most.bytes {
			most = t
		}
	}
	n := (len(most.ring) + 1) / 2
	for i := range n {
		most.bytes -= most.ring[i].size()
		l.bytes -= most.ring[i].size()
	}
	most.first += uint64(n)
	most.ring = slices.Clone(most.ring[n:])
}

// Mark notes the state before a query over tables is sent; false: a round has to read
// them first.
func (l *Log) Mark(oids []uint32) (Mark, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.ready {
		return Mark{}, false
	}
	m := Mark{epoch: l.epoch, server: l.server, logged: true, tables: make([]marked, len(oids))}
	for i, oid := range oids {
		t := l.tables[oid]
		if t == nil || !t.known {
			return Mark{}, false
		}
		m.logged = m.logged && t.Logged
		m.tables[i] = marked{oid, t.gen, t.first + uint64(len(t.ring))}
	}
	return m, true
}

// Facts returns what the last round said of a table.
func (l *Log) Facts(oid uint32) (Facts, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.tables[oid]; t != nil && t.known {
		return t.Facts, true
	}
	return Facts{}, false
}

// Sent is when the statement of the newest round was sent; zero: there is none.
func (l *Log) Sent() time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.ready {
		return time.Time{}
	}
	return l.sent
}

// Judge says whether an answer was the database's in the snapshot of the newest round,
// or, where its query began later than that round, then.
func (l *Log) Judge(p *Proof) Verdict {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case !l.ready:
		return Unreadable
	case p.mark.epoch != l.epoch:
		return Restarted
	case p.Snapshot.Text == l.now.Text, p.Began.After(l.sent):
		return Valid
	case !p.mark.logged:
		return Changed
	}
	for i := range p.mark.tables {
		m := &p.mark.tables[i]
		t := l.tables[m.oid]
		end := t.first + uint64(len(t.ring))
		if t.gen != m.gen {
			return Defined
		}
		seen := p.seen[i].Load()
		if seen >= end {
			continue
		}
		if seen < t.first {
			return Forgotten
		}
		if l.coarse {
			return Unknown
		}
		for j := seen - t.first; j < uint64(len(t.ring)); j++ {
			if v := p.harms(m.oid, &t.ring[j]); v != Valid {
				return v
			}
		}
		p.seen[i].Store(end)
	}
	return Valid
}
