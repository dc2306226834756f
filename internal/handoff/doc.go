// Package handoff lets listening sockets outlive a process, so that a restart
// refuses no connection (trap T15: SO_REUSEPORT loses those in the old queue).
//
// The process that was started first stays for as long as the gateway is to run:
// whoever started it (systemd, a container's runtime, a shell) has one process to
// signal and to wait for. Restart starts a successor as its child, with the
// listening sockets and one end of a control socket. When the successor says that
// it serves, the one before it is told to retire: it stops accepting, which
// leaves the sockets and their queues with the successor, and serves its clients
// to their end. If the successor fails, nothing has changed.
//
//	first process ── control socket ── successor 1 (retired)
//	             └── control socket ── successor 2 (serves)
//
// A cancel request reaches whichever process accepts it and is for a client of
// any. The generation is in the process ids that clients are told, so the request
// is passed over the control sockets to the process that has the client.
//
// Sockets may also come from systemd (LISTEN_FDS), and readiness is told to it
// (NOTIFY_SOCKET). The package knows nothing of what is served.
package handoff
