package pgtest

import (
	"compress/gzip"
	"io"
	"os"
	"strings"
	"testing"
)

// Bars are the lines, each with its newline and without the header, of the gzipped CSV
// file that QVPGW_BARS names: timestamp, symbol, open, high, low, close, volume. Without
// it there are none, and tests take data of their own.
func Bars(t testing.TB) []string {
	t.Helper()
	path := os.Getenv("QVPGW_BARS")
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")[1:]
}
