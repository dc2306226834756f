package gateway

import (
	"qvpgw/internal/catalog"
	"qvpgw/internal/pool"
)

// unborn is the era of a session that has not begun.
const unborn = ^uint32(0)

// defaultsChanged has the server connections of those users replaced whose new
// sessions begin otherwise than they did when last was read.
func (d *database) defaultsChanged(last, snap *catalog.Snapshot) {
	if last == nil || snap == nil || last.Defaults == snap.Defaults {
		return
	}
	d.mu.Lock()
	pools := make(map[string]*pool.Pool, len(d.pools))
	for user, p := range d.pools {
		pools[user] = p
	}
	d.mu.Unlock()
	for user, p := range pools {
		former, changed := snap.Defaults.Changed(last.Defaults, user)
		if !changed {
			continue
		}
		settings := make([]pool.Setting, len(former))
		for i, f := range former {
			settings[i] = pool.Setting{Name: f.Name, SQL: pool.SetStatement(f.Name, f.Value)}
		}
		p.ChangeDefaults(settings)
		d.suspect() // what the reader's own session hid may show in a new one
	}
}

// keepDefaults has the session keep, on a connection with other defaults than those
// that it began with, what it began with.
func (s *session) keepDefaults(era uint32) {
	if s.era == unborn || s.era == era {
		s.era = era
		return
	}
	former := s.pool.Former(s.era, era)
	s.era = era
	base := s.base
	s.base = s.with(base, former)
	if pool.Same(s.bucket, base) {
		s.bucket = s.base
	} else {
		s.bucket = s.with(s.bucket, former)
	}
	s.noteIdle()
}

// with returns b with those of more that it does not set.
func (s *session) with(b *pool.Bucket, more []pool.Setting) *pool.Bucket {
	settings := append([]pool.Setting(nil), b.Settings...)
	for _, x := range more {
		if b.Get(x.Name) == "" {
			settings = append(settings, x)
		}
	}
	if len(settings) == len(b.Settings) {
		return b
	}
	return s.pool.Intern(settings)
}

// learned is what is known of the session's settings under the defaults of its
// connections, or nil.
func (s *session) learned() *pool.Learned {
	if l := s.bucket.Learned(); l != nil && l.Era == s.era {
		return l
	}
	return nil
}

// attachFirst attaches a session that begins, and learns what its settings mean: never on a
// connection whose defaults new sessions have no more. own: one that nobody has had,
// with params.
func (s *session) attachFirst(own bool, params map[string]string) error {
	for attempt := 0; ; attempt++ {
		s.renew = own
		if err := s.attachWith(params); err != nil {
			return err
		}
		err := s.learn()
		switch {
		case err != nil && s.conn == nil && attempt < 3: // as by its own idle_session_timeout: nothing of the client's was sent
		case err != nil || s.conn == nil || s.era == s.pool.Era():
			return err
		default:
			s.detach()
		}
		s.era = unborn
	}
}
