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

import (
	"flag"
	"fmt"
	"os"

	"qvpgw/internal/figure"
)

func main() {
	verbose := flag.Bool("v", false, "print all output as it comes")
	flag.Parse()
	s := summary{out: os.Stdout, verbose: *verbose}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	figures, err := os.ReadFile(os.Getenv(figure.Env))
	if err == nil {
		for _, line := range figure.Newest(string(figures)) {
			fmt.Println(line)
		}
	}
	if !s.finish(os.Getenv("CI") == "true") {
		os.Exit(1)
	}
}
