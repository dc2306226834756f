package embedded

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed node/package.json node/package-lock.json node/.npmrc node/server.mjs
var files embed.FS

// minNode is the oldest major version of Node.js that is known to work.
const minNode = 20

// installation is a folder with the npm packages and the template.
type installation struct {
	dir    string
	node   string // the program
	script string // server.mjs
}

func (in *installation) template() string { return filepath.Join(in.dir, "template") }

// Install puts the npm packages and the template data directory below dir, if
// this lock file's are not there, and does nothing otherwise. It needs Node.js
// 20 and, the first time, npm and its registry. Several processes may call it at
// once for one dir.
func Install(ctx context.Context, dir string, log io.Writer) error {
	_, err := install(ctx, dir, log)
	return err
}

// File is the path of a file of an installed npm package, as
// "vega-datasets/data/sp500-2000.csv". dir is Install's.
func File(dir, name string) (string, error) {
	path := filepath.Join(dir, version(), "node_modules", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot find %s among the installed npm packages: %w", name, err)
	}
	return path, nil
}

// template counts the ways in which server.mjs initialised a data directory.
const template = "2"

// version names the installation by what is in it: the packages of the lock
// file and the template.
func version() string {
	lock, err := files.ReadFile("node/package-lock.json")
	if err != nil {
		panic("BUG: no embedded package-lock.json")
	}
	return hash(append(lock, template...))
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

func install(ctx context.Context, dir string, log io.Writer) (*installation, error) {
	if dir == "" {
		return nil, errors.New("cannot install the embedded database: no cache folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot install the embedded database: %w", err)
	}
	node, err := findNode(ctx)
	if err != nil {
		return nil, err
	}
	in := &installation{dir: filepath.Join(dir, version()), node: node}
	if _, err := os.Stat(in.dir); err != nil {
		if err := in.build(ctx, log); err != nil {
			return nil, err
		}
	}
	if in.script, err = writeScript(in.dir); err != nil {
		return nil, err
	}
	return in, nil
}

// findNode finds Node.js and checks its version.
func findNode(ctx context.Context) (string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return "", fmt.Errorf("cannot run the embedded database: it needs Node.js %d or newer, and no node is in PATH: %w", minNode, err)
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("cannot run %s --version: %w", node, err)
	}
	have := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(have, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		return "", fmt.Errorf("cannot run the embedded database: it needs Node.js %d or newer, %s is %s", minNode, node, have)
	}
	return node, nil
}

// build makes the installation in a folder of another name and moves it into
// place, so that one that exists is whole and builders do not meet.
func (in *installation) build(ctx context.Context, log io.Writer) error {
	start := time.Now()
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("cannot install the embedded database: npm, which comes with Node.js, is not in PATH: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(in.dir), 0o755); err != nil {
		return fmt.Errorf("cannot install the embedded database: %w", err)
	}
	part, err := os.MkdirTemp(filepath.Dir(in.dir), "part-")
	if err != nil {
		return fmt.Errorf("cannot install the embedded database: %w", err)
	}
	defer os.RemoveAll(part)
	fmt.Fprintln(log, "embedded database: installing TimescaleDB and pgvector for Node.js with npm")
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		content, err := files.ReadFile("node/" + name)
		if err != nil {
			panic("BUG: no embedded " + name)
		}
		if err := os.WriteFile(filepath.Join(part, name), content, 0o644); err != nil {
			return fmt.Errorf("cannot install the embedded database: %w", err)
		}
	}
	if err := output(ctx, part, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"); err != nil {
		return fmt.Errorf("cannot install the npm packages of the embedded database: %w", err)
	}
	script, err := writeScript(part)
	if err != nil {
		return err
	}
	fmt.Fprintln(log, "embedded database: initialising a data directory")
	if err := output(ctx, part, in.node, script, "--data", filepath.Join(part, "template"), "--init"); err != nil {
		return fmt.Errorf("cannot initialise the embedded database: %w", err)
	}
	if err := os.Rename(part, in.dir); err != nil {
		if _, other := os.Stat(in.dir); other != nil {
			return fmt.Errorf("cannot put the embedded database in place: %w", err)
		}
	}
	fmt.Fprintf(log, "embedded database: installed in %.1f s\n", time.Since(start).Seconds())
	return nil
}

// output runs a program in dir; the error has what it printed.
func output(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe() // stays open: the server ends with it
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", name, err)
	}
	defer stdin.Close()
	said := &lastBytes{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot run %s: %w: %s", strings.Join(cmd.Args, " "), err, said)
	}
	return nil
}

// writeScript puts server.mjs beside its packages under a name of its own
// version: a running one reads itself again when its worker is replaced.
func writeScript(dir string) (string, error) {
	content, err := files.ReadFile("node/server.mjs")
	if err != nil {
		panic("BUG: no embedded server.mjs")
	}
	path := filepath.Join(dir, "server-"+hash(content)+".mjs")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part, err := os.CreateTemp(dir, "part-*")
	if err != nil {
		return "", fmt.Errorf("cannot write server.mjs: %w", err)
	}
	defer os.Remove(part.Name())
	_, err = part.Write(content)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot write server.mjs: %w", err)
	}
	return path, nil
}

// copyTree copies a directory with the permissions that PostgreSQL wants. The
// copy appears whole or not at all.
func copyTree(to, from string) error {
	part := to + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(part, name)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(target, path)
	})
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is neither empty nor a data directory: %w", err)
	}
	return os.Rename(part, to)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
