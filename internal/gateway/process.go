package gateway

import (
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// needs has the next server connection be one that nobody had before when the plan
// depends on what its server process did and counted so far. What a session does to
// its process is not undone by DISCARD ALL. A connection that is kept for want of a
// catalog alone is kept until that is known, and then given back.
func (s *session) needs(plan *router.Plan) error {
	if plan.Pins&router.PinProcess == 0 {
		return nil
	}
	if s.conn != nil && s.between() && s.mode != Session {
		if router.Pins(s.pins.Load()) == router.PinCatalog {
			if err := s.lendWhile(catalogWait, s.unresolved); err != nil {
				return err
			}
			if err := s.check(); err != nil {
				return err
			}
		}
		if s.pins.Load() == 0 {
			s.detach()
		}
	}
	s.renew = s.renew || s.conn == nil
	return nil
}

// loginTriggers says whether logins to the database run code of a user: then each
// client has a login of its own. It waits for the catalog only when that may say
// something else than the one before, and for half of the time that a login has; if
// it is not known then, there may be some.
func (s *session) loginTriggers() bool {
	if s.db.catalog.Load() == nil || s.db.logins.Load() {
		limit := catalogWait
		if t := s.srv.live.Load().LoginTimeout; t > 0 {
			limit = min(limit, t/2)
		}
		s.db.wait(limit, s.db.fresh.Load, nil)
	}
	snap := s.db.catalog.Load()
	return s.db.logins.Load() || snap != nil && snap.LoginTriggers
}

// appendNotices appends what a server said while the gateway logged in for a client.
func appendNotices(b []byte, notices []*pgconn.Notice) []byte {
	for _, n := range notices {
		b = wire.AppendNoticeResponse(b, &wire.ErrorFields{
			Severity: n.Severity, SeverityV: n.SeverityUnlocalized, Code: n.Code, Message: n.Message,
			Detail: n.Detail, Hint: n.Hint, Position: int(n.Position), InternalPosition: int(n.InternalPosition),
			InternalQuery: n.InternalQuery, Where: n.Where, Schema: n.SchemaName, Table: n.TableName,
			Column: n.ColumnName, DataType: n.DataTypeName, Constraint: n.ConstraintName,
			File: n.File, Line: strconv.Itoa(int(n.Line)), Routine: n.Routine,
		})
	}
	return b
}
