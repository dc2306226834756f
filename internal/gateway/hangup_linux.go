package gateway

import "golang.org/x/sys/unix"

// pollHangUp asks for the peer's half-close, as PostgreSQL's
// client_connection_check_interval does.
const pollHangUp = unix.POLLRDHUP
