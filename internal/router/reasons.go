package router

import "sort"

// Reason says why a plan is what it is. Reasons are a closed list: the same code
// stands in an error's DETAIL, in qvpgw.last_route, in the metrics and in
// docs/reasons.md.
type Reason string

// Why a text is forwarded as it is, before any route is tried.
const (
	ReasonPlain         Reason = "plain"
	ReasonEmpty         Reason = "empty"
	ReasonNotSelect     Reason = "not_select"
	ReasonMany          Reason = "many_statements"
	ReasonTooLong       Reason = "too_long"
	ReasonTooDeep       Reason = "too_deep"
	ReasonMalformed     Reason = "malformed"
	ReasonBackslash     Reason = "backslash"
	ReasonUnparsed      Reason = "unparsed"
	ReasonNoCatalog     Reason = "no_catalog"
	ReasonUnclean       Reason = "unclean"
	ReasonMovingLiteral Reason = "moving_literal"
	ReasonSettings      Reason = "settings_unknown"
	ReasonRouteOff      Reason = "route_off"
	ReasonLocal         Reason = "local"
)

// Why a k-NN query is cached, or is not.
const (
	ReasonKNN           Reason = "knn"
	ReasonKNNOff        Reason = "knn_cache_off"
	ReasonKNNForm       Reason = "knn_form"
	ReasonKNNTable      Reason = "knn_table"
	ReasonKNNLimit      Reason = "knn_limit"
	ReasonKNNOrder      Reason = "knn_order"
	ReasonKNNOutput     Reason = "knn_output"
	ReasonKNNFilter     Reason = "knn_filter"
	ReasonKNNSecurity   Reason = "knn_row_security"
	ReasonKNNInRecovery Reason = "knn_in_recovery"
	ReasonKNNNoRound    Reason = "knn_no_round"
)

// ReasonAggregate is the reason of every plan that reads a continuous aggregate.
const ReasonAggregate Reason = "aggregate"

// rulePrefix and a rule's name make the reason of its refusal.
const rulePrefix = "rule_"

var generalReasons = map[Reason]string{
	ReasonPlain:         "A query without an aggregate over a hypertable and without a k-NN order: there is nothing to gain.",
	ReasonEmpty:         "White space and comments alone.",
	ReasonNotSelect:     "Only the server can run it: it is no SELECT.",
	ReasonMany:          "Several statements in one text share a transaction, so they go together.",
	ReasonTooLong:       "The text is longer than 1 MB: it is not parsed.",
	ReasonTooDeep:       "The text nests or chains expressions deeper than 500: it is not parsed.",
	ReasonMalformed:     "A literal or comment does not end, or the bytes are not UTF-8: it is not parsed.",
	ReasonBackslash:     "A plain literal has a backslash and standard_conforming_strings is off: it is not parsed.",
	ReasonUnparsed:      "The parser does not take it: the server says what is wrong, or knows newer syntax.",
	ReasonNoCatalog:     "The catalog has not been read yet.",
	ReasonUnclean:       "It may run code that is not known: a user's function, operator, type, trigger or policy.",
	ReasonMovingLiteral: "A literal may mean a moment relative to now ('now', 'today', …): it is never shared, rewritten or cached.",
	ReasonSettings:      "The session may hold settings that were not followed.",
	ReasonRouteOff:      "qvpgw.route is off, or the configuration has routes off for the database or the table.",
	ReasonLocal:         "The gateway answers it itself.",

	ReasonAggregate: "Answered from a continuous aggregate.",
}

var knnReasons = map[Reason]string{
	ReasonKNN:           "A k-NN query: the answer may be kept and is validated on every use.",
	ReasonKNNOff:        "qvpgw.cache is off.",
	ReasonKNNForm:       "A k-NN order in a query with a join that is not on columns, a sub-query, grouping, locking or the like.",
	ReasonKNNTable:      "The k-NN query reads something other than permanent tables.",
	ReasonKNNLimit:      "The k-NN query has no LIMIT, one WITH TIES, or LIMIT or OFFSET is more than a number or parameter.",
	ReasonKNNOrder:      "The k-NN order is not column <operator> vector, or an output column that is it, then plain columns.",
	ReasonKNNOutput:     "An output column of the k-NN query is not known to depend on the row and the vector alone.",
	ReasonKNNFilter:     "A condition of the k-NN query is not known to be immutable.",
	ReasonKNNSecurity:   "The table of the k-NN query has row level security.",
	ReasonKNNInRecovery: "The server is a standby, where an equal snapshot does not prove equal rows.",
	ReasonKNNNoRound:    "The server could not be asked what has changed.",
}

var ruleReasons = map[Reason]string{
	"rule_delete_without_where": "Refused: DELETE without WHERE.",
	"rule_update_without_where": "Refused: UPDATE without WHERE.",
	"rule_truncate_hypertable":  "Refused: TRUNCATE of a hypertable.",
	"rule_drop_hypertable":      "Refused: DROP of a hypertable.",
	"rule_unbounded_scan":       "Refused: raw rows of a hypertable without a time condition and without LIMIT.",
	"rule_copy_program":         "Refused: COPY from or to a program on the server.",
	"rule_large_offset":         "Refused: a large OFFSET, whose rows are read and thrown away.",
}

// reasonTables are all reasons there are, in the order of docs/reasons.md.
var reasonTables = []struct {
	title string
	texts map[Reason]string
}{
	{"Forwarded", generalReasons},
	{"Continuous aggregates", aggregateReasons},
	{"k-NN", knnReasons},
	{"Functions", inlineReasons},
	{"Rules", ruleReasons},
	{"Executions", runReasons},
}

// Text returns the reason's one-line explanation, "" for a reason that is not in
// the list.
func (r Reason) Text() string {
	for _, t := range reasonTables {
		if s, ok := t.texts[r]; ok {
			return s
		}
	}
	return ""
}

// Reasons returns every reason there is, sorted: what a metric's label or a
// reader of qvpgw.last_route may see.
func Reasons() []Reason {
	var all []Reason
	for _, t := range reasonTables {
		for r := range t.texts {
			all = append(all, r)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all
}
