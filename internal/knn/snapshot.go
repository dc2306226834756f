package knn

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a pg_snapshot: which transactions' changes are seen.
type Snapshot struct {
	Text       string // xmin:xmax:xip,…; equal texts of one run of a primary see the same
	xmin, xmax uint64
	open       []uint64 // of those between, the ones that had not ended; ascending
}

// ParseSnapshot reads the text of a pg_snapshot.
func ParseSnapshot(text string) (s Snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("cannot read the snapshot %q: it has not three parts", text)
	}
	s.Text = text
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return s, fmt.Errorf("cannot read the snapshot %q: %w", text, err)
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return s, fmt.Errorf("cannot read the snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, p := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return s, fmt.Errorf("cannot read the snapshot %q: %w", text, err)
		}
		s.open = append(s.open, xid)
	}
	slices.Sort(s.open)
	return s, nil
}

// sees says whether the changes of a transaction that has committed are seen.
func (s *Snapshot) sees(xid uint64) bool {
	if xid >= s.xmax {
		return false
	}
	if xid < s.xmin {
		return true
	}
	_, open := slices.BinarySearch(s.open, xid)
	return !open
}
