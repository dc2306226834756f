package auth

import "slices"

// Method is how a client proves who it is.
type Method string

// The methods, in the words of pg_hba.conf; ScramPlus is ours.
const (
	Trust     Method = "trust"
	Reject    Method = "reject"
	Scram     Method = "scram-sha-256"      // with channel binding where the client wants it
	ScramPlus Method = "scram-sha-256-plus" // with channel binding, so over TLS alone
	MD5       Method = "md5"                // SCRAM for a user whose secret is a verifier
	Password  Method = "password"           // the password as it is
	Cert      Method = "cert"               // a client certificate
	OSUser    Method = "peer"               // the operating system says whose the client's process is
)

var methods = []Method{Trust, Reject, Scram, ScramPlus, MD5, Password, Cert, OSUser}

func (m Method) known() bool { return slices.Contains(methods, m) }
