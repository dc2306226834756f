package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// readDotenv reads NAME=value lines: empty lines, # comments, "export ", single
// quotes (as they stand) and double quotes (\n, \t, \", \\ and \$ replaced) are
// understood. No file, or path "", gives an empty map.
func readDotenv(path string) (map[string]string, Problems) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, Problems{{Where: path, Text: "cannot read it: " + reason(err)}}
	}
	return parseDotenv(path, string(text))
}

func parseDotenv(path, text string) (map[string]string, Problems) {
	values := map[string]string{}
	var problems Problems
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(strings.TrimSuffix(line, "\r"))
		if i == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, err := dotenvLine(line)
		if err != nil {
			problems = append(problems, Problem{fmt.Sprintf("%s:%d", path, i+1), err.Error()})
			continue
		}
		values[name] = value
	}
	return values, problems
}

func dotenvLine(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || !isName(name) {
		return "", "", errors.New("not a NAME=value line") // the line may hold a secret: not quoted
	}
	if value == "" {
		return name, "", nil
	}
	quote := value[0]
	if quote != '\'' && quote != '"' {
		if i := strings.Index(value, " #"); i >= 0 {
			value = strings.TrimSpace(value[:i])
		}
		return name, value, nil
	}
	var out strings.Builder
	for i := 1; i < len(value); i++ {
		c := value[i]
		if c == quote {
			rest := strings.TrimSpace(value[i+1:])
			if rest != "" && rest[0] != '#' {
				return "", "", fmt.Errorf("text after the closing quote of %s", name)
			}
			return name, out.String(), nil
		}
		if c == '\\' && quote == '"' && i+1 < len(value) {
			i++
			switch c = value[i]; c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case '"', '\\', '$':
			default:
				out.WriteByte('\\')
			}
		}
		out.WriteByte(c)
	}
	return "", "", fmt.Errorf("the value of %s has no closing quote", name)
}
