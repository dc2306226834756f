package gateway

// Unvalidated has cached answers given without a look at the database, for the
// test that must see stale ones then (trap T17).
func Unvalidated(s *Server) { s.trustCache = true }
