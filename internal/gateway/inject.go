package gateway

import "qvpgw/internal/wire"

// injected is the name of statements and portals of our own.
const injected = "_qvpgw"

// inject runs a statement of our own before the client's next message; its reply
// is dropped.
func (s *session) inject(sql string) error { return s.injectFor(sql, reply{}) }

// injectFor is inject for a statement whose failure r tells of.
func (s *session) injectFor(sql string, r reply) error {
	r.mode = drop
	b := s.scratch[:0]
	if !s.cv.group {
		r.quiet = s.quiet
		b = wire.AppendQuery(b, sql)
		s.conn.Unnamed = 0
		r.msg = wire.Query
		s.cv.expect(r)
	} else {
		b = wire.AppendParse(b, injected, sql, nil)
		b = wire.AppendBind(b, injected, injected, nil, nil, nil)
		b = wire.AppendExecute(b, injected, 0)
		b = wire.AppendClose(b, 'S', injected)
		b = wire.AppendClose(b, 'P', injected)
		for _, msg := range [...]byte{wire.Parse, wire.Bind, wire.Execute, wire.Close, wire.Close} {
			x := reply{msg: msg, mode: drop}
			if msg == wire.Parse || msg == wire.Execute {
				x.stmt, x.name, x.placed = r.stmt, r.name, r.placed
			}
			s.cv.expect(x)
		}
	}
	s.scratch = b[:0]
	if err := s.client.Inject(b); err != nil {
		return s.clientError(err)
	}
	return nil
}

// injectAll injects statements as parts of the extended group that follows.
func (s *session) injectAll(list []string) error {
	s.cv.group = s.cv.group || len(list) > 0
	return s.injectEach(list)
}

// injectEach injects statements at this point of the conversation.
func (s *session) injectEach(list []string) error {
	for _, sql := range list {
		if err := s.inject(sql); err != nil {
			return err
		}
	}
	return nil
}
