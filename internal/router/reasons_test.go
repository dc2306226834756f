package router

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"qvpgw/internal/rules"
)

const reasonsFile = "../../docs/reasons.md"

// reasonsPage renders docs/reasons.md.
func reasonsPage() string {
	var b strings.Builder
	b.WriteString(`# Reasons

Every plan has one reason: a stable code that says why a statement was forwarded
as it is, answered from a continuous aggregate, kept in memory, or refused. The
code stands in ` + "`SHOW qvpgw.last_route`, in `EXPLAIN (QVPGW)`" + `, in the metrics' label
` + "`reason`" + ` and in the DETAIL of a refusal.

This page is written by ` + "`go test ./internal/router -run Reasons -update`" + `; a test
holds it against the code.
`)
	for _, table := range reasonTables {
		fmt.Fprintf(&b, "\n## %s\n\n| code | meaning |\n|---|---|\n", table.title)
		for _, r := range Reasons() {
			if text, ok := table.texts[r]; ok {
				fmt.Fprintf(&b, "| `%s` | %s |\n", r, text)
			}
		}
	}
	b.WriteString(`
## Pins

A pin keeps a client on its server connection until the connection is reset.

| code | meaning |
|---|---|
`)
	for i, name := range pinNames {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, pinTexts[i])
	}
	return b.String()
}

// pinTexts explain the pins, in the order of their bits.
var pinTexts = [len(pinNames)]string{
	"The text was not parsed, so that it may do anything.",
	"It may call a user's function, operator, type or cast.",
	"It touches a relation that runs user code: a trigger, a rule, a policy, a default; or one that the catalog has not.",
	"DO or CALL.",
	"It makes or uses a temporary object.",
	"PREPARE or EXECUTE in SQL.",
	"A cursor WITH HOLD.",
	"LISTEN.",
	"An advisory lock that outlives the transaction.",
	"A setting that cannot be set again on another connection.",
	"It reads currval or lastval by a way that cannot be followed.",
	"It loads a library into the server's process.",
	"setseed.",
	"The catalog was not known, or was being read again, when it was planned.",
	"A prepared statement too large to keep a copy of.",
	"It depends on what its server process did and counted before (a login trigger, statistics of sessions, `SET temp_buffers`): the client gets a process that nobody had.",
}

func TestReasonsAreOnTheirPage(t *testing.T) {
	page := reasonsPage()
	if *update {
		if err := os.WriteFile(reasonsFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(reasonsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Error("docs/reasons.md is not what the code says; write it anew: go test ./internal/router -run Reasons -update")
	}
}

func TestReasonsAreOneCodeOneLine(t *testing.T) {
	code := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] {
			t.Errorf("%s is there twice", r)
		}
		seen[r] = true
		text := r.Text()
		if !code.MatchString(string(r)) || !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "\n|") {
			t.Errorf("%q: %q", r, text)
		}
	}
	if Reason("no_such_reason").Text() != "" {
		t.Error("a reason that is not in the list has a text")
	}
}

func TestEachRuleHasAReason(t *testing.T) {
	for _, name := range rules.Names() {
		if Reason(rulePrefix+name).Text() == "" {
			t.Errorf("rule %s has no reason", name)
		}
	}
	if len(rules.Names()) != len(ruleReasons) {
		t.Errorf("%d rules, %d reasons", len(rules.Names()), len(ruleReasons))
	}
}

// Every Reason constant must be in a table: a plan must not carry a code that no
// page explains.
func TestEachReasonInTheCodeIsInATable(t *testing.T) {
	constant := regexp.MustCompile(`Reason\w*\s+Reason = "(\w+)"`)
	for _, file := range []string{"reasons.go", "aggregate_reasons.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := constant.FindAllSubmatch(source, -1)
		if len(found) == 0 {
			t.Errorf("%s has no reasons", file)
		}
		for _, m := range found {
			if Reason(m[1]).Text() == "" {
				t.Errorf("%s is in no table", m[1])
			}
		}
	}
}
