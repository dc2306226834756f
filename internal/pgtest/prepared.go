package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Prepared starts a cluster for one test with data that take long to make: fill makes
// them in a cluster of its own, once, and later calls with the same name and want, by
// any process, start from a copy. A different want makes them anew. Source of the
// copy: the data directory of a cluster that was stopped in good order.
func Prepared(t testing.TB, name, want string, fill func(ctx context.Context, c *Cluster) error, opts ...Option) *Cluster {
	t.Helper()
	r := Tools(t)
	data, err := built(filepath.Join(r.Dir, stateDir, "prepared", name), layout+" "+want, func(data string) error {
		return r.prepare(t.Context(), data, fill, opts)
	})
	if err != nil {
		t.Fatalf("cannot prepare %s: %v", name, err)
	}
	return Native(t, append(opts, func(o *options) { o.template = data })...)
}

// prepare makes the data directory that copies start from.
func (r *Root) prepare(ctx context.Context, data string, fill func(ctx context.Context, c *Cluster) error, opts []Option) error {
	c, err := r.StartCluster(ctx, opts...)
	if err != nil {
		return err
	}
	if err := fill(ctx, c); err != nil {
		return errors.Join(err, c.Stop())
	}
	c.signal(syscall.SIGINT)
	if !c.ended(2 * time.Minute) {
		return fmt.Errorf("cannot stop the cluster in good order: %s", c.Log())
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.Rename(c.dir, data); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(c.dir))
}
