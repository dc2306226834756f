// Package auth decides who may come in, and by what proof: the table of rules
// (Table, in the words of pg_hba.conf), the maps from certificates to users
// (Maps), the users' secrets, listed or looked up (Secret, Lookup), the keys that
// a client's proof leaves for the login to the server (Keys), the certificates
// shown to clients (Certificates), and all of them together (Guard).
//
// It must never read from or write to a client, nor know what a session is: the
// gateway holds the conversation and asks here. It imports the wire package alone,
// for what a verifier and a key are.
//
// What an unknown client can cost is bounded here as far as it is work: deriving
// keys from passwords and asking the server for a user's secret each run a few at
// a time, turn by turn for each address (fair), and their results are kept for a
// bounded time and number.
package auth
