package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strconv"
)

// A config file has a few kilobytes and three levels. The YAML parser takes memory
// by the square of the depth (1 MiB of "[" took more than 20 GB), so what is far
// beyond a configuration does not reach it.
const (
	maxFile    = 1 << 18 // bytes
	maxNesting = 100     // open brackets, or columns of indentation and dashes
)

// environ lists the names that work without a config file too, and the keys that
// they set. They stand above the file, as the environment usually does.
var environ = []struct{ name, key string }{
	{"QVPGW_LISTEN", "listen"},
	{"QVPGW_HTTP", "http"},
	{"POSTGRES_HOST", "backend.host"},
	{"POSTGRES_PORT", "backend.port"},
	{"POSTGRES_DB", "backend.database"},
	{"POSTGRES_USER", "backend.user"},
	{"POSTGRES_PASSWORD", "backend.password"},
	{"POSTGRES_POOL_SIZE", "pool.size"},
	{"POSTGRES_MAX_OVERFLOW", "pool.overflow"},
	{"TIMESCALEDB_ENABLED", "schema.timescaledb"},
	{"PGVECTOR_ENABLED", "schema.pgvector"},
}

// Load returns the configuration: the defaults, changed by the file at path ("":
// no file), changed by the names in environ that env or the file dotenv ("": none;
// it need not exist) give a value. env wins over dotenv; an empty value counts as
// unset. The error is Problems, with everything that is wrong at once.
func Load(path string, env func(string) (string, bool), dotenv string) (*Config, error) {
	c := Default()
	dot, problems := readDotenv(dotenv)
	lookup := func(name string) (string, bool) {
		if v, ok := env(name); ok {
			return v, true
		}
		v, ok := dot[name]
		return v, ok
	}
	if path != "" {
		text, err := readFile(path)
		if err != nil {
			problems = append(problems, Problem{path, "cannot read the configuration: " + err.Error()})
		} else {
			d := decoder{file: path, lookup: lookup, where: c.where}
			d.document(text, reflect.ValueOf(c).Elem())
			problems = append(problems, d.problems...)
		}
	}
	problems = append(problems, c.environment(lookup)...)
	problems = append(problems, c.problems()...)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	return c, nil
}

func readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.New(reason(err))
	}
	if len(text) > maxFile {
		return nil, errors.New("it has " + strconv.Itoa(len(text)) + " bytes, more than a configuration can have")
	}
	if line := tooDeep(text); line > 0 {
		return nil, errors.New("line " + strconv.Itoa(line) + " is nested deeper than a configuration can be")
	}
	return text, nil
}

// tooDeep returns the number of the first line that is nested deeper than
// maxNesting, or 0. It counts brackets in quotes and comments too.
func tooDeep(text []byte) int {
	depth, number := 0, 0
	for line := range bytes.Lines(text) {
		number++
		if len(line)-len(bytes.TrimLeft(line, " \t-?:")) > maxNesting {
			return number
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxNesting {
				return number
			}
		}
	}
	return 0
}

// reason is err without the path that a Problem names already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func (c *Config) environment(lookup func(string) (string, bool)) Problems {
	var problems Problems
	for _, e := range environ {
		text, ok := lookup(e.name)
		if !ok || text == "" {
			continue
		}
		field, _ := c.field(e.key)
		if err := setScalar(field, text); err != nil {
			problems = append(problems, Problem{e.name, err.Error()})
			continue
		}
		c.where[e.key] = e.name
	}
	return problems
}

// field finds the scalar of a dotted key.
func (c *Config) field(key string) (v reflect.Value, ok bool) {
	walk(reflect.ValueOf(c).Elem(), "", func(k string, f reflect.Value) {
		if k == key {
			v, ok = f, true
		}
	})
	return v, ok
}

// walk calls f for every leaf of a struct (scalars, lists and maps) in the order
// of declaration.
func walk(v reflect.Value, prefix string, f func(key string, field reflect.Value)) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		switch {
		case tag == "":
		case v.Field(i).Kind() == reflect.Struct:
			walk(v.Field(i), prefix+tag+".", f)
		default:
			f(prefix+tag, v.Field(i))
		}
	}
}
