package auth

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"qvpgw/internal/wire"
)

// maxKeys bounds the users whose keys are kept.
const maxKeys = 10000

// Keys keeps, for each user, the keys that its last login proved: with them the
// gateway logs in to a server that has the same verifier (SCRAM pass-through). They
// are in memory alone.
type Keys struct {
	mu     sync.Mutex
	byUser *simplelru.LRU[string, wire.ScramKeys]
}

// NewKeys returns an empty Keys.
func NewKeys() *Keys {
	k := &Keys{}
	k.byUser, _ = simplelru.NewLRU[string, wire.ScramKeys](maxKeys, nil)
	return k
}

// Put keeps the keys of a user, and says whether they are others than before.
func (k *Keys) Put(user string, keys wire.ScramKeys) (others bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, ok := k.byUser.Get(user)
	k.byUser.Add(user, keys)
	return !ok || before != keys
}

// Get returns the keys of a user.
func (k *Keys) Get(user string) (wire.ScramKeys, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byUser.Get(user)
}
