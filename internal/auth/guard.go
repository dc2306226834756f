package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"runtime"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"qvpgw/internal/wire"
)

// Guard is everything that decides about a login. It does not change once it is in
// use: another configuration is another Guard.
type Guard struct {
	Rules  Table
	Maps   Maps
	Users  map[string]Secret // listed users, asked first
	Lookup *Lookup           // the others; nil: there are none
	TLS    *Certificates     // nil: clients are not offered TLS
	// RequireTLS lets nobody in without TLS but over a Unix socket.
	RequireTLS bool

	once    sync.Once
	work    *fair  // deriving keys
	key     []byte // of the sums in proven
	mu      sync.Mutex
	proven  *simplelru.LRU[string, proven]
	derived int // how often keys were derived
}

// proven is the last password of a user that was found right.
type proven struct {
	sum  [sha256.Size]byte
	keys wire.ScramKeys
}

// maxProven bounds the users whose password is known to be right.
const maxProven = 10000

func (g *Guard) init() {
	g.once.Do(func() {
		// Half of the processors at most: the other half serves who is in.
		g.work = newFair(runtime.GOMAXPROCS(0) / 2)
		g.key = make([]byte, sha256.Size)
		rand.Read(g.key) // never fails
		g.proven, _ = simplelru.NewLRU[string, proven](maxProven, nil)
	})
}

// Secret returns what is known of a user's password. from is the client's address.
func (g *Guard) Secret(user, from string) (s Secret, known bool, err error) {
	if s, ok := g.Users[user]; ok {
		return s, true, nil
	}
	if g.Lookup == nil {
		return Secret{}, false, nil
	}
	return g.Lookup.Find(user, from)
}

// Doubt says that a proof did not fit the user's secret.
func (g *Guard) Doubt(user string) {
	if _, ok := g.Users[user]; !ok && g.Lookup != nil {
		g.Lookup.Doubt(user)
	}
}

// Check compares a password that came as it is with a secret. keys are what it
// gives for the verifier, if the secret has one; they are derived once for a
// password that stays right, and a few at a time.
func (g *Guard) Check(user string, s Secret, password, from string) (keys wire.ScramKeys, derived, ok bool) {
	if !s.scram {
		return wire.ScramKeys{}, false, s.md5 != "" && wire.SameSecret(wire.MD5Secret(user, password), s.md5)
	}
	g.init()
	sum := g.sum(user, s.verifier.Encode(), password)
	g.mu.Lock()
	p, found := g.proven.Get(user)
	g.mu.Unlock()
	if found && hmac.Equal(p.sum[:], sum[:]) {
		return p.keys, true, true
	}
	g.work.Do(from, func() {
		g.mu.Lock()
		g.derived++
		g.mu.Unlock()
		keys, ok, _ = s.verifier.Derive(password)
	})
	if ok {
		g.mu.Lock()
		g.proven.Add(user, proven{sum, keys})
		g.mu.Unlock()
	}
	return keys, ok, ok
}

// sum stands for a password that was right for a verifier.
func (g *Guard) sum(parts ...string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, g.key)
	for _, p := range parts {
		part := sha256.Sum256([]byte(p))
		h.Write(part[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// PermitCert says whether the certificate that a client showed, verified already,
// may log in as user by a rule.
func (g *Guard) PermitCert(r *Rule, cert *x509.Certificate, user string) bool {
	name := cert.Subject.CommonName
	if r.DN {
		name = cert.Subject.String()
	}
	return g.Maps.Permit(r.Map, name, user)
}
