package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed is the graph of the house: what each package may import of ours. Tests
// may use more. A package that is not listed does not exist.
var allowed = map[string][]string{
	"internal/admin":    {"web"},
	"internal/auth":     {"internal/wire"},
	"internal/bench":    {"internal/wire"},
	"internal/cache":    {},
	"internal/catalog":  {},
	"internal/config":   {},
	"internal/demo":     {},
	"internal/embedded": {},
	"internal/figure":   {},
	"internal/gateway": {
		"internal/auth", "internal/cache", "internal/catalog", "internal/knn", "internal/metrics", "internal/netloop", "internal/pool",
		"internal/router", "internal/rules", "internal/sqltext", "internal/vector", "internal/wire",
	},
	"internal/handoff": {},
	"internal/knn":     {},
	"internal/metrics": {},
	"internal/netloop": {},
	"internal/pgtest":  {"internal/embedded"},
	"internal/pool":    {"internal/catalog", "internal/netloop", "internal/wire"},
	"internal/rollup":  {"internal/catalog"},
	"internal/router":  {"internal/catalog", "internal/rollup", "internal/rules", "internal/sqltext"},
	"internal/rules":   {"internal/catalog", "internal/sqltext"},
	"internal/schema":  {"internal/catalog", "internal/sqltext", "migrations"},
	"internal/sqltext": {},
	"internal/testsum": {"internal/figure"},
	"internal/vector":  {},
	"internal/wire":    {},
	"migrations":       {},
	"web":              {},
	"cmd/qvpgw": {
		"internal/admin", "internal/auth", "internal/bench", "internal/cache", "internal/catalog", "internal/config",
		"internal/demo", "internal/embedded", "internal/figure", "internal/gateway", "internal/handoff",
		"internal/metrics", "internal/pool", "internal/rules", "internal/schema", "internal/wire",
	},
}

// confined are the libraries that live in few packages.
var confined = map[string][]string{
	"github.com/jackc/pgx/v5":              {"internal/bench", "internal/schema", "internal/pool", "internal/demo", "internal/gateway", "internal/pgtest", "cmd/qvpgw"},
	"github.com/pganalyze/pg_query_go/v6":  {"internal/router"},
	"github.com/prometheus/client_golang":  {"internal/metrics", "internal/admin"},
	"github.com/golang-migrate/migrate/v4": {"internal/schema"},
	"github.com/spf13/cobra":               {"cmd/qvpgw"},
	"github.com/goccy/go-yaml":             {"internal/config"},
	"github.com/hashicorp/golang-lru/v2":   {"internal/auth", "internal/cache", "internal/pool", "internal/gateway", "internal/router"},
}

func TestImportsRunOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "qvpgw/...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v", err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "qvpgw/")
		seen[name] = true
		may, ok := allowed[name]
		if strings.HasPrefix(name, "internal/router/") {
			continue // generated tables of the router
		}
		if !ok {
			t.Errorf("package %s is not in the graph", name)
			continue
		}
		for _, i := range p.Imports {
			if ours, ok := strings.CutPrefix(i, "qvpgw/"); ok && !slices.Contains(may, ours) && !strings.HasPrefix(ours, name+"/") {
				t.Errorf("%s must not import %s", name, ours)
			}
			for lib, homes := range confined {
				if (i == lib || strings.HasPrefix(i, lib+"/")) && !slices.Contains(homes, name) {
					t.Errorf("%s must not import %s, which lives in %s", name, i, strings.Join(homes, ", "))
				}
			}
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("package %s is in the graph and does not exist", name)
		}
	}
}

// TestFilesStaySmall holds the house's limit on hand-written files.
func TestFilesStaySmall(t *testing.T) {
	const limit = 600
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "testdata" || n == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), "\n"); n > limit {
			t.Errorf("%s has %d lines, more than %d: it has two subjects", path, n, limit)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryPackageHasItsPage holds that doc.go opens each package.
func TestEveryPackageHasItsPage(t *testing.T) {
	for name := range allowed {
		if !strings.HasPrefix(name, "internal/") {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name), "doc.go")); err != nil {
			t.Errorf("package %s has no doc.go", name)
		}
	}
}
