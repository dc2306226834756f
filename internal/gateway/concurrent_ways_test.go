package gateway_test

import (
	"fmt"
	"strings"
)

// ways are the ways to ask a question that an aggregate may answer.
var ways = []string{
	"simple", "text", "in a transaction", "in a transaction, text", "three in a transaction", "at repeatable read",
	"cursor", "cursor, text", "cursor in one text", "three with one Sync",
}

// askedOf asks a question, as often as that way does, and says how the last of them was
// answered.
func askedOf(on *peer, sql, how string) (answers []string, route string) {
	const declare = "DECLARE c CURSOR FOR "
	text, _ := asks(sql, nil, "text")
	one := func(list ...message) string { on.send(list...); return answerOf(on.reply(1)) }
	fetched := func(declared string) (answers []string, route string) {
		route = on.route()
		return []string{rowsOfCursor(declared + "\n" + answerOf(on.query("FETCH FORWARD 1 FROM c")) + "\n" + answerOf(on.query("FETCH ALL FROM c")))}, route
	}
	switch how {
	case "simple":
		return []string{one(simple(sql))}, on.route()
	case "text":
		return []string{one(text...)}, on.route()
	case "cursor in one text":
		defer on.must("ROLLBACK")
		return fetched(answerOf(on.query("BEGIN;" + declare + sql + ";FETCH 1 FROM c")))
	case "at repeatable read":
		on.must("BEGIN ISOLATION LEVEL REPEATABLE READ")
	default:
		on.must("BEGIN")
	}
	defer on.must("ROLLBACK")
	switch how {
	case "in a transaction":
		answers = []string{one(simple(sql))}
	case "in a transaction, text":
		answers = []string{one(text...)}
	case "at repeatable read":
		answers = []string{one(simple(sql)), one(text...)}
	case "three in a transaction":
		on.send(append(append(append([]message{}, text...), text...), text...)...)
		for range 3 {
			answers = append(answers, answerOf(on.reply(1)))
		}
	case "three with one Sync":
		again := text[:len(text)-1]
		on.send(append(append(append([]message{}, again...), again...), text...)...)
		for a := range strings.SplitAfterSeq(answerOf(on.reply(1)), "complete SELECT 2\n") {
			answers = append(answers, strings.TrimSpace(a))
		}
	case "cursor":
		return fetched(one(simple(declare + sql)))
	case "cursor, text":
		text, _ = asks(declare+sql, nil, "text")
		return fetched(one(text...))
	}
	return answers, on.route()
}

// rowsOfCursor is what a cursor gave as a SELECT gives it.
func rowsOfCursor(replies string) string {
	var rows []string
	for l := range strings.Lines(replies) {
		switch word, _, _ := strings.Cut(l, " "); word {
		case "row":
			rows = append(rows, strings.TrimSpace(l))
		case "ERROR", "FATAL":
			return strings.TrimSpace(l)
		}
	}
	return strings.Join(append(rows, fmt.Sprintf("complete SELECT %d", len(rows))), "\n")
}
