package router

import (
	"slices"
	"strconv"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rules"
	"qvpgw/internal/sqltext"
)

// The guard before the parser, which recurses: a text of 64,000 chained operators
// (128 KB) overruns its stack and ends the process.
const (
	maxText  = 1 << 20 // bytes
	maxDepth = 500     // nesting, and operators in one expression
)

// Plans of texts that are not parsed.
var (
	planTooLong   = unparsed(ReasonTooLong)
	planTooDeep   = unparsed(ReasonTooDeep)
	planMalformed = unparsed(ReasonMalformed)
	planBackslash = unparsed(ReasonBackslash)
	planEmpty     = &Plan{Action: Pass, Reason: ReasonEmpty, Statements: []Statement{}}
)

func unparsed(r Reason) *Plan {
	return &Plan{Action: Pass, Reason: r, Pins: PinUnparsed, Leaves: sqltext.LeavesAnything, Effects: true, Unclean: r.Text()}
}

// unfit returns the plan of a text that must not or need not be parsed, nil for
// the others.
func unfit(c *Context, info sqltext.Info) *Plan {
	switch {
	case info.Malformed:
		return planMalformed
	case info.Statements == 0:
		return planEmpty
	case info.Depth > maxDepth || info.Chain > maxDepth:
		return planTooDeep
	case !c.ConformingStrings && info.Backslash:
		return planBackslash // the parser reads it with the setting on
	}
	return nil
}

// made is a plan and what it depends on besides the text's shape, the context
// and the catalog's fingerprint.
type made struct {
	plan    *Plan
	literal bool      // on the literals of the text
	moment  bool      // on chunks and watermarks
	expires time.Time // on the time, if not zero
	// sketched: it was cheap to find.
	sketched bool
	// template plans other texts of the shape; nil when there is none.
	template *template
}

// plan plans a text that has passed unfit.
func (r *Router) plan(c *Context, st *state, text []byte, info sqltext.Info) made {
	if info.Statements == 1 {
		if local := localAnswer(text, info.Kind, c.ConformingStrings); local != nil {
			return made{plan: &Plan{
				Action: Local, Reason: ReasonLocal, Local: local,
				Statements: []Statement{{Kind: info.Kind}},
			}, literal: true}
		}
	}
	sql := string(text)
	tree, err := pg_query.Parse(sql)
	if err != nil {
		return made{plan: unparsed(ReasonUnparsed), literal: true}
	}
	m := made{plan: &Plan{Action: Pass, Moving: info.Moving, Statements: make([]Statement, 0, len(tree.Stmts))}}
	if len(tree.Stmts) == 0 {
		m.plan = planEmpty
		return m
	}
	sure := c.SettingsKnown
	hidden := false
	at := declaration(tree.Stmts, sql)
	var routed *survey // of the statement that may be answered in another way
	for i, raw := range tree.Stmts {
		s := &survey{c: c, view: st.view, sure: sure}
		stmt := s.statement(raw.Stmt)
		m.add(s, stmt)
		judge(st.rules, &m, s, raw.Stmt)
		sure = sure && !movesNames(stmt)
		hidden = hidden || s.hidden
		if at < 0 || at == i {
			routed = s
		}
	}
	notifies := m.plan.Names.Notifies
	m.plan.Names = names(tree.Stmts, sql)
	m.plan.Names.Notifies = m.plan.Names.Notifies || notifies
	if m.plan.Names.Prepares != "" { // it is prepared again where it is needed
		m.plan.Pins &^= PinPrepare
		m.plan.Leaves &^= sqltext.LeavesPrepared
	}
	switch {
	case m.plan.Action == Refused:
		// It does nothing to the session.
		p := m.plan
		m.plan = &Plan{Action: Refused, Reason: p.Reason, Refusal: p.Refusal, Statements: []Statement{}}
	case at >= 0 && routed.mayAggregate(declared(tree.Stmts[at].Stmt)):
		m.plan.Cursor = cursorIn(tree.Stmts, at)
		r.route(&m, c, st, routed, tree.Stmts[at].Stmt, text, info)
	case len(tree.Stmts) > 1:
		m.plan.Reason = ReasonMany
	case m.plan.Statements[0].Kind != sqltext.Select && copied(tree.Stmts[0].Stmt) == nil:
		m.plan.Reason = ReasonNotSelect
	default:
		r.route(&m, c, st, routed, tree.Stmts[0].Stmt, text, info)
	}
	m.plan.mentioned = m.plan.mentions(tree.Stmts, st.view, hidden)
	if m.template != nil {
		m.template.plan.mentioned = m.template.plan.mentions(tree.Stmts, st.view, hidden)
	}
	m.plan.Plain = m.plan.plain()
	return m
}

// add adds what one statement does to the plan of its text.
func (m *made) add(s *survey, stmt Statement) {
	p := m.plan
	p.Statements = append(p.Statements, stmt)
	p.Pins |= s.pins
	p.Leaves |= s.leaves
	p.Ends |= s.ends
	p.Change.Add(s.change)
	p.Loads = p.Loads || s.loads
	p.Names.Notifies = p.Names.Notifies || s.notifies
	for _, name := range s.settings {
		if !slices.Contains(p.Settings, name) {
			p.Settings = append(p.Settings, name)
		}
	}
	if p.Unclean == "" {
		p.Unclean = s.doubt
	}
	p.Effects = p.Effects || s.pins != 0 || s.leaves|s.ends != 0 || stmt.Setting != nil || stmt.Nextval || stmt.Currval || stmt.DDL || tracked[stmt.Kind]
	m.literal = m.literal || s.literal || stmt.Setting != nil || stmt.Kind == sqltext.Do || stmt.Kind == sqltext.Set
}

// tracked are the kinds of statement whose completion changes what is tracked of
// a session.
var tracked = map[sqltext.Kind]bool{
	sqltext.Begin: true, sqltext.Commit: true, sqltext.Rollback: true, sqltext.Savepoint: true,
	sqltext.Release: true, sqltext.RollbackTo: true, sqltext.PrepareTransaction: true,
	sqltext.CommitPrepared: true, sqltext.RollbackPrepared: true, sqltext.Set: true,
	sqltext.SetLocal: true, sqltext.SetTransaction: true, sqltext.Reset: true, sqltext.Discard: true,
	sqltext.Deallocate: true, sqltext.Prepare: true, sqltext.Execute: true, sqltext.Declare: true,
	sqltext.Fetch: true, sqltext.Close: true, sqltext.Listen: true, sqltext.Unlisten: true, sqltext.Load: true,
	sqltext.Do: true, sqltext.Call: true, sqltext.DDL: true,
}

// movesNames reports whether a statement may change by which schemas and role the
// next one in the same text resolves its names: SET search_path, or the end of a
// transaction that undoes one.
func movesNames(stmt Statement) bool {
	switch stmt.Kind {
	case sqltext.Commit, sqltext.Rollback, sqltext.RollbackTo, sqltext.PrepareTransaction, sqltext.Discard,
		sqltext.Execute, sqltext.Do, sqltext.Call:
		return true
	}
	if stmt.Setting == nil {
		return false
	}
	switch stmt.Setting.Name {
	case "", "search_path", "role", "session_authorization":
		return true
	}
	return false
}

// judge holds a statement against the rules.
func judge(set *rules.Set, m *made, s *survey, n *pg_query.Node) {
	if !set.Any() {
		return
	}
	facts := s.facts
	if sel := n.GetSelectStmt(); sel != nil {
		f := s.selectFacts(sel)
		m.literal = m.literal || f.Offset != 0
		facts = append(facts, f)
	}
	for i := range facts {
		v, ok := set.Check(&facts[i])
		if !ok {
			continue
		}
		refusal := Refusal{Rule: v.Rule, SQLState: v.SQLState, Message: v.Message, Detail: v.Detail, Hint: v.Hint}
		switch {
		case v.Action == rules.Warn:
			refusal.SQLState = warningState
			m.plan.Warnings = append(m.plan.Warnings, refusal)
		case m.plan.Action != Refused:
			m.plan.Action, m.plan.Refusal, m.plan.Reason = Refused, &refusal, Reason(rulePrefix+v.Rule)
		}
	}
}

// warningState is the SQLSTATE of a plain warning (PostgreSQL, appendix A).
const warningState = "01000"

// selectFacts gathers what the rules want to know of a SELECT that stands by
// itself.
func (s *survey) selectFacts(n *pg_query.SelectStmt) rules.Facts {
	f := rules.Facts{
		Kind:  sqltext.Select,
		Where: n.WhereClause != nil,
		Limit: n.LimitCount != nil && !n.LimitCount.GetAConst().GetIsnull(),
		Aggregate: len(n.GroupClause) > 0 || n.HavingClause != nil || len(n.DistinctClause) > 0 ||
			hasAggregate(n.TargetList),
	}
	if c := n.LimitOffset.GetAConst(); c != nil {
		f.Offset = int64(c.GetIval().GetIval())
		if v := c.GetFval(); v != nil { // more than 31 bits
			f.Offset, _ = strconv.ParseInt(v.Fval, 10, 64)
		}
	}
	if len(n.FromClause) == 1 && n.FromClause[0].GetRangeVar() != nil && len(s.relations) == 1 {
		f.Table = s.relations[0].Name
		if h := s.view.hypertable(s.relations[0]); h != nil {
			f.Hypertable, f.Time = true, mentions(n.WhereClause, h.TimeColumn)
		}
	}
	return f
}

// route looks for something better than Pass for a lone SELECT.
func (r *Router) route(m *made, c *Context, st *state, s *survey, n *pg_query.Node, text []byte, info sqltext.Info) {
	p, sel := m.plan, n.GetSelectStmt()
	if f, call := calledFunction(sel, s.view); f != nil && p.Pins == 0 && !p.DDL() && c.SettingsKnown && !info.Moving {
		r.routeCall(m, c, s.view, n, text, f, call)
		return
	}
	if p.Index = indexBuild(sel, s.view); p.Index != nil && p.Pins&PinCatalog == 0 {
		p.Action, p.Reason, m.literal = Rewrite, ReasonIndexBuild, true
		return
	}
	neighbours := false
	if sel != nil {
		neighbours = nearest(sel) != nil
		m.literal = m.literal || counts(sel)
	} else if sel = copied(n); sel == nil {
		sel = declared(n)
	}
	aggregates := !neighbours && s.mayAggregate(sel)
	switch {
	case p.Pins&PinCatalog != 0:
		p.Reason = ReasonNoCatalog
	case p.Pins != 0, s.own && (neighbours || aggregates):
		p.Reason = ReasonUnclean
	case !neighbours && !aggregates, p.DDL():
		p.Reason = ReasonPlain
	case !c.SettingsKnown:
		p.Reason = ReasonSettings
	case info.Moving:
		p.Reason = ReasonMovingLiteral
	case neighbours && !c.Cache:
		p.Reason = ReasonKNNOff
	case neighbours:
		if p.KNN, p.Reason = knn(sel, c, st.view, text); p.KNN != nil {
			p.Action = Cached
		}
	case r.opt.NoAggregates || !c.Route:
		p.Reason = ReasonRouteOff
	default:
		literal := m.literal
		base := *p
		r.aggregate(m, c, st.view.snap, n, false, false)
		if m.moment && !literal && len(p.Statements) == 1 {
			m.template = newTemplate(&base, st.view.snap, n, text, c.ConformingStrings)
		}
	}
}

// aggregate plans a SELECT over a continuous aggregate. checked: a rewrite of this
// shape has been proven to parse back to what was meant. bound: parameters have
// their values in the tree.
func (r *Router) aggregate(m *made, c *Context, snap *catalog.Snapshot, n *pg_query.Node, checked, bound bool) *blocks {
	p := m.plan
	m.literal, m.moment = true, true
	if p.Cursor != nil {
		cursor := *p.Cursor
		cursor.Query = declaredQuery(n)
		p.Cursor = &cursor
	}
	b := r.blocks(c, snap, checked)
	p.Aggregates, p.Reason = b.plan(n)
	m.decided(n, bound)
	return b
}

func (r *Router) blocks(c *Context, snap *catalog.Snapshot, checked bool) *blocks {
	return &blocks{c: c, snap: snap, now: r.opt.Now(), checked: checked, byCost: !r.opt.AlwaysRoute}
}

// decided completes the plan of n by what became of it.
func (m *made) decided(n *pg_query.Node, bound bool) {
	switch p := m.plan; {
	case p.Aggregates != nil:
		p.Action, p.Reason = Rewrite, ReasonAggregate
		m.expires = p.Aggregates.Expires
	case !bound && (p.Reason == ReasonAggTimeParameter || p.Reason == ReasonAggBucket && hasParameter(n)):
		p.Action, p.AtBind = Rewrite, true
	case formReasons[p.Reason]:
		m.literal, m.moment = false, false
	}
}

func hasParameter(n *pg_query.Node) bool {
	found := false
	visit(n, func(m any) bool {
		_, is := m.(*pg_query.ParamRef)
		found = found || is
		return !found
	})
	return found
}

// formReasons are the reasons of planAggregate that no literal, chunk or
// watermark has a say in.
var formReasons = map[Reason]bool{
	ReasonAggNotSelect: true, ReasonAggSetOperation: true, ReasonAggCTE: true, ReasonAggJoin: true, ReasonAggOuterJoin: true,
	ReasonAggSubquery: true, ReasonAggWindow: true, ReasonAggDistinct: true, ReasonAggLocking: true,
	ReasonAggGroupingSets: true, ReasonAggFrom: true, ReasonAggNotHypertable: true,
	ReasonAggHierarchical: true, ReasonAggRowSecurity: true, ReasonAggTimeType: true,
	ReasonAggNotGrouped: true, ReasonAggVersion: true,
}

// mayAggregate reports whether a SELECT reads a hypertable and groups, or calls
// an aggregate function, itself or in a SELECT inside it, so that planAggregate is
// worth asking.
func (s *survey) mayAggregate(n *pg_query.SelectStmt) bool {
	hyper := false
	for _, r := range s.relations {
		hyper = hyper || s.view.hypertable(r) != nil
	}
	if !hyper {
		return false
	}
	found := false
	visitMessage(n.ProtoReflect(), func(m any) bool {
		if q, ok := m.(*pg_query.SelectStmt); ok {
			found = found || groups(q)
		}
		return !found
	})
	return found
}

// DDL reports whether a statement of the text changes the catalog.
func (p *Plan) DDL() bool {
	for i := range p.Statements {
		if p.Statements[i].DDL {
			return true
		}
	}
	return false
}
