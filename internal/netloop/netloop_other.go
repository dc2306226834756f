//go:build !linux

package netloop

import (
	"context"
	"net"
)

// Loops is a set of event loops; there are none on this system.
type Loops struct{}

// New fails with ErrUnsupported.
func New(int) (*Loops, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Loops) Close() {}

// Listen returns l.
func (*Loops) Listen(l net.Listener) (net.Listener, error) { return l, nil }

// Dial is package net's.
func (*Loops) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// Conn stands for a connection of a loop; there are none on this system.
type Conn struct{ net.Conn }

// Watch does nothing.
func (*Conn) Watch(*Handler) {}

// SetBlocking does nothing.
func (*Conn) SetBlocking(bool) {}

// Pending is 0.
func (*Conn) Pending() int { return 0 }

// Flush does nothing.
func (*Conn) Flush() error { return nil }

// Stuck is false.
func (*Conn) Stuck() (int, bool) { return 0, false }

// PeerClosed is false.
func (*Conn) PeerClosed() bool { return false }

// Woke does nothing.
func (*Conn) Woke() {}

// Heard is true.
func (*Conn) Heard() bool { return true }

// Silent is false.
func (*Conn) Silent() bool { return false }

// Await does nothing.
func (*Conn) Await() {}

// Quiet is true.
func (*Conn) Quiet() bool { return true }
