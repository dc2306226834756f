package router

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files hold cases separated by an empty line: comments (#), an
// optional line of directives (@), the text, and what is planned for it (=>).
//
//	classify.txt  what statements do to a session
//	clients.txt   what clients send by themselves: all of it must be clean
//	knn.txt       k-NN queries that are cached
//	passed.txt    what is not rewritten or cached, and why
//	refused.txt   what the rules say
//	local.txt     what the gateway answers itself
func TestPlansAreAsInTheGoldenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	total := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		switch name {
		case "classify", "clients", "knn", "passed", "refused", "local":
		default:
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
				if out.Len() > 0 {
					out.WriteString("\n")
				}
				total += golden(t, &out, strings.Trim(block, "\n"))
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if total < 150 {
		t.Errorf("%d statements, want at least 150", total)
	}
}

// golden runs one case, writes it to out as it should be and returns 1; 0 for a
// block of comments alone.
func golden(t *testing.T, out *strings.Builder, block string) int {
	var head, sql, want []string
	at := ""
	for line := range strings.SplitSeq(block, "\n") {
		switch {
		case strings.HasPrefix(line, "=> "):
			want = append(want, line)
		case strings.HasPrefix(line, "@ "):
			at = line
			head = append(head, line)
		case strings.HasPrefix(line, "#") && len(sql) == 0:
			head = append(head, line)
		default:
			sql = append(sql, line)
		}
	}
	for _, line := range append(head, sql...) {
		fmt.Fprintln(out, line)
	}
	if len(sql) == 0 {
		return 0
	}
	text := strings.Join(sql, "\n")
	s := directives(t, strings.TrimPrefix(at, "@ "))
	plan := New(s.options).Plan(s.context, []byte(text))
	if strings.HasSuffix(t.Name(), "/clients") && plan.Pins != 0 {
		t.Errorf("%s\npins %v: %s", block, plan.Pins.Names(), plan.Unclean)
	}
	got := describe(plan)
	for _, line := range got {
		fmt.Fprintln(out, line)
	}
	if !*update && strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\ngot:\n%s\nwant:\n%s", block, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return 1
}

// describe prints a plan for the golden files.
func describe(p *Plan) []string {
	lines := []string{"=> " + [...]string{"pass", "rewrite", "cached", "refused", "local"}[p.Action] + " " + string(p.Reason)}
	add := func(format string, args ...any) { lines = append(lines, "=> "+fmt.Sprintf(format, args...)) }
	if p.Pins != 0 {
		add("pins %s: %s", strings.Join(p.Pins.Names(), " "), p.Unclean)
	}
	for _, s := range p.Statements {
		line := s.Kind.String()
		if s.Name != "" {
			line += fmt.Sprintf(" %q", s.Name)
		}
		for _, f := range []struct {
			on   bool
			name string
		}{{s.Nextval, "nextval"}, {s.Currval, "currval"}, {s.DDL, "ddl"}} {
			if f.on {
				line += " " + f.name
			}
		}
		if set := s.Setting; set != nil {
			line += fmt.Sprintf(" [%s local=%t reset=%t values=%q] %s", set.Name, set.Local, set.Reset, set.Values, set.SQL)
		}
		if line != "select" || len(p.Statements) > 1 {
			add("%s", line)
		}
	}
	if p.Refusal != nil {
		add("error %s %s / %s / %s", p.Refusal.SQLState, p.Refusal.Message, p.Refusal.Detail, p.Refusal.Hint)
	}
	for _, w := range p.Warnings {
		add("warning %s %s / %s", w.SQLState, w.Message, w.Detail)
	}
	if p.KNN != nil {
		add("knn %s %s", p.KNN.Table, p.KNN.Operator)
	}
	if l := p.Local; l != nil {
		add("local kind=%d name=%q value=%q sql=%q", l.Kind, l.Name, l.Value, l.SQL)
	}
	return lines
}
