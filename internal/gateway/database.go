package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
)

// database is one database behind the gateway: its catalog, its plans and a pool
// for each user.
type database struct {
	srv     *Server
	name    string
	catalog catalog.Holder

	listener listener
	router   *router.Router
	clients  int // under Server.mu
	figures  figures
	paused   atomic.Bool // see Server.Pause
	memory   memory
	disabled atomic.Bool // see Server.Disable
	stop     context.CancelFunc
	ctx      context.Context
	wake     chan struct{} // read the catalog now
	fresh    atomic.Bool   // the catalog is as new as the last call of stale

	suspected     atomic.Bool  // see suspect
	refusedAt     atomic.Int64 // see refused; nanoseconds since 1970
	sequencesRead atomic.Bool  // a client has asked for currval or lastval, or may have
	logins        atomic.Bool  // what a login runs or begins with may have changed since the catalog was read

	// mu protects what follows.
	mu      sync.Mutex
	limit   *pool.Limit // of its server connections
	pools   map[string]*pool.Pool
	reading bool            // the catalog's reader runs
	wanted  uint64          // reads of the catalog asked for
	have    uint64          // the newest that is done
	whole   uint64          // the newest of those asked for that is of everything
	touched catalog.Touched // what the others are of
	doubts  doubts          // what those that are not done are for
	loaded  chan struct{}   // closed and replaced when one is done
	texts   *simplelru.LRU[string, *description]
	proofs  *simplelru.LRU[proofKey, uint64] // ids of prepared statements, see prepareProof
}

// maxDescriptions bounds the descriptions of original statements kept.
const maxDescriptions = 1024

// database returns the named database, with its catalog reader running.
func (s *Server) database(name string) *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.databases[name]; d != nil {
		return d
	}
	d := &database{
		srv: s, name: name, limit: pool.NewLimit(0), pools: map[string]*pool.Pool{},
		wake: make(chan struct{}, 1), loaded: make(chan struct{}), memory: newMemory(&s.opt),
	}
	d.listener = listener{db: d, users: map[*session]struct{}{}, channels: map[string]*channel{}}
	d.paused.Store(s.paused.Load())
	d.texts, _ = simplelru.NewLRU[string, *description](maxDescriptions, nil)
	d.proofs, _ = simplelru.NewLRU[proofKey, uint64](maxProofs, nil)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.router = router.New(router.Options{Catalog: &d.catalog, Rules: s.live.Load().Rules, NoAggregates: s.opt.NoRoute, AlwaysRoute: s.opt.AlwaysRoute})
	s.databases[name] = d
	return d
}

// pool returns the pool of a user, making it on first use.
func (d *database) pool(user string) (*pool.Pool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.pools[user]; p != nil {
		return p, nil
	}
	opt, mode, err := d.poolOptions(user)
	if err != nil {
		return nil, err
	}
	p := pool.New(opt)
	d.pools[user] = p
	if d.paused.Load() {
		p.Pause()
	}
	d.readLocked(p, mode)
	return p, nil
}

// readLocked starts the catalog's reader unless it runs. In session mode nobody needs
// one, and its snapshots would hold back what VACUUM removes.
func (d *database) readLocked(p *pool.Pool, mode Mode) {
	if !d.reading && mode != Session {
		d.reading = true
		go d.read(p)
	}
}

func (d *database) close() {
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		p.Close()
	}
}

// retire has server connections closed as soon as nobody waits for them.
func (d *database) retire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		p.Retire()
	}
}

// read keeps the catalog: whole at once, whenever stale was called and from time
// to time; what changes often whenever refresh was called.
func (d *database) read(p *pool.Pool) {
	if d.srv.opt.NewLoader == nil {
		d.fresh.Store(true) // there is none to wait for
		return
	}
	load := d.srv.opt.NewLoader()
	query := func(sql string) ([][]*string, error) {
		// Idle clients may keep what this waits for: they are asked to lend it.
		asked := make(chan struct{})
		defer close(asked)
		go d.ask(asked)
		return p.Ask(sql, nil, readTimeout) // whatever the role's search_path says
	}
	every := d.srv.opt.CatalogEvery
	if every <= 0 {
		every = 5 * time.Second
	}
	t := time.NewTicker(every)
	defer t.Stop()
	whole, again := true, time.Time{} // again: when a suspicion may have it read whole
	for {
		if d.suspected.Load() && !time.Now().Before(again) {
			whole = true
		}
		began := time.Now()
		if whole {
			d.suspected.Store(false)
		}
		d.readOnce(load, query, whole)
		if whole {
			again = began.Add(suspectPause(time.Since(began)))
		}
		whole = false
		var due <-chan time.Time
		if d.suspected.Load() {
			due = time.After(time.Until(again))
		}
		select {
		case <-d.ctx.Done():
			return
		case <-due:
		case <-d.wake:
		case <-t.C:
			whole = true
		}
	}
}

// ask asks the clients that keep a connection for want of a catalog to lend it,
// until done is closed.
func (d *database) ask(done <-chan struct{}) {
	t := time.NewTicker(lendFor)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			d.certain()
		}
	}
}

// readTimeout bounds one query of the catalog reader.
const readTimeout = 30 * time.Second

// LoadFunc reads a database's catalog: whole without the last snapshot; with touched as
// far as DDL may have changed that since; else what changes often.
type LoadFunc = func(query QueryFunc, last *catalog.Snapshot, touched *catalog.Touched) (*catalog.Snapshot, error)

func (d *database) readOnce(load LoadFunc, query QueryFunc, whole bool) {
	d.mu.Lock()
	goal := d.wanted
	known := d.catalog.Load()
	last := known
	var touched *catalog.Touched
	switch {
	case whole || d.whole > d.have:
		last = nil
	case goal > d.have:
		t := d.touched
		touched = &t
	}
	d.touched = catalog.Touched{}
	d.mu.Unlock()
	snap, err := load(query, last, touched)
	if err != nil {
		if d.ctx.Err() == nil {
			d.srv.log.Warn("cannot read the catalog", "database", d.name, "error", err)
			d.srv.m.CatalogFailed()
		}
	} else {
		d.srv.m.CatalogRead()
		d.defaultsChanged(known, snap)
	}
	d.mu.Lock()
	if err != nil && goal > d.have {
		d.whole = goal
	}
	if err == nil {
		d.catalog.Store(snap)
		d.have = max(d.have, goal)
		d.doubts.read(snap, d.have)
		d.fresh.Store(d.have >= d.wanted)
		if d.have >= d.wanted {
			d.logins.Store(false)
		}
	}
	close(d.loaded)
	d.loaded = make(chan struct{})
	d.mu.Unlock()
	if err == nil {
		d.certain()
	}
}

// stale says that the catalog changed: it is read again, and until then the plans
// that the change has a say in are in doubt.
func (d *database) stale(c router.Change) {
	d.mu.Lock()
	d.wanted++
	d.doubts.add(c, d.wanted)
	if c.Any || c.Whole || len(d.touched.Names)+len(c.Touched.Names) > maxDoubtful {
		d.whole, d.touched = d.wanted, catalog.Touched{}
	} else {
		d.touched.Add(c.Touched)
	}
	d.fresh.Store(false)
	d.mu.Unlock()
	d.refresh()
}

// suspect says that the catalog may have changed: it is read again soon, at most
// once in a suspectPause for this reason, and nobody waits for it.
func (d *database) suspect() {
	d.suspected.Store(true)
	d.refresh()
}

// suspectPause is how long after the beginning of a whole reading, which took so long,
// the next one begins that nobody waits for: those that are waited for, of what DDL has
// touched, cannot be done meanwhile.
func suspectPause(took time.Duration) time.Duration {
	return min(max(time.Second, 10*took), 5*time.Second)
}

// refresh has the catalog read soon; nobody waits for it.
func (d *database) refresh() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// refusedPause is how long after a reading for a reply without rows the next one for
// that reason begins: such a reply may as well be the answer.
const refusedPause = 100 * time.Millisecond

// refused has the catalog read soon, since a proof inside a query may have failed.
func (d *database) refused() {
	now, last := time.Now().UnixNano(), d.refusedAt.Load()
	if now-last >= int64(refusedPause) && d.refusedAt.CompareAndSwap(last, now) {
		d.refresh()
	}
}

// certainOf says that no change of the catalog that is not read yet has a say in a
// plan of the newest snapshot.
func (d *database) certainOf(p *router.Plan) bool {
	if d.fresh.Load() {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fresh.Load() || d.catalog.Load() != nil && !d.doubts.about(p)
}

// wait waits until what is said of the catalog holds, at most timeout, or until
// poke is called and stop, if there is one, says so.
func (d *database) wait(timeout time.Duration, holds, stop func() bool) {
	var expired <-chan time.Time
	for {
		d.mu.Lock()
		loaded := d.loaded
		d.mu.Unlock()
		if holds() || stop != nil && stop() {
			return
		}
		if expired == nil {
			if timeout <= 0 {
				return
			}
			t := time.NewTimer(timeout)
			defer t.Stop()
			expired = t.C
		}
		select {
		case <-loaded:
		case <-expired:
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// poke has everybody in wait look again.
func (d *database) poke() {
	d.mu.Lock()
	close(d.loaded)
	d.loaded = make(chan struct{})
	d.mu.Unlock()
}

// described returns what is known of a statement's columns.
func (d *database) described(key string) (*description, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.texts.Get(key)
}

func (d *database) keepDescription(key string, x *description) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts.Add(key, x)
}
