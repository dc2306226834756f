package pgtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"qvpgw/internal/embedded"
)

// provisionLimit bounds the wait for a backend to be installed and started.
const provisionLimit = 8 * time.Minute

var (
	provisioned = sync.OnceValues(func() (*Root, error) {
		ctx, cancel := context.WithTimeout(context.Background(), provisionLimit)
		defer cancel()
		return Provision(ctx, os.Stderr)
	})
	sharedCluster = sync.OnceValues(func() (*Cluster, error) {
		r, err := provisioned()
		if err != nil {
			return nil, err
		}
		c, err := r.StartCluster(context.Background(), MaxConnections(200))
		if err == nil {
			endAtExit(c.Stop)
		}
		return c, err
	})
)

// sharedEmbedded is the embedded server of this process's tests.
var sharedEmbedded = sync.OnceValues(func() (*embedded.Server, error) {
	s, err := startEmbedded()
	if err == nil {
		endAtExit(s.Close)
	}
	return s, err
})

func startEmbedded() (*embedded.Server, error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), provisionLimit)
	defer cancel()
	return embedded.Start(ctx, embedded.Options{Dir: filepath.Join(cache, "embedded"), Log: os.Stderr})
}

// atExit ends the shared backends, newest first; guarded by exitMu.
var (
	exitMu sync.Mutex
	atExit []func() error
)

func endAtExit(stop func() error) {
	exitMu.Lock()
	defer exitMu.Unlock()
	atExit = append(atExit, stop)
}

// Main runs the tests of a package and then ends the shared backends and
// removes their data. Without it they still end with the process, and the next
// process removes their data. Use:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	exitMu.Lock()
	defer exitMu.Unlock()
	for i := len(atExit) - 1; i >= 0; i-- {
		if err := atExit[i](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	atExit = nil
	return code
}

// missing ends a test whose backend cannot be had: skipped on a developer's
// machine, failed under CI=true.
func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// Tools returns the root with the native backend's programs.
func Tools(t testing.TB) *Root {
	t.Helper()
	r, err := provisioned()
	if err != nil {
		missing(t, err)
	}
	return r
}

// Native returns a running native cluster: without options the one that this
// process's tests share, with options one for this test, stopped at its end.
func Native(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	r := Tools(t)
	if len(opts) == 0 {
		c, err := sharedCluster()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c, err := r.StartCluster(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Database makes a database with both extensions for this test on the shared
// cluster and returns its DSN.
func Database(t testing.TB) string {
	t.Helper()
	return Native(t).Database(t)
}

// Database makes a database with both extensions for this test, dropped with
// its sessions at the end, and returns its DSN.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name, err := c.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = c.DropDatabase(ctx, name) // a test may have ended the cluster
	})
	return c.DSN(name)
}

// Embedded returns the embedded server that this process's tests share:
// TimescaleDB with continuous aggregates, compression and policies, one session
// at a time. A test leaves it as it found it.
func Embedded(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := sharedEmbedded()
	if err != nil {
		missing(t, err)
	}
	return s
}

// OwnEmbedded starts an embedded server with an empty database for this test
// alone, which takes a second or two, and stops it at the end.
func OwnEmbedded(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := startEmbedded()
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Given is the database that QVPGW_TEST_DSN names, if it is set.
func Given() (dsn string, ok bool) {
	dsn = os.Getenv("QVPGW_TEST_DSN")
	return dsn, dsn != ""
}
