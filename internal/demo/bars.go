package demo

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// Bar is one price bar. Prices are in US dollars (index points for SPX), the
// volume in shares.
type Bar struct {
	// Time is the start of the bar: the minute, or for a daily bar 00:00 UTC of
	// the session's date, so that every bucket of a day or more holds it.
	Time                   time.Time
	Open, High, Low, Close float64
	Volume                 int64
}

// consistent says whether the bar's low and high enclose its open and close.
func (b Bar) consistent() bool {
	return b.Low <= min(b.Open, b.Close) && max(b.Open, b.Close) <= b.High
}

// ReadBars reads daily bars from the CSV file at path; see ParseBars.
func ReadBars(path string) ([]Bar, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the demo's daily bars: %w", err)
	}
	defer f.Close()
	bars, err := ParseBars(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return bars, nil
}

// ParseBars reads daily bars from CSV with a header that names at least date
// (2006-01-02), open, high, low, close and volume, in any order; further columns
// are ignored. The bars must be consistent, of positive volume and ascending by
// date.
func ParseBars(r io.Reader) ([]Bar, error) {
	rows := csv.NewReader(r)
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read the header: %w", err)
	}
	var at [6]int
	for i, name := range []string{"date", "open", "high", "low", "close", "volume"} {
		if at[i] = slices.Index(header, name); at[i] < 0 {
			return nil, fmt.Errorf("cannot find column %q in the header %q", name, header)
		}
	}
	var bars []Bar
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return bars, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read bar %d: %w", len(bars)+1, err)
		}
		b, err := parseBar(row, at)
		if err != nil {
			return nil, fmt.Errorf("cannot read bar %d: %w", len(bars)+1, err)
		}
		if n := len(bars); n > 0 && !bars[n-1].Time.Before(b.Time) {
			return nil, fmt.Errorf("cannot use bar %d: its date %s does not follow %s",
				n+1, b.Time.Format(time.DateOnly), bars[n-1].Time.Format(time.DateOnly))
		}
		bars = append(bars, b)
	}
}

func parseBar(row []string, at [6]int) (Bar, error) {
	var b Bar
	var err error
	if b.Time, err = time.Parse(time.DateOnly, row[at[0]]); err != nil {
		return Bar{}, err
	}
	for i, dst := range []*float64{&b.Open, &b.High, &b.Low, &b.Close} {
		if *dst, err = strconv.ParseFloat(row[at[1+i]], 64); err != nil {
			return Bar{}, err
		}
	}
	if b.Volume, err = strconv.ParseInt(row[at[5]], 10, 64); err != nil {
		return Bar{}, err
	}
	// Written so that NaN fails too.
	if !b.consistent() || !(b.Low > 0) || b.Volume <= 0 {
		return Bar{}, fmt.Errorf("prices or volume of %s are impossible: %+v", row[at[0]], b)
	}
	return b, nil
}
