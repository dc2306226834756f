// Testsum reads `go test -json` and prints what a person wants to see of it: a line
// for each package, the whole output of what failed, the figures that were taken
// down (package figure), and as its last line "N passed, N failed". With -v it
// prints all output as it comes.
//
//	go test -race -json ./... | go run ./internal/testsum
//
// It ends with status 1 when something failed, nothing ran, or, under CI=true, a
// test was skipped.
package main
