package admin

import (
	"fmt"
	"slices"
	"strings"
)

// Command is one statement of the console.
type Command struct {
	Verb  string // "SHOW", or what is to be done: "PAUSE"
	Topic string // what to SHOW: "POOLS"
	Name  string // of the database or the client's id; "": all
}

// verbs are the commands that do something, with what they take and do.
var verbs = []struct{ name, takes, does string }{
	{"DISABLE", "database", "refuses new clients"},
	{"ENABLE", "database", "admits them again"},
	{"KILL", "[database]", "drops clients and server connections at once; clients wait until RESUME"},
	{"KILL_CLIENT", "id", "drops the client with that id (SHOW CLIENTS)"},
	{"PAUSE", "[database]", "closes server connections as they become free and returns when none is left; clients wait until RESUME"},
	{"RECONNECT", "[database]", "replaces each server connection as it becomes free"},
	{"RELOAD", "", "reads the configuration again; what is wrong with it changes nothing"},
	{"RESUME", "[database]", "ends PAUSE and KILL"},
	{"SHUTDOWN", "[WAIT_FOR_SERVERS]", "ends the gateway: at once, or as SIGTERM does when the transactions under way have ended"},
	{"WAIT_CLOSE", "[database]", "returns when RECONNECT and RELOAD have no connection left to close"},
}

// Error is what the console answers to a statement that it does not have.
type Error struct {
	Code    string // SQLSTATE
	Message string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// topics are what SHOW takes, with what it answers.
var topics = []struct{ name, answers string }{
	{"CACHE", "answers kept of k-NN queries: a row for each table, figure and reason"},
	{"CLIENTS", "clients, with what keeps their server connection"},
	{"CONFIG", "configuration keys, their values and where they come from"},
	{"DATABASES", "databases that clients have asked for"},
	{"HELP", "this table"},
	{"LISTS", "how many of everything there are"},
	{"LOGINS", "logins that failed since the gateway was started, by reason"},
	{"PINS", "clients that keep their server connection, a row for each reason"},
	{"POOLS", "server connections by database and user"},
	{"SERVERS", "server connections"},
	{"STATS", "totals and one-minute averages by database"},
	{"USERS", "users that clients have logged in as"},
	{"VERSION", "the program's version"},
}

// elsewhere are commands of PgBouncer's console that this one has not.
var elsewhere = []string{
	"SUSPEND", "SET",
}

// ParseCommand reads one statement of the console, whose words are in any case and
// which may end with a semicolon. The error is an *Error: 0A000 for a command or
// table of PgBouncer that is not here, 42601 for anything else; its hint names what
// is here.
func ParseCommand(text string) (Command, error) {
	given := strings.Fields(strings.TrimRight(strings.TrimSpace(text), "; \t\r\n"))
	words := strings.Fields(strings.ToUpper(strings.Join(given, " ")))
	hint := "This is the gateway's console: SHOW " + strings.Join(topicNames(), ", SHOW ") + "; SHOW HELP lists what else there is."
	if len(words) == 0 {
		return Command{}, &Error{"42601", "the console got an empty statement", hint}
	}
	for _, v := range verbs {
		if v.name != words[0] {
			continue
		}
		c := Command{Verb: v.name}
		switch {
		case len(words) == 2 && v.takes != "":
			c.Name = unquote(given[1])
		case len(words) > 1 || v.takes != "" && v.takes[0] != '[':
			return Command{}, &Error{"42601", strings.TrimSpace("write " + v.name + " " + v.takes), "It " + v.does + "."}
		}
		return c, nil
	}
	if words[0] != "SHOW" {
		if slices.Contains(elsewhere, words[0]) {
			return Command{}, &Error{"0A000", words[0] + " is not supported by this console", hint}
		}
		return Command{}, &Error{"42601", fmt.Sprintf("the console does not know %q", clip(text)), hint}
	}
	if len(words) == 2 && slices.Contains(topicNames(), words[1]) {
		return Command{Verb: "SHOW", Topic: words[1]}, nil
	}
	return Command{}, &Error{"0A000", fmt.Sprintf("the console cannot %q", clip(text)), hint}
}

// unquote takes the double quotes off a name.
func unquote(name string) string {
	if n := len(name); n >= 2 && name[0] == '"' && name[n-1] == '"' {
		return strings.ReplaceAll(name[1:n-1], `""`, `"`)
	}
	return name
}

func topicNames() []string {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.name
	}
	return names
}

// clip shortens a statement for a message.
func clip(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return text
}
