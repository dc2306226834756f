package pgtest

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// verdict is a test that only remembers how it was ended first; the real one
// does not return.
type verdict struct {
	testing.TB
	how string
}

func (v *verdict) Helper()      {}
func (v *verdict) Fatal(...any) { v.how = cmp.Or(v.how, "failed") }
func (v *verdict) Skip(...any)  { v.how = cmp.Or(v.how, "skipped") }

func TestAMissingBackendFailsInCIAndSkipsElsewhere(t *testing.T) {
	for ci, want := range map[string]string{"true": "failed", "": "skipped"} {
		t.Setenv("CI", ci)
		v := &verdict{}
		missing(v, errors.New("no root"))
		if v.how != want {
			t.Errorf("with CI=%q the test is %s, want %s", ci, v.how, want)
		}
	}
}

func TestTheGivenDatabaseIsTheEnvironments(t *testing.T) {
	t.Setenv("QVPGW_TEST_DSN", "")
	if _, ok := Given(); ok {
		t.Error("a database that was not given")
	}
	t.Setenv("QVPGW_TEST_DSN", "postgres://x/y")
	if dsn, ok := Given(); !ok || dsn != "postgres://x/y" {
		t.Errorf("given %q, %v", dsn, ok)
	}
}

func TestTheMirrorIsFoundInAptsWords(t *testing.T) {
	for line, want := range map[string]string{
		"https://example.org/debian\n":                            "https://example.org/debian",
		"http://a.example/ubuntu\nhttp://b.example/x/debian/\n":   "http://b.example/x/debian/",
		"deb [signed-by=/k.gpg] http://c.example/debian sid main": "http://c.example/debian",
		"URIs: file:///srv/debian":                                "file:///srv/debian",
		"http://security.example/debian-security\n":               "",
		"deb cdrom:[Debian]/ sid main":                            "",
	} {
		if have := strings.TrimSpace(debianURI.FindString(line)); have != want {
			t.Errorf("in %q found %q, want %q", line, have, want)
		}
	}
	t.Setenv("QVPGW_DEBIAN_MIRROR", "http://d.example/mirror")
	if have := debianMirror(t.Context()); have != "http://d.example/mirror" {
		t.Errorf("mirror %q in spite of the environment", have)
	}
}

func TestACacheThatCannotBeMadeIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QVPGW_CACHE", file)
	if _, err := Provision(t.Context(), os.Stderr); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}

func TestWhatADeadProcessLeftIsRemoved(t *testing.T) {
	r := &Root{Dir: t.TempDir()}
	run := filepath.Join(r.Dir, stateDir, "run")
	dead, alive := filepath.Join(run, "4194305-1"), filepath.Join(run, "1-1") // above the kernel's largest process id; init
	for _, dir := range []string{dead, alive} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.sweep()
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead process's folder is still there: %v", err)
	}
	if _, err := os.Stat(alive); err != nil {
		t.Error(err)
	}
}

func TestAnEmbeddedServerOfOnesOwnIsEmptyAndGoesWithItsTest(t *testing.T) {
	var done <-chan struct{}
	t.Run("own", func(t *testing.T) {
		s := OwnEmbedded(t)
		done = s.Done()
		if n := value[int](t, connect(t, s.DSN()), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != 0 {
			t.Errorf("%d tables in a new server", n)
		}
	})
	select {
	case <-done:
	default:
		t.Error("the server outlives its test")
	}
}
