package router

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestAMomentIsSpelledAndReadAsTheLibraryDoes(t *testing.T) {
	const layout = "2006-01-02 15:04:05.999999"
	r := rand.New(rand.NewPCG(7, 7))
	units := []int64{1, 10, 1000, 100_000, 1_000_000, 60_000_000, 86_400_000_000}
	for range 20_000 {
		n := units[r.IntN(len(units))]
		micros := (r.Int64N(400_000_000_000_000_000) - 100_000_000_000_000_000) / n * n
		want := time.UnixMicro(micros).UTC()
		if text := string(appendMoment(nil, micros, false)); text != want.Format(layout) {
			t.Fatalf("%d is spelled %q, by the library %q", micros, text, want.Format(layout))
		}
		if want.Year() < 1 || want.Year() > 9999 {
			continue
		}
		for _, layout := range []string{layout, "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
			text := want.Format(layout)
			library, err := time.Parse(layout, text)
			if got, offset, ok := parseTimestamp(text); err != nil || !ok || offset.known || got != library.UnixMicro() {
				t.Fatalf("%q is read as %d, %v, by the library as %v, %v", text, got, ok, library, err)
			}
		}
	}
	for _, s := range []string{
		"2024-02-30", "2024-13-01", "2024-00-01", "2024-01-00", "0000-01-01", "2024-1-01", "2024/01/01", "+024-01-01", "2023-02-29",
		"2024-01-01 24:00:00", "2024-01-01 10:60:00", "2024-01-01 10:00:60", "2024-01-01 1a:00:00", "2024-01-01x10:00:00", "2024-01-01 10-00-00",
	} {
		if micros, _, ok := parseTimestamp(s); ok {
			t.Errorf("%q is read as %d", s, micros)
		}
	}
}
