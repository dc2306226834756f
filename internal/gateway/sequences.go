package gateway

import (
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// useSequences has nothing but this client's own and newest values left on the
// connection before a statement that may read them (currval, lastval): another's, or
// an older one that it got on this connection before it went to another, must not
// answer. Before one that may call nextval, too, so that what is read next is there;
// but not outside of a transaction as long as nobody has ever read any in this
// database, so that clients who INSERT in turn need no more than their INSERTs.
func (s *session) useSequences(reads bool) error {
	c := s.conn
	if s.cv.tx == wire.FailedTx {
		if c.SequenceOwner != 0 && !s.ownSequences() {
			c.SequenceOwner = pool.SeveralOwners // it runs only behind the end of the transaction
		}
		return nil
	}
	asked := reads || s.db.sequencesRead.Load()
	if reads && !s.db.sequencesRead.Load() {
		s.db.sequencesRead.Store(true)
	}
	if c.SequenceOwner != 0 && !s.ownSequences() {
		if !asked && s.cv.tx == wire.Idle {
			c.SequenceOwner, s.sequences = pool.SeveralOwners, c
			return nil
		}
		if err := s.inject("DISCARD SEQUENCES"); err != nil {
			return err
		}
	}
	c.SequenceOwner, s.sequences = s.owner, c
	return nil
}

// ownSequences says whether the values that the connection has are the client's newest.
func (s *session) ownSequences() bool {
	return s.conn.SequenceOwner == s.owner && s.sequences == s.conn
}
