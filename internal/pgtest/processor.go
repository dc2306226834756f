package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPUTime is the processor time, user and system, that the server has used, all its
// processes together, those that have ended too, in steps of 10 ms for each. Source:
// /proc/PID/stat, fields 14 to 17, of the postmaster and its children.
func (c *Cluster) CPUTime() (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	own, ticks := strconv.Itoa(c.PID()), int64(0)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended: the postmaster has its time
		}
		pid := filepath.Base(filepath.Dir(path))
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
		f := strings.Fields(rest)
		if len(f) < 15 || f[1] != own && pid != own {
			continue
		}
		end := 13
		if pid == own {
			end = 15 // and of children that have ended
		}
		for _, field := range f[11:end] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read the processor time of process %s from %q", pid, stat)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
