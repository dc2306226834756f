package auth

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Bounds of a Lookup.
const (
	keepFor      = 10 * time.Second // an answer, found or not
	againAfter   = time.Second      // one that a proof did not fit
	maxKnown     = 10000            // users kept
	maxUnknown   = 1000             // names kept that are no users
	lookupsAtOne = 4                // questions to the server at one time
)

// Lookup asks the server for the secrets of users, and keeps the answers for ten
// seconds: so long may a changed password, a new role or the end of VALID UNTIL go
// unnoticed.
type Lookup struct {
	ask  func(user string) (stored string, known bool, err error)
	work *fair
	now  func() time.Time

	// mu protects what follows.
	mu      sync.Mutex
	known   *simplelru.LRU[string, answer]
	unknown *simplelru.LRU[string, time.Time] // apart, so that strangers' inventions push out no user
	asking  map[string]*question
}

type answer struct {
	secret Secret
	at     time.Time
}

type question struct {
	done   chan struct{}
	secret Secret
	known  bool
	err    error
}

// NewLookup returns a Lookup over ask, which returns what pg_authid.rolpassword has
// for a user that may log in now. It is called for a few users at a time, and once
// for all who ask for the same one meanwhile.
func NewLookup(ask func(user string) (stored string, known bool, err error)) *Lookup {
	l := &Lookup{ask: ask, work: newFair(lookupsAtOne), now: time.Now, asking: map[string]*question{}}
	l.known, _ = simplelru.NewLRU[string, answer](maxKnown, nil)
	l.unknown, _ = simplelru.NewLRU[string, time.Time](maxUnknown, nil)
	return l
}

// Find returns the secret of a user. from is the client's address, which waits for
// its turn among the others.
func (l *Lookup) Find(user, from string) (s Secret, known bool, err error) {
	l.mu.Lock()
	now := l.now()
	if a, ok := l.known.Get(user); ok && now.Sub(a.at) < keepFor {
		l.mu.Unlock()
		return a.secret, true, nil
	}
	if at, ok := l.unknown.Get(user); ok && now.Sub(at) < keepFor {
		l.mu.Unlock()
		return Secret{}, false, nil
	}
	q := l.asking[user]
	if q != nil {
		l.mu.Unlock()
		<-q.done
		return q.secret, q.known, q.err
	}
	q = &question{done: make(chan struct{})}
	l.asking[user] = q
	l.mu.Unlock()
	l.work.Do(from, func() { l.answer(q, user) })
	return q.secret, q.known, q.err
}

// answer asks the server and keeps what it says.
func (l *Lookup) answer(q *question, user string) {
	q.err = fmt.Errorf("cannot look up user %q: the question was not answered", user)
	defer func() {
		l.mu.Lock()
		delete(l.asking, user)
		if q.err == nil {
			l.known.Remove(user)
			l.unknown.Remove(user)
			if q.known {
				l.known.Add(user, answer{q.secret, l.now()})
			} else {
				l.unknown.Add(user, l.now())
			}
		}
		l.mu.Unlock()
		close(q.done)
	}()
	stored, known, err := l.ask(user)
	switch {
	case err != nil:
		q.err = fmt.Errorf("cannot look up user %q: %w", user, err)
	case known:
		q.secret, err = StoredSecret(stored)
		// A secret in a form that is not known admits nobody, as no secret does.
		q.known, q.err = err == nil, nil
	default:
		q.err = nil
	}
}

// Doubt says that a proof did not fit the secret kept for a user: perhaps the
// password was changed, so the next client has it looked up again.
func (l *Lookup) Doubt(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.known.Peek(user); ok && l.now().Sub(a.at) > againAfter {
		l.known.Remove(user)
	}
}
