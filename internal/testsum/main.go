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
