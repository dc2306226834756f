package gateway

import (
	"encoding/binary"
	"errors"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// largeObjects are the oids of the functions that libpq calls by FunctionCall for its
// large objects, and nobody else calls any that way (pg_proc.dat of PostgreSQL 17,
// fe-lobj.c): lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_create,
// lo_tell, lo_unlink, lo_truncate, lo_lseek64, lo_tell64, lo_truncate64. What they
// open is closed with the transaction.
var largeObjects = map[uint32]bool{
	952: true, 953: true, 954: true, 955: true, 956: true, 957: true, 715: true,
	958: true, 964: true, 1004: true, 3170: true, 3171: true, 3172: true,
}

// onFunctionCall passes a function call; what another function does than those of large
// objects is not known.
func (s *session) onFunctionCall(m *message) error {
	if err := s.drain(); err != nil {
		return err
	}
	if s.cv.skip {
		s.leave(m) // its group has failed
		return nil
	}
	oid, err := s.prefix(m, 4)
	if err != nil && !errors.Is(err, wire.ErrBodyTooLarge) {
		return s.clientError(err)
	}
	known := len(oid) == 4 && largeObjects[binary.BigEndian.Uint32(oid)]
	if err := s.attach(); err != nil {
		s.leave(m)
		return s.answer(err, true)
	}
	if err := s.claim(); err != nil {
		return err
	}
	if !known {
		s.pin(router.PinFunction)
		s.kept |= router.PinFunction
		s.notifies = true
		if err := s.useSequences(true); err != nil {
			return err
		}
	}
	s.wrote = true
	s.cv.expect(reply{msg: wire.FunctionCall})
	s.forward(m)
	return nil
}
