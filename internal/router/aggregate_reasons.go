package router

// Why a query is not answered from a continuous aggregate. The planner gives the
// first condition that fails.
const (
	ReasonAggNoAggregates   Reason = "aggregate_none"
	ReasonAggNotSelect      Reason = "aggregate_not_select"
	ReasonAggSettings       Reason = "aggregate_settings"
	ReasonAggCatalog        Reason = "aggregate_catalog"
	ReasonAggVersion        Reason = "aggregate_timescaledb_version"
	ReasonAggUserCode       Reason = "aggregate_user_code"
	ReasonAggSetOperation   Reason = "aggregate_set_operation"
	ReasonAggCTE            Reason = "aggregate_cte"
	ReasonAggJoin           Reason = "aggregate_join"
	ReasonAggOuterJoin      Reason = "aggregate_outer_join"
	ReasonAggSubquery       Reason = "aggregate_subquery"
	ReasonAggWindow         Reason = "aggregate_window"
	ReasonAggDistinct       Reason = "aggregate_distinct"
	ReasonAggLocking        Reason = "aggregate_locking"
	ReasonAggCursor         Reason = "aggregate_cursor"
	ReasonAggGroupingSets   Reason = "aggregate_grouping_sets"
	ReasonAggFrom           Reason = "aggregate_from"
	ReasonAggNotHypertable  Reason = "aggregate_not_hypertable"
	ReasonAggHierarchical   Reason = "aggregate_hierarchical"
	ReasonAggRowSecurity    Reason = "aggregate_row_security"
	ReasonAggTimeType       Reason = "aggregate_time_type"
	ReasonAggNotGrouped     Reason = "aggregate_not_grouped"
	ReasonAggGroupBy        Reason = "aggregate_group_by"
	ReasonAggOrderBy        Reason = "aggregate_order_by"
	ReasonAggLimit          Reason = "aggregate_limit"
	ReasonAggColumn         Reason = "aggregate_column"
	ReasonAggUngrouped      Reason = "aggregate_ungrouped_column"
	ReasonAggExpression     Reason = "aggregate_expression"
	ReasonAggOperator       Reason = "aggregate_operator"
	ReasonAggType           Reason = "aggregate_type"
	ReasonAggFunction       Reason = "aggregate_function"
	ReasonAggVolatile       Reason = "aggregate_volatile"
	ReasonAggCall           Reason = "aggregate_call"
	ReasonAggFilterClause   Reason = "aggregate_filter_clause"
	ReasonAggArgument       Reason = "aggregate_argument"
	ReasonAggTimeFilter     Reason = "aggregate_time_filter"
	ReasonAggTimeParameter  Reason = "aggregate_time_parameter"
	ReasonAggTimeBound      Reason = "aggregate_time_bound"
	ReasonAggBucket         Reason = "aggregate_bucket"
	ReasonAggZone           Reason = "aggregate_time_zone"
	ReasonAggDefinition     Reason = "aggregate_definition"
	ReasonAggDimension      Reason = "aggregate_dimension"
	ReasonAggGroupType      Reason = "aggregate_group_type"
	ReasonAggNotStored      Reason = "aggregate_not_stored"
	ReasonAggValueType      Reason = "aggregate_value_type"
	ReasonAggFirstTies      Reason = "aggregate_first_last"
	ReasonAggNotMaterial    Reason = "aggregate_not_materialized"
	ReasonAggNarrow         Reason = "aggregate_range_narrow"
	ReasonAggNoChangeLog    Reason = "aggregate_no_change_log"
	ReasonAggNotSettled     Reason = "aggregate_not_settled"
	ReasonAggNotRefreshable Reason = "aggregate_not_refreshable"
	ReasonAggCheaperRaw     Reason = "aggregate_cheaper_raw"
	ReasonAggRoundTrip      Reason = "aggregate_round_trip"
)

// aggregateReasons explains each reason in one line, with what would make the
// query routable where something would.
var aggregateReasons = map[Reason]string{
	ReasonAggNoAggregates:   "The database has no continuous aggregate, or none over this hypertable.",
	ReasonAggNotSelect:      "Only a plain SELECT is answered from an aggregate.",
	ReasonAggSettings:       "The session holds settings that were not followed, or standard_conforming_strings is off.",
	ReasonAggCatalog:        "The catalog lacks something that the proof needs, as the aggregate's chunks; it is read again soon.",
	ReasonAggVersion:        "The proof of freshness is known for TimescaleDB 2.11 to 2.29 only.",
	ReasonAggUserCode:       "A function, operator, type or cast of that name is a user's, so its meaning is not known.",
	ReasonAggSetOperation:   "No arm of UNION, INTERSECT or EXCEPT aggregates a hypertable; VALUES reads none.",
	ReasonAggCTE:            "The aggregate is over a WITH query that is more than columns and conditions of one table.",
	ReasonAggJoin:           "A join is of two hypertables, with something else than a table of the catalog, NATURAL, or of a form that is not followed.",
	ReasonAggOuterJoin:      "An outer join may fill up the hypertable's columns with NULL, which counts as a row.",
	ReasonAggSubquery:       "The aggregate is over a sub-query that is more than columns and conditions of one table, or an expression has one.",
	ReasonAggWindow:         "A window function is not one of the built-in ones that are followed, or reads rows instead of groups.",
	ReasonAggDistinct:       "DISTINCT ON is not routed.",
	ReasonAggLocking:        "FOR UPDATE and FOR SHARE lock raw rows.",
	ReasonAggCursor:         "The cursor is WITH HOLD or NO SCROLL, or what it reads is more than one SELECT that groups.",
	ReasonAggGroupingSets:   "GROUP BY DISTINCT is not routed, nor GROUPING without GROUP BY, nor grouping sets over columns that the condition fixes.",
	ReasonAggFrom:           "ONLY, TABLESAMPLE, column aliases, functions, views and system tables in FROM are not routed.",
	ReasonAggNotHypertable:  "The table in FROM is not a hypertable.",
	ReasonAggHierarchical:   "The table in FROM holds the rows of an aggregate itself.",
	ReasonAggRowSecurity:    "Row security is on for the hypertable: each user may see other rows.",
	ReasonAggTimeType:       "The time column is neither timestamp nor timestamptz nor an integer.",
	ReasonAggNotGrouped:     "The query neither groups nor aggregates.",
	ReasonAggGroupBy:        "GROUP BY names an expression without a column, or an output column that is ambiguous.",
	ReasonAggOrderBy:        "ORDER BY uses an operator, a constant or an ambiguous output column.",
	ReasonAggLimit:          "LIMIT is more than a number or parameter, or has WITH TIES.",
	ReasonAggColumn:         "A column is not one of the hypertable's own, as *, a whole row or a system column.",
	ReasonAggUngrouped:      "A column is neither grouped nor aggregated.",
	ReasonAggExpression:     "An expression is of a kind that is not followed.",
	ReasonAggOperator:       "An operator is not one of the built-in ones that are followed.",
	ReasonAggType:           "A cast is to a type that is not followed.",
	ReasonAggFunction:       "A function is not one of the built-in immutable ones that are followed.",
	ReasonAggVolatile:       "A function gives another value on each call.",
	ReasonAggCall:           "The aggregate function cannot be derived from stored partials.",
	ReasonAggFilterClause:   "ORDER BY and WITHIN GROUP inside an aggregate call are not routed; FILTER and DISTINCT are where they look at grouped columns only.",
	ReasonAggArgument:       "An aggregate's argument must be a column, and the time column as the second of first and last.",
	ReasonAggTimeFilter:     "The time column is compared otherwise than by >=, >, <, <=, = or BETWEEN with a value, joined by AND.",
	ReasonAggTimeParameter:  "A bound of the time range is a parameter; its value is not known when the statement is planned.",
	ReasonAggTimeBound:      "A bound of the time range is not a literal or now() arithmetic that is followed.",
	ReasonAggBucket:         "The query's bucket is finer than every aggregate's, or on a grid that does not align with it.",
	ReasonAggZone:           "The bucket follows a time zone whose offsets do not align with the aggregate's bucket.",
	ReasonAggDefinition:     "The aggregates of this hypertable are defined in a way that is not followed (a join, WHERE, HAVING, a time zone, the old format).",
	ReasonAggDimension:      "The query filters or groups by a column that no aggregate groups by.",
	ReasonAggGroupType:      "Equal values of a grouped column may look different (numeric, float, citext, nondeterministic collation).",
	ReasonAggNotStored:      "No aggregate holds what the call is derived from (avg needs sum and count of the column).",
	ReasonAggValueType:      "Partial values of this type cannot be put together exactly (sum of real, min of numeric without scale).",
	ReasonAggFirstTies:      "first and last are derived only when every column that the aggregate groups by is grouped or fixed by =.",
	ReasonAggNotMaterial:    "Nothing in the query's range is materialized; refresh the aggregate.",
	ReasonAggNoChangeLog:    "MERGE on the hypertable would not be noticed: the triggers of the change log are missing (schema.change_log); or set route.mode to watermark.",
	ReasonAggNotSettled:     "The gateway has not yet made sure that nobody wrote unnoticed while the aggregate was refreshed (schema.settle); it does so soon after a refresh.",
	ReasonAggNotRefreshable: "The gateway may not refresh the aggregate, so it cannot settle it: its role must own it, and TimescaleDB must be 2.18 or newer.",
	ReasonAggNarrow:         "The query's range holds no whole bucket of an aggregate.",
	ReasonAggCheaperRaw:     "The raw rows in the query's range are so few, by ANALYZE, that reading them is cheaper than the proof (route.choice).",
	ReasonAggRoundTrip:      "The rewritten text did not parse back to what was meant.",
}
