package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qvpgw/internal/wire"
)

// isConsole says whether a database is the console's virtual one.
func isConsole(database string) bool { return database == "qvpgw" || database == "pgbouncer" }

// beginConsole serves a client of the console until it ends: simple queries with
// rows of figures.
func (s *session) beginConsole() error {
	if s.srv.opt.Console == nil {
		return fatal("3D000", fmt.Sprintf("database %q does not exist", s.database), "")
	}
	if !slices.Contains(s.srv.live.Load().Admins, s.user) && !s.trusted {
		return fatal("42501", fmt.Sprintf("user %q may not use the console", s.user), "")
	}
	if err := s.srv.register(s); err != nil {
		return err
	}
	defer s.srv.unregister(s)
	_ = s.raw.SetDeadline(time.Time{})
	b := wire.AppendAuthenticationOk(nil)
	for _, p := range [][2]string{
		{"server_version", "17.0 (qvpgw " + s.srv.opt.Version + ")"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},
		{"TimeZone", "UTC"},
		{"standard_conforming_strings", "on"},
	} {
		b = wire.AppendParameterStatus(b, p[0], p[1])
	}
	b = wire.AppendBackendKeyData(b, s.pid, s.key)
	if _, err := s.net.Write(append(b, readyIdle...)); err != nil {
		return errBye
	}
	s.client.Reset(s.net, nil)
	for {
		h, err := s.client.Next()
		if err != nil {
			if timedOut(err) && s.srv.isDraining() {
				return errDrain
			}
			return errBye
		}
		switch h.Type {
		case wire.Terminate:
			return errBye
		case wire.Query:
			body, err := s.client.Body(s.srv.opt.MaxText)
			if err != nil {
				return violation("%v", err)
			}
			sql, err := wire.ParseQuery(body)
			if err != nil {
				return violation("%v", err)
			}
			b = s.consoleReply(b[:0], string(sql))
			s.client.Drop()
			if _, err := s.net.Write(b); err != nil {
				return errBye
			}
		default:
			return &Error{Code: "0A000", Message: "the console takes simple queries only", Hint: "With psycopg or pgx choose the simple query protocol.", Fatal: true}
		}
	}
}

// watchConsole ends a command that waits when its client hangs up or the gateway
// shuts down.
func (s *session) watchConsole(ctx context.Context, stop context.CancelFunc) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.srv.done:
			stop()
		case <-t.C:
			if peerClosed(s.raw) {
				stop()
			}
		}
	}
}

func (s *session) consoleReply(b []byte, sql string) []byte {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go s.watchConsole(ctx, stop)
	t, err := s.srv.opt.Console(ctx, sql)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: "42601", Message: err.Error()}
		}
		return append(wire.AppendErrorResponse(b, e.fields()), readyIdle...)
	}
	if len(t.Columns) > 0 {
		b = wire.AppendRowDescription(b, t.Columns)
	}
	for _, row := range t.Rows {
		b = wire.AppendTextRow(b, row...)
	}
	b = wire.AppendCommandComplete(b, t.Tag)
	return append(b, readyIdle...)
}
