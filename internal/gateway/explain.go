package gateway

import (
	"fmt"
	"regexp"
	"strings"
)

// explain says what would be done with a statement.
func (s *session) explain(sql string) []string {
	p := s.plan([]byte(sql))
	lines := []string{"Action: " + actionName(p.Action), "Reason: " + string(p.Reason) + " (" + p.Reason.Text() + ")"}
	if text := s.db.router.Inlined(s.context(), []byte(sql)); text != "" {
		lines = append(lines, "Inlined: "+text)
	}
	if p.Pins != 0 {
		lines = append(lines, "Pins: "+strings.Join(p.Pins.Names(), ", "))
	}
	if r := p.Refusal; r != nil {
		lines = append(lines, "SQLSTATE: "+r.SQLState, "Message: "+r.Message, "Detail: "+r.Detail, "Hint: "+r.Hint)
	}
	if k := p.KNN; k != nil {
		lines = append(lines, "Table: "+k.Table, "Operator: "+k.Operator)
	}
	if a := p.Aggregates; a != nil {
		lines = append(lines, "Aggregate: "+a.View)
		for _, r := range a.Ranges() {
			lines = append(lines, fmt.Sprintf("Range: %s from %s to %s", r.Source, open(r.From), open(r.To)))
		}
		if a.Float {
			lines = append(lines, "Float: sums are added in another order")
		}
		lines = append(lines, "SQL: "+a.SQL)
		if a.Lock != "" {
			lines = append(lines, "Lock: "+a.Lock)
		}
		lines = append(lines, "Guard: "+a.Guard())
	}
	return lines
}

func open(t string) string {
	if t == "" {
		return "(open)"
	}
	return t
}

// maxLine is how long a line of an explanation may be before it is folded, in bytes: one
// of thousands has psql draw a table that wide.
const maxLine = 100

// numbers is an array of numbers as SQL writes it: blanks between them mean nothing.
var numbers = regexp.MustCompile(`^'\{[0-9,]*\}'`)

// folded breaks a line where the SQL in it stays the same: at blanks outside of quotes, and
// between the numbers of an array. The lines that it goes on with are set in by two blanks.
func folded(line string) []string {
	var parts []string
	quote, array := byte(0), false
	start, end, next := 0, 0, 0 // of this part; where it may end, and the next begin
	for i := range len(line) {
		switch c := line[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, array = c, numbers.MatchString(line[i:])
			continue
		case c == quote:
			quote, array = 0, false
			continue
		case quote == 0 && c != ' ' || quote != 0 && (!array || c != ','):
			continue
		}
		if i-start > maxLine && end > start {
			parts, start = append(parts, line[start:end]), next
		}
		end, next = i, i+1
		if array {
			end = next
		}
	}
	if len(line)-start > maxLine && end > start {
		parts, start = append(parts, line[start:end]), next
	}
	parts = append(parts, line[start:])
	for i := range parts[1:] {
		parts[i+1] = "  " + parts[i+1]
	}
	return parts
}
