package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/admin"
	"qvpgw/internal/config"
	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
	"qvpgw/internal/rules"
)

// page is one document.
type page struct {
	path string // from the repository's root
	text string
}

// block is a fenced block of a page.
type block struct {
	info string // behind the fence: "sh", "sql fails=42501"
	text string
	path string // of its page
	line int
}

const repository = "../.."

func readPages(t *testing.T) []page {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var pages []page
	for _, p := range append(paths, filepath.Join(repository, "README.md"), filepath.Join(repository, "CHANGELOG.md")) {
		pages = append(pages, readPage(t, p))
	}
	if len(pages) < 9 {
		t.Fatalf("only %d pages were found", len(pages))
	}
	return pages
}

func readPage(t *testing.T, path string) page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(repository, path)
	if err != nil {
		t.Fatal(err)
	}
	return page{filepath.ToSlash(rel), string(text)}
}

// blocks returns the fenced blocks whose info begins with kind.
func (p page) blocks(kind string) []block {
	var out []block
	var b *block
	for i, line := range strings.Split(p.text, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && b == nil:
			b = &block{info: info, path: p.path, line: i + 2}
		case fence:
			if first, _, _ := strings.Cut(b.info, " "); first == kind {
				out = append(out, *b)
			}
			b = nil
		case b != nil:
			b.text += line + "\n"
		}
	}
	return out
}

// prose is the page without its fenced blocks.
func (p page) prose() string {
	var out strings.Builder
	in := false
	for _, line := range strings.Split(p.text, "\n") {
		if strings.HasPrefix(line, "```") {
			in = !in
		} else if !in {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// spans returns the texts in backticks, lines joined.
func (p page) spans() []string {
	var out []string
	for _, m := range codeSpan.FindAllStringSubmatch(p.prose(), -1) {
		out = append(out, strings.Join(strings.Fields(m[1]), " "))
	}
	return out
}

func TestCommandsInTheDocsExist(t *testing.T) {
	makefile := readPage(t, filepath.Join(repository, "Makefile")).text
	total := 0
	for _, p := range readPages(t) {
		for _, b := range p.blocks("sh") {
			end := "" // of a here-document
			for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
				if end != "" {
					if line == end {
						end = ""
					} else if err := checkSetting(line); err != nil {
						t.Errorf("%s:%d: %v", p.path, b.line+i, err)
					}
					continue
				}
				if _, word, ok := strings.Cut(line, "<<'"); ok {
					end = strings.TrimSuffix(word, "'")
				}
				words := shellWords(line)
				if len(words) == 0 {
					continue
				}
				total++
				if err := checkCommand(words, makefile); err != nil {
					t.Errorf("%s:%d: %q: %v", p.path, b.line+i, line, err)
				}
			}
		}
	}
	if total < 30 {
		t.Errorf("only %d commands were looked at", total)
	}
}

// checkSetting holds a line of an .env file against the names that are read.
func checkSetting(line string) error {
	name, _, _ := strings.Cut(line, "=")
	shipped, err := os.ReadFile(filepath.Join(repository, "config.yaml"))
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).Match(shipped) {
		return fmt.Errorf("%s is no name that config.yaml has", name)
	}
	return nil
}

// shellWords splits a command at blanks outside quotes, up to a comment.
func shellWords(line string) []string {
	var words []string
	var w strings.Builder
	quote, in := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			w.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ':
			if in {
				words = append(words, w.String())
			}
			w.Reset()
			in = false
		case c == '#' && !in:
			return words
		default:
			w.WriteRune(c)
			in = true
		}
	}
	if in {
		words = append(words, w.String())
	}
	return words
}

func checkCommand(words []string, makefile string) error {
	switch words[0] {
	case "make":
		for _, w := range words[1:] {
			name, _, variable := strings.Cut(w, "=")
			if variable && !strings.Contains(makefile, "$("+name) && !strings.Contains(makefile, name+" ") {
				return fmt.Errorf("the Makefile has no variable %s", name)
			}
			if !variable && !strings.Contains(makefile, "\n"+name+":") {
				return fmt.Errorf("the Makefile has no target %s", name)
			}
		}
	case "./bin/qvpgw":
		return checkProgram(words[1:])
	case ".ci/run":
		_, err := os.Stat(filepath.Join(repository, ".ci", "run"))
		return err
	case "psql":
		return checkPsql(words[1:])
	case "pg_dump", "pg_restore":
		return checkPsql(words[2:]) // after -d
	case "curl":
		return checkURL(words[len(words)-1])
	case "docker":
		_, err := os.Stat(filepath.Join(repository, "docker-compose.yml"))
		return err
	case "apt-get", "export", "cat":
	default:
		return fmt.Errorf("%s is not a command that this test knows how to check", words[0])
	}
	return nil
}

// checkProgram holds arguments against the program's own sub-commands and flags.
func checkProgram(args []string) error {
	c, rest, err := command(io.Discard, io.Discard).Find(args)
	if err != nil {
		return err
	}
	if !c.Runnable() {
		return fmt.Errorf("%s alone does nothing", c.CommandPath())
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// checkPsql holds a connection to the gateway and a console's command.
func checkPsql(args []string) error {
	if !strings.Contains(args[0], "port=6432") && !strings.Contains(args[0], ":6432/") {
		return fmt.Errorf("%q is not the gateway's port", args[0])
	}
	if i := slices.Index(args, "-c"); i > 0 && strings.Contains(args[0], "dbname=pgbouncer") {
		_, err := admin.ParseCommand(args[i+1])
		return err
	}
	return nil
}

// checkURL asks the gateway's own handler for the address.
func checkURL(url string) error {
	path, ok := strings.CutPrefix(url, "http://127.0.0.1:8432")
	if !ok {
		return fmt.Errorf("%s is not where the gateway serves HTTP", url)
	}
	return servedHTTP(path)
}

func servedHTTP(path string) error {
	h := admin.New(admin.Options{Registry: metrics.New().Registry()}).Handler()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = "127.0.0.1:1"
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return fmt.Errorf("%s answers %d", path, w.Code)
	}
	return nil
}

// keySpan is a key, or a key with a value, of the configuration.
var keySpan = regexp.MustCompile(`^([a-z_]+(?:\.[a-z_]+)*)(?:: (\S+))?$`)

func TestConfigurationInTheDocsIsTaken(t *testing.T) {
	known := map[string]bool{"rules": true}
	top := map[string]bool{}
	for _, i := range config.Default().Items() {
		known[i.Key] = true
		first, _, _ := strings.Cut(i.Key, ".")
		top[first] = true
	}
	for _, r := range rules.Names() {
		known["rules."+r] = true
	}
	known["auth.users"], known["schema.change_log.tables"] = true, true // without entries they have no item
	total := 0
	for _, p := range readPages(t) {
		for _, span := range p.spans() {
			m := keySpan.FindStringSubmatch(span)
			if m == nil {
				continue
			}
			first, _, nested := strings.Cut(m[1], ".")
			if !top[first] || !nested && m[2] == "" || strings.HasSuffix(span, ".go") || strings.HasSuffix(span, ".md") {
				continue
			}
			total++
			if !known[m[1]] {
				t.Errorf("%s: there is no key %s", p.path, m[1])
				continue
			}
			if m[2] != "" {
				if err := loads(t, yamlOf(m[1], m[2])); err != nil {
					t.Errorf("%s: `%s`: %v", p.path, span, err)
				}
			}
		}
		for _, b := range p.blocks("yaml") {
			if err := loads(t, b.text); err != nil {
				t.Errorf("%s:%d: %v", p.path, b.line, err)
			}
		}
	}
	if total < 25 {
		t.Errorf("only %d keys were looked at", total)
	}
}

// yamlOf writes one key with its value.
func yamlOf(key, value string) string {
	var out strings.Builder
	parts := strings.Split(key, ".")
	for i, part := range parts {
		out.WriteString(strings.Repeat("  ", i) + part + ":")
		if i == len(parts)-1 {
			out.WriteString(" " + value)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// loads says whether a configuration is taken. What it says of files that are not
// here, a certificate's above all, does not count.
func loads(t *testing.T, yaml string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	none := func(string) (string, bool) { return "", false }
	c, err := config.Load(file, none, "")
	if err != nil {
		if strings.Contains(err.Error(), "tls.cert") {
			return nil
		}
		return err
	}
	return c.CheckRules(rules.Names())
}

func TestLinksInTheDocsResolve(t *testing.T) {
	link := regexp.MustCompile(`\[[^\]]+\]\(([^)]+)\)`)
	total := 0
	for _, p := range readPages(t) {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			total++
			to, _, _ := strings.Cut(m[1], "#")
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(filepath.FromSlash(p.path)), filepath.FromSlash(to))); err != nil {
				t.Errorf("%s: %s leads nowhere", p.path, m[1])
			}
		}
	}
	if total < 20 {
		t.Errorf("only %d links were looked at", total)
	}
}

func TestWhatTheDocsNameExists(t *testing.T) {
	tests := testNames(t)
	names := metricNames(t)
	reasons := router.Reasons()
	testName := regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w+$`)
	metric := regexp.MustCompile(`^qvpgw_[a-z_]+$`)
	reason := regexp.MustCompile(`^(aggregate|knn|rule)_[a-z_]+$|^not_alone$|^not_fresh$|^lock_refused$|^rewrite_failed$|^float_exact$`)
	file := regexp.MustCompile(`^(cmd|internal|migrations|docs|web)/[\w./]+$`)
	path := regexp.MustCompile(`^/(healthz|readyz|metrics|debug/pprof/|api/status)?$`)
	for _, p := range readPages(t) {
		for _, span := range p.spans() {
			switch {
			case testName.MatchString(span) && !tests[span]:
				t.Errorf("%s: there is no %s", p.path, span)
			case metric.MatchString(span) && !names[span]:
				t.Errorf("%s: there is no metric %s", p.path, span)
			case reason.MatchString(span) && !slices.Contains(reasons, router.Reason(span)):
				t.Errorf("%s: there is no reason %s", p.path, span)
			case strings.HasPrefix(span, "make ") && !strings.Contains(span, "\n"):
				if err := checkCommand(shellWords(span), readPage(t, filepath.Join(repository, "Makefile")).text); err != nil {
					t.Errorf("%s: `%s`: %v", p.path, span, err)
				}
			case strings.HasPrefix(span, "qvpgw ") && !strings.Contains(span, "="):
				if err := checkProgram(append(shellWords(span)[1:], explained(span)...)); err != nil {
					t.Errorf("%s: `%s`: %v", p.path, span, err)
				}
			case file.MatchString(span):
				if _, err := os.Stat(filepath.Join(repository, filepath.FromSlash(span))); err != nil {
					t.Errorf("%s: there is no %s", p.path, span)
				}
			case path.MatchString(span):
				if err := servedHTTP(span); err != nil {
					t.Errorf("%s: %v", p.path, err)
				}
			}
		}
	}
	page := readPage(t, filepath.Join(repository, "docs", "operations.md")).text
	for name := range names {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
}

// explained is the statement that `qvpgw explain` wants.
func explained(span string) []string {
	if span == "qvpgw explain" {
		return []string{"SELECT 1"}
	}
	return nil
}

// testNames are the names of all tests, fuzz targets and benchmarks.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir(repository, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "node_modules" || !strings.HasSuffix(path, "_test.go") {
			if d != nil && d.IsDir() && d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// metricNames are the gateway's own metrics.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	m := metrics.New()
	m.Build("test")
	m.Generation(1)
	m.Watch(metrics.Sources{
		Clients: func() (s metrics.ClientStat) { return s },
		Servers: func() (s metrics.ServerStat) { return s },
		Cache:   func() (s metrics.CacheStat) { return s },
	})
	names := map[string]bool{"qvpgw_query_reasons_total": true, "qvpgw_rule_hits_total": true, "qvpgw_pinned_transactions_total": true} // children come with use
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "qvpgw_") {
			names[f.GetName()] = true
		}
	}
	return names
}

// TestTheDependenciesPageListsWhatIsImported holds docs/dependencies.md against
// the imports of the code; the programs of the drivers are a module of their own.
func TestTheDependenciesPageListsWhatIsImported(t *testing.T) {
	text := readPage(t, filepath.Join(repository, "docs", "dependencies.md")).text
	mod := readPage(t, filepath.Join(repository, "go.mod")).text
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	var listed []string
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		listed = append(listed, m[1])
		if !strings.Contains(mod, m[1]+" v") {
			t.Errorf("go.mod does not have %s", m[1])
		}
	}
	imported := regexp.MustCompile(`(?m)^\s*(?:\w+ )?"((?:github\.com|golang\.org/x|google\.golang\.org)/[^"]+)"$`)
	used := map[string]bool{}
	err := filepath.WalkDir(repository, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && path == filepath.Join(repository, "drivers") {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "node_modules") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range imported.FindAllStringSubmatch(string(code), -1) {
			i := slices.IndexFunc(listed, func(l string) bool { return m[1] == l || strings.HasPrefix(m[1], l+"/") })
			if i < 0 {
				t.Errorf("%s imports %s, which docs/dependencies.md does not list", path, m[1])
				continue
			}
			used[listed[i]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listed {
		if !used[l] {
			t.Errorf("nothing imports %s", l)
		}
	}
}
