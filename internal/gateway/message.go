package gateway

import "qvpgw/internal/wire"

// message is one message of the client: still in its Stream, or gathered from it.
type message struct {
	wire.Header
	mem []byte // the whole message when it was gathered
}

// body returns the message's body, at most limit bytes of it.
func (s *session) body(m *message, limit int) ([]byte, error) {
	if m.mem != nil {
		return m.mem[5:], nil
	}
	return s.client.Body(limit)
}

// prefix returns the first n bytes of the body, or all of a shorter one.
func (s *session) prefix(m *message, n int) ([]byte, error) {
	if m.mem != nil {
		return m.mem[5:min(len(m.mem), n+5)], nil
	}
	return s.client.Prefix(n)
}

// forward sends the message as it is.
func (s *session) forward(m *message) {
	if m.mem != nil {
		_ = s.client.Inject(m.mem) // an error comes again at the next flush
		return
	}
	s.client.Forward()
}

// leave does not send the message.
func (s *session) leave(m *message) {
	if m.mem == nil {
		s.client.Drop()
	}
}

// replace sends the message with its first n bytes exchanged for prefix.
func (s *session) replace(m *message, n int, prefix []byte) {
	if m.mem != nil {
		_ = s.client.Inject(prefix)
		_ = s.client.Inject(m.mem[n:])
		return
	}
	s.client.Replace(n, prefix)
}
