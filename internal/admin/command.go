package admin

import (
	"fmt"
	"slices"
	"strings"
)

// Command is one statement of the console.
type Command struct {
	Topic string // what to SHOW: "POOLS"; "" for RELOAD
}

// Tag is the command's tag for CommandComplete.
func (c Command) Tag() string {
	if c.Topic == "" {
		return "RELOAD"
	}
	return "SHOW"
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
	{"CLIENTS", "clients, with what keeps their server connection"},
	{"CONFIG", "configuration keys, their values and where they come from"},
	{"DATABASES", "databases that clients have asked for"},
	{"HELP", "this table"},
	{"LISTS", "how many of everything there are"},
	{"PINS", "clients that keep their server connection, a row for each reason"},
	{"POOLS", "server connections by database and user"},
	{"SERVERS", "server connections"},
	{"STATS", "totals and one-minute averages by database"},
	{"USERS", "users that clients have logged in as"},
	{"VERSION", "the program's version"},
}

// elsewhere are commands of PgBouncer's console that this one has not.
var elsewhere = []string{
	"PAUSE", "RESUME", "SHUTDOWN", "SUSPEND", "DISABLE", "ENABLE", "RECONNECT", "KILL", "KILL_CLIENT", "WAIT_CLOSE", "SET",
}

// ParseCommand reads one statement of the console, whose words are in any case and
// which may end with a semicolon. The error is an *Error: 0A000 for a command or
// table of PgBouncer that is not here, 42601 for anything else; its hint names what
// is here.
func ParseCommand(text string) (Command, error) {
	words := strings.Fields(strings.ToUpper(strings.TrimRight(strings.TrimSpace(text), "; \t\r\n")))
	hint := "This is the gateway's console: SHOW " + strings.Join(topicNames(), ", SHOW ") + ", RELOAD."
	if len(words) == 0 {
		return Command{}, &Error{"42601", "the console got an empty statement", hint}
	}
	if len(words) == 1 && words[0] == "RELOAD" {
		return Command{}, nil
	}
	if words[0] != "SHOW" && words[0] != "RELOAD" {
		if slices.Contains(elsewhere, words[0]) {
			return Command{}, &Error{"0A000", words[0] + " is not supported by this console", hint}
		}
		return Command{}, &Error{"42601", fmt.Sprintf("the console does not know %q", clip(text)), hint}
	}
	if len(words) == 2 && slices.Contains(topicNames(), words[1]) {
		return Command{Topic: words[1]}, nil
	}
	return Command{}, &Error{"0A000", fmt.Sprintf("the console cannot %q", clip(text)), hint}
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
