package demo

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestRowsAreWrittenAsCopyReadsThem(t *testing.T) {
	at := time.Date(2020, 4, 17, 20, 59, 58, 123_000, time.FixedZone("", 3600))
	got := string(line(nil, at, "SPY", 0.1, int64(-7), []float32{0.1, -2e-9}))
	if want := "2020-04-17 19:59:58.000123+00\tSPY\t0.1\t-7\t[0.1,-2e-09]\n"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestNumbersAndTimesForPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 46_800: "46,800", 1_234_567: "1,234,567", -1000: "-1,000"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		1234 * time.Microsecond: "1.23 ms", 45678 * time.Microsecond: "45.7 ms", 12345 * time.Millisecond: "12.3 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is written %q", d, got)
		}
	}
	if got := quote("it's"); got != "'it''s'" {
		t.Errorf("quoted as %s", got)
	}
}

func TestProgressIsALineAStepAndShowsEachTotalOnce(t *testing.T) {
	var out strings.Builder
	m := newMeter(&out)
	m.begin("bars", 2000)
	m.step(1000)
	m.step(2000)
	m.end("")
	m.begin("ticks", 0)
	m.end("already there")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "1,000 / 2,000     50 %") ||
		!strings.Contains(lines[1], "2,000 / 2,000    100 %") || !strings.Contains(lines[2], "already there") {
		t.Fatalf("%q", lines)
	}
}

func TestProgressOnATerminalStaysInItsLine(t *testing.T) {
	var out strings.Builder
	m := &meter{out: &out, terminal: true}
	m.begin("bars", 10)
	m.step(5)
	m.step(10)
	m.end("")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Count(got, "\r") != 4 {
		t.Fatalf("%q", got)
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/progress")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) {
		t.Fatal("a plain file is taken for a terminal")
	}
}
