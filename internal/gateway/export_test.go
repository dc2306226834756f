package gateway

// Unproven has answers from memory and from aggregates given without proof, for the
// tests that must see wrong ones then (trap T17).
func Unproven(s *Server) { s.unproven.Store(true) }

// Unchecked has the gateway not look what a transaction left behind.
func Unchecked(s *Server) { s.unchecked.Store(true) }
