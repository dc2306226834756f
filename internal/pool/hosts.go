package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Target is which of several hosts a connection may go to (libpq's
// target_session_attrs).
type Target string

// The targets, as libpq documents them.
const (
	Any           Target = "any"
	ReadWrite     Target = "read-write"
	ReadOnly      Target = "read-only"
	Primary       Target = "primary"
	Standby       Target = "standby"
	PreferStandby Target = "prefer-standby"
)

// Balance is the order in which hosts, and the addresses of one name, are tried.
type Balance string

// InOrder takes them as they are listed; the others spread connections.
const (
	InOrder    Balance = "disable"
	RoundRobin Balance = "round-robin"
	Random     Balance = "random"
)

// host is one server that a pool's connections may go to.
type host struct {
	config *pgconn.Config // of this host alone; immutable
	name   string         // host:port

	// What follows is under the pool's mu.
	failures int       // in a row
	until    time.Time // it is left alone
	unsuited bool      // when last looked at it was not what Target asks for
}

// ErrUnsuited is the failure of a host that does not fit Options.Target.
var ErrUnsuited = errors.New("the server is not what target_session_attrs asks for")

// splitHosts returns the hosts of a pgconn.Config, in its order: each with the
// attempts with and without TLS that sslmode makes of it.
func splitHosts(c *pgconn.Config) []*host {
	var hosts []*host
	add := func(name string, port uint16, f *pgconn.FallbackConfig) {
		full := net.JoinHostPort(name, strconv.Itoa(int(port)))
		if n := len(hosts); n > 0 && hosts[n-1].name == full {
			last := hosts[n-1].config
			last.Fallbacks = append(last.Fallbacks, f)
			return
		}
		one := c.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = f.Host, f.Port, f.TLSConfig, nil
		hosts = append(hosts, &host{config: one, name: full})
	}
	add(c.Host, c.Port, &pgconn.FallbackConfig{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig})
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port, f)
	}
	return hosts
}

// candidates are the hosts to try now, the most promising first: those whose role
// is not known to be wrong, in the order that Balance says. One that failed is left
// out until its time has come.
func (p *Pool) candidates() ([]*host, Options) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*host, 0, len(p.hosts))
	for i := range p.hosts {
		h := p.hosts[(i+p.turn)%len(p.hosts)]
		if !now.Before(h.until) {
			list = append(list, h)
		}
	}
	switch p.opt.Balance {
	case RoundRobin:
		p.turn++
	case Random:
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	if len(list) == 0 {
		list = append(list, p.hosts...)
	}
	slices.SortStableFunc(list, func(a, b *host) int {
		switch {
		case a.unsuited == b.unsuited:
			return 0
		case b.unsuited:
			return -1
		}
		return 1
	})
	return list, p.opt
}

// dial opens a server connection to the first host that takes it and is what
// Target asks for.
func (p *Pool) dial(params map[string]string) (*Conn, error) {
	hosts, opt := p.candidates()
	var failed []error
	var spare *Conn // a primary, where a standby is preferred
	for _, h := range hosts {
		c, err := p.dialHost(h, opt, params)
		if err != nil {
			failed = append(failed, err)
			if params == nil {
				p.hostFailed(h, err)
			}
			if p.ctx.Err() != nil {
				break
			}
			continue
		}
		preferred := opt.Target != PreferStandby || c.standby
		p.hostFine(h, !preferred)
		switch {
		case preferred:
			if spare != nil {
				_ = spare.Net.Close()
			}
			return c, nil
		case spare == nil:
			spare = c
		default:
			_ = c.Net.Close()
		}
	}
	if spare != nil {
		return spare, nil
	}
	return nil, errors.Join(failed...)
}

// leastBackoff bounds Options.Backoff: a client that waits for another connection
// to become free must not dial all the time.
const leastBackoff = 10 * time.Millisecond

// hostFailed leaves a host alone for a while: twice as long with each failure in a
// row, for the shortest time after one that merely has another role.
func (p *Pool) hostFailed(h *host, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.unsuited = errors.Is(err, ErrUnsuited)
	if h.unsuited {
		h.failures = 0
	} else {
		h.failures++
	}
	var pe *pgconn.PgError
	if h.failures == 1 && errors.As(err, &pe) && pe.Code == "57P01" {
		return // somebody ended the session while it logged in
	}
	pause := max(p.opt.Backoff, leastBackoff)
	for i := 1; i < h.failures && pause < p.opt.BackoffMax; i++ {
		pause *= 2
	}
	if p.opt.BackoffMax > 0 {
		pause = min(pause, max(p.opt.BackoffMax, p.opt.Backoff, leastBackoff))
	}
	h.until = time.Now().Add(pause)
}

// downLocked is the error of the last dial for who asks while nothing is open and
// no host may be tried, unless clients wait for that.
func (p *Pool) downLocked() error {
	if p.opt.WaitDown || p.open > 0 || p.dialErr == nil || !time.Now().Before(p.nextDialLocked()) {
		return nil
	}
	return p.dialErr
}

// waitsOut says whether a client whose dial failed waits for a connection of others or
// for a host to come back.
func (p *Pool) waitsOut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && (p.opt.WaitDown || p.open > 0)
}

func (p *Pool) hostFine(h *host, unsuited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.failures, h.until, h.unsuited = 0, time.Time{}, unsuited
}

// Retry has hosts that are left alone after failed logins tried again at once.
func (p *Pool) Retry() {
	p.mu.Lock()
	for _, h := range p.hosts {
		h.failures, h.until = 0, time.Time{}
	}
	p.mu.Unlock()
	p.wake()
}

// nextDialLocked is when a host may be tried: the past, unless all have failed.
func (p *Pool) nextDialLocked() time.Time {
	var first time.Time
	for i, h := range p.hosts {
		if i == 0 || h.until.Before(first) {
			first = h.until
		}
	}
	return first
}

// roleOf reads what a server is from what it reports of itself; one before version
// 14 is asked.
func roleOf(ctx context.Context, c *pgconn.PgConn) (standby, readOnly bool, err error) {
	recovering, restricted := c.ParameterStatus("in_hot_standby"), c.ParameterStatus("default_transaction_read_only")
	if recovering == "" || restricted == "" {
		results, err := c.Exec(ctx, "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE 'off' END, pg_catalog.current_setting('default_transaction_read_only')").ReadAll()
		if err != nil || len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
			return false, false, fmt.Errorf("cannot ask %s whether it is a standby: %w", c.Conn().RemoteAddr(), err)
		}
		recovering, restricted = string(results[0].Rows[0][0]), string(results[0].Rows[0][1])
	}
	standby = recovering == "on"
	return standby, standby || restricted == "on", nil
}

// suits says whether a server with that role is what t asks for, or at least does.
func (t Target) suits(standby, readOnly bool) bool {
	switch t {
	case ReadWrite:
		return !readOnly
	case ReadOnly:
		return readOnly
	case Primary:
		return !standby
	case Standby:
		return standby
	}
	return true
}

// validate has pgconn go on to a name's next address when this one's server has
// another role.
func (t Target) validate(ctx context.Context, c *pgconn.PgConn) error {
	standby, readOnly, err := roleOf(ctx, c)
	switch {
	case err != nil:
		return err
	case !t.suits(standby, readOnly):
		return fmt.Errorf("%w: %s is not %s", ErrUnsuited, c.Conn().RemoteAddr(), t)
	}
	return nil
}

// lookup is a LookupFunc that gives a name's addresses in the order of b.
func (b Balance) lookup(turn int, inner pgconn.LookupFunc) pgconn.LookupFunc {
	return func(ctx context.Context, name string) ([]string, error) {
		list, err := inner(ctx, name)
		switch n := len(list); {
		case err != nil || n < 2:
		case b == RoundRobin:
			list = slices.Concat(list[turn%n:], list[:turn%n])
		case b == Random:
			list = slices.Clone(list)
			rand.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		return list, err
	}
}

// Doubt notes that the server said it takes no writes: whether it still is what
// Target asks for is looked at before the connection is used again.
func (c *Conn) Doubt() { c.doubtful = true }

// demoted looks whether the server is still what Target asks for. If not, all
// connections to its host are retired, and it is tried last.
func (p *Pool) demoted(c *Conn) bool {
	p.mu.Lock()
	target := p.opt.Target
	p.mu.Unlock()
	c.doubtful = false
	if target == "" || target == Any || target == PreferStandby {
		return false
	}
	rows, err := c.Query("SELECT pg_catalog.pg_is_in_recovery()::text, (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only')", controlTimeout)
	if err != nil || len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] == nil || rows[0][1] == nil {
		return true
	}
	standby := *rows[0][0] == "true"
	if target.suits(standby, standby || *rows[0][1] == "on") {
		return false
	}
	p.mu.Lock()
	for _, h := range p.hosts {
		if h.name == c.host {
			h.unsuited = true
		}
	}
	gone := p.retireLocked(func(o *Conn) bool { return o.host == c.host })
	p.mu.Unlock()
	p.part(gone)
	return true
}

// Reconnect closes every connection as soon as it is free; new ones take their place.
func (p *Pool) Reconnect() {
	p.mu.Lock()
	p.renewals.Add(1)
	gone := p.retireLocked(func(*Conn) bool { return true })
	p.mu.Unlock()
	p.part(gone)
}

// retireLocked marks the connections that which says, and returns the idle ones of
// them, which the caller has to part with.
func (p *Pool) retireLocked(which func(*Conn) bool) (idle []*Conn) {
	for c := range p.all {
		if !c.retired && which(c) {
			c.retired = true
			if c.where >= 0 {
				idle = append(idle, p.removeIdleLocked(c.where))
			}
		}
	}
	return idle
}

// part closes connections that were taken out of the idle ones.
func (p *Pool) part(gone []*Conn) {
	for _, c := range gone {
		c.goodbye()
		p.Discard(c)
	}
}

// resolve looks the hosts' names up again and retires the connections to addresses
// that have gone. A name that cannot be looked up at the moment changes nothing.
func (p *Pool) resolve() {
	p.mu.Lock()
	hosts := slices.Clone(p.hosts)
	p.mu.Unlock()
	for _, h := range hosts {
		if h.config.Host == "" || h.config.Host[0] == '/' || net.ParseIP(h.config.Host) != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(p.ctx, controlTimeout)
		list, err := h.config.LookupFunc(ctx, h.config.Host)
		cancel()
		if err != nil || len(list) == 0 {
			continue
		}
		there := map[string]bool{}
		for _, a := range list {
			if ip, _, err := net.SplitHostPort(a); err == nil {
				a = ip
			}
			there[a] = true
		}
		p.mu.Lock()
		gone := p.retireLocked(func(c *Conn) bool { return c.host == h.name && c.address != "" && !there[c.address] })
		p.mu.Unlock()
		p.part(gone)
	}
	p.mu.Lock()
	p.resolving = false
	p.mu.Unlock()
}
