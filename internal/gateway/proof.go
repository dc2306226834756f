package gateway

import (
	"encoding/binary"
	"errors"
	"strconv"

	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// The proof of a rewritten statement is the same text for all statements of a shape,
// and the server would take longer to plan it than to run it: it is prepared, as the
// statements that clients share are.

// proofKey is a proof's text and the settings under which it is read.
type proofKey struct{ bucket, text string }

// maxProofs bounds the proofs whose names are kept.
const maxProofs = 1024

// proofID returns the id of the prepared statement for a proof.
func (d *database) proofID(k proofKey) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.proofs.Get(k)
	if !ok {
		id = nextStatement.Add(1)
		d.proofs.Add(k, id)
	}
	return id
}

// prepareProof has the proof prepared on the server connection and returns its id;
// 0 when the server did not take it, 1 never being one.
func (s *session) prepareProof(rw *router.AggregateRewrite) (uint64, error) {
	id := s.db.proofID(proofKey{s.bucket.Key(), rw.Proof})
	if s.conn.Has(id) {
		return id, nil
	}
	b := s.scratch[:0]
	if evict, ok := s.conn.Prepared(id); ok {
		b = wire.AppendClose(b, 'S', statementName(evict))
	}
	b = wire.AppendParse(b, statementName(id), rw.Proof, nil)
	b = wire.AppendSync(b)
	s.scratch = b[:0]
	if err := s.asks(b); err != nil {
		return 0, s.clientError(err)
	}
	_, err := s.conn.Collect()
	var se *pool.ServerError
	s.asking = err != nil && !errors.As(err, &se)
	if se != nil {
		s.noteInterrupt(se.Fields)
		s.conn.Forget(id)
		return 0, nil
	}
	if err != nil {
		return 0, s.serverError(err)
	}
	return id, nil
}

// statementName is the name of a prepared statement on the server.
func statementName(id uint64) string { return serverPrefix + strconv.FormatUint(id, 10) }

// appendProof appends the messages that ask a prepared proof, but no Sync.
func appendProof(b []byte, id uint64, args []string) []byte {
	size := 6 + 4*len(args)
	for _, a := range args {
		size += len(a)
	}
	b = wire.AppendBindHead(b, "", statementName(id), size)
	b = binary.BigEndian.AppendUint16(append(b, 0, 0), uint16(len(args)))
	for _, a := range args {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(a))), a...)
	}
	return wire.AppendExecute(append(b, 0, 0), "", 0)
}

type guardAnswer uint8

const (
	guardError guardAnswer = iota // it, or the lock, failed
	guardNo
	guardYes
)

// noSuchStatement is the SQLSTATE of a prepared statement that is gone, as after a
// DISCARD ALL inside of something that was not seen.
const noSuchStatement = "26000"
