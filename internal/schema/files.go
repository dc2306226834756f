package schema

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"qvpgw/migrations"
)

// file is one migration: the pair NNNNNN_title.up.sql and .down.sql.
type file struct {
	version int
	title   string
	loses   []string // tables and columns that the down file drops, from its first line
	up      string
	down    string
}

func (f file) text(direction string) string {
	if direction == "down" {
		return f.down
	}
	return f.up
}

func (f file) name(direction string) string {
	return fmt.Sprintf("%06d_%s.%s.sql", f.version, f.title, direction)
}

var fileName = regexp.MustCompile(`^(\d+)_(.+)\.(up|down)\.sql$`)

// readFiles lists the migrations of a directory in order.
func readFiles(dir fs.FS) ([]file, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("cannot list the migrations: %w", err)
	}
	var files []file
	for _, entry := range entries {
		m := fileName.FindStringSubmatch(entry.Name())
		if m == nil || m[3] != "up" {
			continue
		}
		version, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("cannot list the migrations: version of %s: %w", entry.Name(), err)
		}
		up, err := fs.ReadFile(dir, entry.Name())
		if err != nil {
			return nil, fmt.Errorf("cannot read migration %s: %w", entry.Name(), err)
		}
		f := file{version: version, title: m[2], up: string(up)}
		down, err := fs.ReadFile(dir, strings.TrimSuffix(entry.Name(), "up.sql")+"down.sql")
		if err != nil {
			return nil, fmt.Errorf("cannot list the migrations: %s has no way back: %w", entry.Name(), err)
		}
		f.down = string(down)
		first, _, _ := strings.Cut(f.down, "\n")
		if tables, ok := strings.CutPrefix(first, "-- loses:"); ok {
			f.loses = strings.Fields(tables)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b file) int { return a.version - b.version })
	for i := 1; i < len(files); i++ {
		if files[i].version == files[i-1].version {
			return nil, fmt.Errorf("cannot list the migrations: %s and %s have the same number", files[i-1].name("up"), files[i].name("up"))
		}
	}
	return files, nil
}

// position is the index of a version in files; -1 for version -1 (nothing
// applied), ok false when there is no such version.
func position(files []file, version int) (int, bool) {
	if version < 0 {
		return -1, true
	}
	i := slices.IndexFunc(files, func(f file) bool { return f.version == version })
	return i, i >= 0
}

var notInTitle = regexp.MustCompile(`[^a-z0-9]+`)

// Create writes the two files of a new migration into dir, numbered after the
// highest there, and returns their paths. It overwrites nothing.
func Create(dir, title string) (up, down string, err error) {
	title = slug(title)
	return CreateWith(dir, title, "-- "+strings.ReplaceAll(title, "_", " ")+": one transaction, so no BEGIN or COMMIT here.\n", "-- loses: \n")
}

// CreateWith is Create with the texts of the files.
func CreateWith(dir, title, upText, downText string) (up, down string, err error) {
	if title = slug(title); title == "" {
		return "", "", errors.New("cannot create a migration without a title: give it a few words, as \"add risk metrics\"")
	}
	files, err := readFiles(os.DirFS(dir))
	if err != nil {
		return "", "", err
	}
	f := file{version: 1, title: title}
	if len(files) > 0 {
		f.version = files[len(files)-1].version + 1
	}
	up, down = filepath.Join(dir, f.name("up")), filepath.Join(dir, f.name("down"))
	if err := writeNew(up, upText); err != nil {
		return "", "", err
	}
	if err := writeNew(down, downText); err != nil {
		return "", "", errors.Join(err, os.Remove(up))
	}
	return up, down, nil
}

func slug(title string) string {
	return strings.Trim(notInTitle.ReplaceAllString(strings.ToLower(title), "_"), "_")
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot create a migration: %w", err)
	}
	w := bufio.NewWriter(f)
	_, err = w.WriteString(text)
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("cannot create a migration: %w", err)
	}
	return nil
}

// Layout names the set of embedded migrations, by their files' names and contents. What can
// be loaded again, as the demo's data, is kept apart for each.
func Layout() string {
	name, err := layoutIn(migrations.Files)
	if err != nil {
		panic("BUG: the embedded migrations cannot be read: " + err.Error())
	}
	return name
}

func layoutIn(in fs.FS) (string, error) {
	files, err := fs.ReadDir(in, ".")
	if err != nil {
		return "", err
	}
	h := fnv.New32a()
	for _, f := range files {
		text, err := fs.ReadFile(in, f.Name())
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(h, "%s\n%d\n%s", f.Name(), len(text), text)
	}
	return fmt.Sprintf("%08x", h.Sum32()), nil
}
