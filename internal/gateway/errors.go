package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/pool"
	"qvpgw/internal/router"
	"qvpgw/internal/wire"
)

// Error is what a client is told: an SQLSTATE, a message and what to do.
type Error struct {
	Code    string
	Message string
	Detail  string
	Hint    string
	File    string // of the server's source, and Routine, where drivers go by them
	Routine string
	Fatal   bool // the connection ends with it
	Err     error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s (SQLSTATE %s): %v", e.Message, e.Code, e.Err)
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
}

func (e *Error) Unwrap() error { return e.Err }

func fatal(code, message, hint string) *Error {
	return &Error{Code: code, Message: message, Hint: hint, Fatal: true}
}

// fields is the ErrorResponse.
func (e *Error) fields() *wire.ErrorFields {
	severity := "ERROR"
	if e.Fatal {
		severity = "FATAL"
	}
	f := &wire.ErrorFields{
		Severity: severity, SeverityV: severity, Code: e.Code,
		Message: e.Message, Detail: e.Detail, Hint: e.Hint, File: e.File, Routine: e.Routine,
	}
	var pe *pgconn.PgError
	if errors.As(e.Err, &pe) && pe.Message == e.Message { // the server's own word
		f.Where, f.File, f.Line, f.Routine = pe.Where, pe.File, strconv.Itoa(int(pe.Line)), pe.Routine
	}
	return f
}

var (
	errHungUp = errors.New("the client hung up")
	errBye    = errors.New("the client said goodbye")
	errDrain  = fatal("57P01", "terminating connection because the gateway is shutting down", "Connect again.")
)

// violation is a client that does not keep to the protocol.
func violation(format string, args ...any) *Error {
	return fatal("08P01", fmt.Sprintf(format, args...), "")
}

// serverLost is the end of a server connection in the middle of a turn.
func serverLost(err error) *Error {
	return &Error{
		Code: "08006", Message: "the server connection was lost in the middle of a statement",
		Detail: "Whether the statement took effect is not known.", Hint: "Connect again.", Fatal: true, Err: err,
	}
}

// noServer turns a failure to get a server connection into what the client is
// told.
func noServer(err error) *Error {
	var pe *pgconn.PgError
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, pool.ErrTimeout):
		return &Error{
			Code: "53300", Message: "no server connection became free in time", Detail: lastDial(err), Err: err,
			Hint: "Raise pool.size or pool.query_wait_timeout, or look at SHOW CLIENTS for who is pinned.",
		}
	case errors.Is(err, pool.ErrUnsuited):
		return &Error{
			Code: "08001", Message: "no server is what target_session_attrs asks for", Detail: reason(err),
			Hint: "Look which of backend.host is the primary, or change backend.target_session_attrs.", Err: err,
		}
	case errors.Is(err, pool.ErrClosed):
		return errDrain
	case errors.Is(err, errCancelled):
		// In the server's words: that it waited is not the client's to know.
		return &Error{
			Code: "57014", Message: "canceling statement due to user request",
			File: "postgres.c", Routine: "ProcessInterrupts", Err: err,
		}
	case errors.Is(err, errHungUp):
		return &Error{Code: "08006", Message: err.Error(), Fatal: true, Err: err}
	case errors.Is(err, pool.ErrNoPassword):
		return &Error{Code: "28000", Message: "cannot log in to the server", Detail: reason(err), Err: err}
	case errors.As(err, &pe) && strings.HasPrefix(pe.Code, "28"):
		// The client has shown who it is: that the server does not let it in is
		// the gateway's configuration.
		return &Error{
			Code: pe.Code, Message: "cannot connect to the server: " + pe.Message, Detail: pe.Detail,
			Hint: pe.Hint, Err: err,
		}
	case errors.As(err, &pe):
		return &Error{Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Hint: pe.Hint, Err: err}
	}
	return &Error{
		Code: "08001", Message: "cannot connect to the server", Detail: reason(err),
		Hint: "Look whether the server runs and backend.host and backend.port are right.", Err: err,
	}
}

// lastDial is what ErrTimeout says beyond itself.
func lastDial(err error) string {
	_, why, _ := strings.Cut(err.Error(), "; ")
	return why
}

// reason is the innermost text of a dial error, without the password-free but
// noisy connection string of pgconn.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Error()
	}
	return err.Error()
}

// gone says whether err is the ordinary end of a peer.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, errBye) || errors.Is(err, errHungUp)
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// refuse answers one message with an error, the way the server would.
func (s *session) refuse(e *Error, query bool) error {
	b := wire.AppendErrorResponse(nil, e.fields())
	if e.Fatal {
		return e
	}
	s.srv.m.Error(e.Code)
	if query {
		b = wire.AppendReadyForQuery(b, s.cv.tx)
		s.cv.expect(reply{msg: wire.Query, mode: fake, bytes: b})
		return nil
	}
	s.undone = s.undone || s.conn == nil && s.chans != nil
	if s.conn != nil {
		// The server must fail this group too: it gets a statement that cannot
		// be parsed, and its error is exchanged for ours.
		p := wire.AppendParse(s.scratch[:0], injected, "refused by qvpgw", nil)
		s.scratch = p[:0]
		s.cv.expect(reply{msg: wire.Parse, mode: instead, bytes: b})
		if err := s.client.Inject(p); err != nil {
			return s.clientError(err)
		}
		return nil
	}
	s.cv.expect(reply{msg: wire.Parse, mode: fake, bytes: b})
	s.cv.skip = true
	return nil
}

// answer is refuse for any error.
func (s *session) answer(err error, query bool) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return s.refuse(e, query)
	}
	return err
}

func refusal(r *router.Refusal) *Error {
	if r == cancelledPlan.Refusal {
		return noServer(errCancelled)
	}
	return &Error{Code: r.SQLState, Message: r.Message, Detail: r.Detail, Hint: r.Hint}
}
