package pool

import (
	"slices"
	"time"
)

// Reload changes the pool's options while it is in use; Limits and Loops stay those of New.
// Nobody's connection is closed under them: one to a host, database or user that is
// not configured any more is closed when it is free.
func (p *Pool) Reload(opt Options) {
	opt = opt.complete()
	hosts := splitHosts(opt.Server)
	p.mu.Lock()
	old := p.opt
	opt.Limits, opt.Loops, opt.BrokenHandOver = old.Limits, old.Loops, old.BrokenHandOver
	another := old.Server == nil || old.Server.Database != opt.Server.Database ||
		old.Server.User != opt.Server.User || old.Target != opt.Target
	p.opt, p.hosts, p.resolved = opt, hosts, time.Time{}
	p.checkDelay.Store(int64(opt.CheckDelay))
	p.renewals.Add(1)
	gone := p.retireLocked(func(c *Conn) bool {
		return another || !slices.ContainsFunc(hosts, func(h *host) bool { return h.name == c.host })
	})
	p.mu.Unlock()
	p.part(gone)
	p.wake()
}
