package gateway

import (
	"errors"
	"fmt"
	"time"

	"qvpgw/internal/catalog"
	"qvpgw/internal/metrics"
	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// indexProgress is how often a client is told how far its index is.
const indexProgress = time.Second

// buildIndex answers a call of qvp.create_vector_index by CREATE INDEX CONCURRENTLY,
// which no function can run, and tells the client in notices how far it is. An index
// that fails half-way is removed. False: the call itself is to run, as where the
// server cannot build concurrently.
func (s *session) buildIndex(g *group) (bool, error) {
	d, err := s.describe(g.sql, g.oids)
	if d == nil || err != nil || s.cv.tx != wire.Idle || d.params.Len() > 0 {
		return false, err
	}
	rows, err := s.own(g.plan.Index.Choose)
	if err != nil {
		return s.controlError(err)
	}
	if len(rows) != 1 || len(rows[0]) != 3 || rows[0][0] == nil || rows[0][1] == nil || rows[0][2] == nil {
		return false, nil
	}
	create, name := *rows[0][0], *rows[0][1]
	if err := s.notice("building " + name + " over " + *rows[0][2] + " rows"); err != nil {
		return false, err
	}
	built := make(chan error, 1)
	go func() {
		_, err := s.conn.Query(create, 0)
		built <- err
	}()
	err = s.awaitIndex(built)
	s.conn.Stream.SetDst(s.net)
	s.db.suspect()
	var se *pool.ServerError
	switch {
	case errors.As(err, &se) && se.Fields.Code == "0A000": // as of a hypertable
		return false, nil
	case errors.As(err, &se):
		if se.Fields.Code != "42P07" { // another's of that name stays
			if err := s.removeInvalid(name); err != nil {
				return s.controlError(err)
			}
		}
		return true, s.injectError(se.Fields)
	case err != nil:
		return false, s.serverGone(err)
	}
	s.routed(metrics.Local, router.ReasonIndexBuild, g)
	b := s.replyHead(g, d)
	b = wire.AppendDataRow(b, [][]byte{[]byte(name)})
	b = wire.AppendCommandComplete(b, "SELECT 1")
	if err := s.conn.Stream.Inject(b); err != nil {
		return true, s.serverError(err)
	}
	return true, s.injectReady(wire.Idle)
}

// own runs a statement of ours on the client's server connection.
func (s *session) own(sql string) ([][]*string, error) {
	rows, err := s.conn.Query(sql, 0)
	s.conn.Stream.SetDst(s.net)
	return rows, err
}

// awaitIndex waits for the end of the build. How far it is is asked on a connection that
// nobody needs; without one the client is told nothing.
func (s *session) awaitIndex(built <-chan error) error {
	progress := fmt.Sprintf("SELECT phase, coalesce(100 * blocks_done / nullif(blocks_total, 0), 100 * tuples_done / nullif(tuples_total, 0)) FROM pg_catalog.pg_stat_progress_create_index WHERE pid = %d", s.conn.PID)
	for t := time.NewTicker(indexProgress); ; {
		select {
		case err := <-built:
			t.Stop()
			return err
		case <-t.C:
		}
		_, _ = s.srv.Spare(s.database, s.user, indexProgress, func(query QueryFunc) error {
			rows, err := query(progress)
			if err != nil || len(rows) != 1 || rows[0][0] == nil {
				return err
			}
			text := *rows[0][0]
			if rows[0][1] != nil {
				text += ", " + *rows[0][1] + " %"
			}
			return s.notice(text) // a client that is gone is found when the index is there
		})
	}
}

// removeInvalid drops the index if it is there and invalid. Where others use the
// table for longer than a moment, the client is told that it is left.
func (s *session) removeInvalid(name string) error {
	rows, err := s.own("SELECT FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass(" + catalog.Literal(name) + ") AND NOT indisvalid")
	if err != nil || len(rows) == 0 {
		return err
	}
	_, err = s.own("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'; DROP INDEX " + name)
	var se *pool.ServerError
	if errors.As(err, &se) {
		return s.notice("the index " + name + " is left, and invalid: DROP INDEX " + name)
	}
	return err
}

// notice sends the client a notice at once.
func (s *session) notice(text string) error {
	b := wire.AppendNoticeResponse(nil, &wire.ErrorFields{Severity: "NOTICE", Code: "00000", Message: "qvpgw: " + text})
	if _, err := s.net.Write(b); err != nil {
		return errHungUp
	}
	return nil
}
