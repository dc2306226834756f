package pool

// maxEras bounds the changes of the server's defaults that are remembered.
const maxEras = 1024

// eras are the changes of what new sessions of the server begin with.
type eras struct {
	now    uint32      // number of changes
	former [][]Setting // of the newest changes, the newest last: what sessions before it had
}

// Era is how often the defaults of new sessions have changed (ChangeDefaults).
func (p *Pool) Era() uint32 { return p.era.Load() }

// ChangeDefaults says that new sessions of the server begin otherwise than they did;
// former brings about, in such a one, what those before had. Connections that are open
// are closed when they are free.
func (p *Pool) ChangeDefaults(former []Setting) {
	p.mu.Lock()
	p.eras.now++
	p.eras.former = append(p.eras.former, former)
	if n := len(p.eras.former); n > maxEras {
		p.eras.former = append([][]Setting(nil), p.eras.former[n-maxEras:]...)
	}
	p.era.Store(p.eras.now)
	p.renewals.Add(1)
	gone := p.retireLocked(func(*Conn) bool { return true })
	p.mu.Unlock()
	p.part(gone)
}

// Former returns what a session that began in an era has to set on a connection of a
// later one, so that it has what it began with.
func (p *Pool) Former(began, now uint32) []Setting {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Setting
	named := map[string]bool{}
	first := p.eras.now - uint32(len(p.eras.former)) // era before the oldest change known
	for e := max(began, first); e < now && e < p.eras.now; e++ {
		for _, x := range p.eras.former[e-first] {
			if !named[x.Name] {
				named[x.Name] = true
				list = append(list, x)
			}
		}
	}
	return list
}
