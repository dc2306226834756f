package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// fixedAtLogin are the settings that a server connection gets as it logs in or never
// (PostgreSQL's contexts backend and superuser-backend).
var fixedAtLogin = []string{
	"ignore_system_indexes", "jit_debugging_support", "jit_profiling_support", "log_connections", "log_disconnections", "post_auth_delay",
}

// requested are the session settings that a startup message asks for; fixed are those
// of fixedAtLogin, nil for none. Who the session is authorized as is no setting of it:
// the login has the last word.
func requested(m *wire.Startup) (list []pool.Setting, fixed map[string]string, err error) {
	options, _ := m.Param("options")
	pairs, err := parseOptions(options)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range m.Params {
		switch {
		case p.Name == "user", p.Name == "database", p.Name == "options", p.Name == "replication", strings.HasPrefix(p.Name, "_pq_."):
		default:
			pairs = append(pairs, p)
		}
	}
	for _, p := range pairs {
		name := strings.ToLower(p.Name)
		switch {
		case name == "session_authorization":
		case slices.Contains(fixedAtLogin, name):
			if fixed == nil {
				fixed = map[string]string{}
			}
			fixed[name] = p.Value
		default:
			value := p.Value
			if name == "application_name" {
				value = clean(value)
			}
			list = slices.DeleteFunc(list, func(x pool.Setting) bool { return x.Name == name })
			list = append(list, pool.Setting{Name: name, SQL: pool.SetStatement(name, value)})
		}
	}
	return list, fixed, nil
}

// clean is what the server makes of an application's name, in whatever encoding it is
// (PostgreSQL's pg_clean_ascii).
func clean(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// optionsOfServer are the switches of the options parameter, as getopt has them:
// those with a colon take an argument (PostgreSQL 17, process_postgres_switches).
const optionsOfServer = "B:bC:c:D:d:EeFf:h:ijk:lN:nOPp:r:S:sTt:v:W:-:"

// settingOf is the setting that a switch stands for; the argument is its value, or
// what follows the blank is.
var settingOf = map[byte]string{
	'B': "shared_buffers", 'e': "datestyle euro", 'F': "fsync false", 'h': "listen_addresses", 'i': "listen_addresses *",
	'k': "unix_socket_directories", 'l': "ssl true", 'N': "max_connections", 'O': "allow_system_table_mods true",
	'P': "ignore_system_indexes true", 'p': "port", 'S': "work_mem", 's': "log_statement_stats true", 'W': "post_auth_delay",
}

// planSettings are switched off by -f, by the first letter of its argument.
var planSettings = map[byte]string{
	's': "enable_seqscan", 'i': "enable_indexscan", 'o': "enable_indexonlyscan", 'b': "enable_bitmapscan",
	't': "enable_tidscan", 'n': "enable_nestloop", 'm': "enable_mergejoin", 'h': "enable_hashjoin",
}

// parseOptions returns the settings that the options parameter asks for. The errors
// are the server's.
func parseOptions(options string) (pairs []wire.Param, err error) {
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		word := words[i]
		if word == "--" && i+1 == len(words) {
			break
		}
		if word == "--" { // no switch comes behind it
			return nil, invalidOption(words[i+1])
		}
		if len(word) < 2 || word[0] != '-' {
			return nil, invalidOption(word)
		}
		for at := 1; at < len(word); at++ {
			letter, arg := word[at], ""
			known, takes, _ := strings.Cut(optionsOfServer, string(letter))
			switch {
			case known == optionsOfServer || letter == ':':
				return nil, invalidOption(word)
			case !strings.HasPrefix(takes, ":"):
			case at+1 < len(word):
				arg, at = word[at+1:], len(word)
			case i+1 < len(words):
				i++
				arg = words[i]
			default:
				return nil, invalidOption(word)
			}
			list, ok, err := option(letter, arg)
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, invalidOption(word)
			}
			pairs = append(pairs, list...)
		}
	}
	return pairs, nil
}

func invalidOption(word string) *Error {
	return fatal("42601", "invalid command-line argument for server process: "+word, `Try "postgres --help" for more information.`)
}

// option returns what one switch sets: nothing for those that are for a server that
// is started by hand. false: its argument means nothing.
func option(letter byte, arg string) (list []wire.Param, ok bool, err error) {
	one := func(name, value string) ([]wire.Param, bool, error) {
		return []wire.Param{{Name: name, Value: value}}, name != "", nil
	}
	switch letter {
	case 'c', '-':
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			before := map[byte]string{'c': "-c ", '-': "--"}[letter]
			return nil, false, fatal("42601", fmt.Sprintf("%s%s requires a value", before, arg), "")
		}
		return []wire.Param{{Name: strings.ReplaceAll(name, "-", "_"), Value: value}}, true, nil
	case 'd':
		return debugSettings(arg), true, nil
	case 'f':
		return one(planSettings[(arg + " ")[0]], "false")
	case 't':
		for prefix, name := range map[string]string{"pa": "log_parser_stats", "pl": "log_planner_stats", "e": "log_executor_stats"} {
			if strings.HasPrefix(arg, prefix) {
				return one(name, "true")
			}
		}
		return nil, false, nil
	}
	name, value, fixed := strings.Cut(settingOf[letter], " ")
	switch {
	case name == "":
		return nil, true, nil
	case fixed:
		return one(name, value)
	}
	return one(name, arg)
}

// debugSettings are those of -d.
func debugSettings(level string) []wire.Param {
	n, _ := strconv.Atoi(level)
	if n <= 0 {
		return []wire.Param{{Name: "log_min_messages", Value: "notice"}}
	}
	list := []wire.Param{{Name: "log_min_messages", Value: "debug" + strconv.Itoa(n)}}
	if n >= 2 {
		list = append(list, wire.Param{Name: "log_statement", Value: "all"})
	}
	for i, name := range []string{"debug_print_parse", "debug_print_plan", "debug_print_rewritten"} {
		if n >= 3+i {
			list = append(list, wire.Param{Name: name, Value: "true"})
		}
	}
	return list
}

// splitOptions cuts at blanks that have no backslash before them, as PostgreSQL's
// pg_split_opts does.
func splitOptions(options string) (words []string) {
	var w strings.Builder
	in := false
	for i := 0; i < len(options); i++ {
		switch c := options[i]; {
		case c == '\\' && i+1 < len(options):
			i++
			w.WriteByte(options[i])
			in = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r':
			if in {
				words = append(words, w.String())
				w.Reset()
			}
			in = false
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, w.String())
	}
	return words
}
