package pgtest

import (
	"archive/tar"
	"compress/bzip2"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// regressDir lies in the root: PostgreSQL's regression suite. Its number changes with
// what provisionRegress puts there.
const regressDir = stateDir + "/regress-2"

// provisionRegress puts the regression suite of the root's PostgreSQL into the root:
// the source package's src/test/regress, its C functions compiled with the headers of
// the package for extensions, and the two libraries that its triggers load.
func (r *Root) provisionRegress(ctx context.Context, log io.Writer) error {
	version, err := r.packageVersion("postgresql-17")
	if err != nil {
		return err
	}
	dir := filepath.Join(r.Dir, regressDir)
	stamp := filepath.Join(dir, "stamp")
	complete := func() bool {
		have, err := os.ReadFile(stamp)
		return err == nil && string(have) == version
	}
	if complete() {
		return nil
	}
	unlock, err := lock(filepath.Join(r.Dir, regressDir+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if complete() {
		return nil
	}
	start := time.Now()
	fmt.Fprintln(log, "regression suite: fetching the source of PostgreSQL", version)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the old regression suite: %w", err)
	}
	work, err := os.MkdirTemp("", "qvpgw-regress-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the source of PostgreSQL: %w", err)
	}
	defer os.RemoveAll(work)
	if err := r.fetchSource(ctx, work, version); err != nil {
		return fmt.Errorf("cannot fetch the source of PostgreSQL %s: %w", version, err)
	}
	if err := r.installRegress(ctx, work, dir); err != nil {
		return fmt.Errorf("cannot build the regression suite of PostgreSQL %s: %w", version, err)
	}
	if err := os.WriteFile(stamp, []byte(version), 0o644); err != nil {
		return fmt.Errorf("cannot mark the regression suite as complete: %w", err)
	}
	fmt.Fprintf(log, "regression suite: ready in %.0f s\n", time.Since(start).Seconds())
	return nil
}

// packageVersion is the version of an installed package of the root.
func (r *Root) packageVersion(name string) (string, error) {
	out, err := r.Command(context.Background(), "/usr/bin/dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return "", fmt.Errorf("cannot find the version of %s in %s: %w", name, r.Dir, err)
	}
	return string(out), nil
}

// fetchSource downloads the source package and the headers with this machine's apt,
// which checks their signatures with the root's keys. Its lists and its cache lie in
// work; the machine's own sources stay as they are.
func (r *Root) fetchSource(ctx context.Context, work, version string) error {
	mirror := debianMirror(ctx)
	if mirror == "" {
		mirror = "http://deb.debian.org/debian"
	}
	from := fmt.Sprintf("[signed-by=%s] %s %s main\n", filepath.Join(r.Dir, "usr/share/keyrings/debian-archive-keyring.gpg"), mirror, suite)
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, sub), 0o755); err != nil {
			return err
		}
	}
	list := filepath.Join(work, "sources.list")
	if err := os.WriteFile(list, []byte("deb "+from+"deb-src "+from), 0o644); err != nil {
		return err
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{
			"-q", "-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=/dev/null",
			"-o", "Dir::State::lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + filepath.Join(work, "cache"),
			"-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
		}, args...)...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot run %s: %w: %s", strings.Join(cmd.Args, " "), err, tail(out))
		}
		return nil
	}
	if err := apt("update"); err != nil {
		return err
	}
	if err := apt("download", "postgresql-server-dev-17="+version); err != nil {
		return fmt.Errorf("%w (if the mirror has a newer one only, remove %s to have the native backend rebuilt)", err, filepath.Dir(r.Dir))
	}
	return apt("source", "--download-only", "postgresql-17="+version)
}

// unpack unpacks the folder sub of a source archive into dir.
func unpack(archive, sub, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot unpack the source: %w", err)
	}
	defer f.Close()
	for r := tar.NewReader(bzip2.NewReader(f)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot unpack %s: %w", archive, err)
		}
		_, path, _ := strings.Cut(h.Name, "/") // after the folder of the version
		name, ok := strings.CutPrefix(path, sub+"/")
		if !ok || h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", archive, err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("cannot unpack %s: %w", archive, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", archive, err)
		}
	}
}

// installRegress unpacks and compiles what fetchSource downloaded, into dir.
func (r *Root) installRegress(ctx context.Context, work, dir string) error {
	find := func(pattern string) (string, error) {
		found, err := filepath.Glob(filepath.Join(work, pattern))
		if err != nil || len(found) != 1 {
			return "", fmt.Errorf("cannot find one %s in what was downloaded: %v", pattern, found)
		}
		return found[0], nil
	}
	source, err := find("postgresql-17_*.orig.tar.bz2")
	if err != nil {
		return err
	}
	headers, err := find("postgresql-server-dev-17_*.deb")
	if err != nil {
		return err
	}
	if err := run(ctx, nil, "dpkg-deb", "-x", headers, filepath.Join(work, "headers")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "lib"), 0o755); err != nil {
		return err
	}
	if err := unpack(source, "src/test/regress", dir); err != nil {
		return err
	}
	if err := run(ctx, nil, "cc", "-O2", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing",
		"-I", filepath.Join(work, "headers/usr/include/postgresql/17/server"),
		"-o", filepath.Join(dir, "lib/regress.so"), filepath.Join(dir, "regress.c")); err != nil {
		return err
	}
	for _, name := range []string{"autoinc.so", "refint.so"} {
		if err := run(ctx, nil, "cp", filepath.Join(r.Dir, "usr/lib/postgresql/17/lib", name), filepath.Join(dir, "lib", name)); err != nil {
			return err
		}
	}
	return run(ctx, nil, "chmod", "-R", "a+rX", dir)
}
