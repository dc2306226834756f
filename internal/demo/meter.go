package demo

import (
	"fmt"
	"io"
	"os"
	"time"
)

// meter shows how far the loading is: one task after the other, each with what is
// done of what is to do. On a terminal the line of a task is written over; else
// each step is a line. Errors of the writer are nobody's business: a progress that
// cannot be shown stops nothing.
type meter struct {
	out      io.Writer
	terminal bool

	title   string
	total   int
	done    int
	started time.Time
}

func newMeter(out io.Writer) *meter { return &meter{out: out, terminal: isTerminal(out)} }

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// begin starts a task of total steps.
func (m *meter) begin(title string, total int) {
	m.title, m.total, m.done, m.started = title, total, 0, time.Now()
	if m.terminal {
		m.show("\r", "")
	}
}

// step says that done steps of the task are done. The last one is shown by end.
func (m *meter) step(done int) {
	m.done = done
	switch {
	case m.terminal:
		m.show("\r", "")
	case done < m.total:
		m.show("", "\n")
	}
}

// end ends the task; note is shown instead of its time when it is not empty.
func (m *meter) end(note string) {
	m.done = m.total
	if note == "" {
		note = short(time.Since(m.started))
	}
	start := ""
	if m.terminal {
		start = "\r"
	}
	m.show(start, "  "+note+"\n")
}

func (m *meter) show(start, end string) {
	percent := 100
	if m.total > 0 {
		percent = 100 * m.done / m.total
	}
	fmt.Fprintf(m.out, "%s  %-24s %8s / %-8s %3d %%%s", start, m.title, grouped(m.done), grouped(m.total), percent, end)
}
