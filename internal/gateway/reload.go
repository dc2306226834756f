package gateway

import "maps"

// Reload has the server go on with other options; nobody is dropped. What it takes
// of opt: Guard, Backend, Policy, Mode, Pool, Rules, Admins, MaxClients, LoginTimeout,
// QueueTimeout, QueueNotify, CancelTimeout, IdleTimeout, IdleInTx and
// SlowReader. Modes hold for
// clients that log in from now on, all else for everybody; server connections to
// hosts that are not configured any more are closed when they are free.
func (s *Server) Reload(opt Options) {
	now := *s.live.Load()
	now.Backend, now.Policy, now.Mode, now.Pool, now.Rules, now.Admins = opt.Backend, opt.Policy, opt.Mode, opt.Pool, opt.Rules, opt.Admins
	now.Guard = opt.Guard
	now.MaxClients, now.LoginTimeout = opt.MaxClients, opt.LoginTimeout
	now.QueueTimeout, now.QueueNotify, now.CancelTimeout = opt.QueueTimeout, opt.QueueNotify, opt.CancelTimeout
	now.IdleTimeout, now.IdleInTx, now.SlowReader = opt.IdleTimeout, opt.IdleInTx, opt.SlowReader
	s.live.Store(&now)
	for _, d := range s.allDatabases() {
		d.router.SetRules(now.Rules)
		d.mu.Lock()
		pools := maps.Clone(d.pools)
		d.mu.Unlock()
		for user, p := range pools {
			o, mode, err := d.poolOptions(user)
			if err != nil {
				s.log.Warn("cannot change a pool's options: its clients stay, new ones are refused", "database", d.name, "user", user, "error", err)
				continue
			}
			p.Reload(o)
			d.mu.Lock()
			d.readLocked(p, mode)
			d.mu.Unlock()
		}
	}
}
