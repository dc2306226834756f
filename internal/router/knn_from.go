package router

import (
	"slices"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
)

// from adds the tables of FROM; or says why their rows are not all that counts.
func (t *neighbours) from(n *pg_query.Node) Reason {
	if j := n.GetJoinExpr(); j != nil {
		return t.join(j)
	}
	from := n.GetRangeVar()
	if from == nil {
		return ReasonKNNForm
	}
	found, _ := t.view.relations(t.c, true, from.Schemaname, from.Relname)
	if len(found) != 1 || !from.Inh || len(from.GetAlias().GetColnames()) > 0 {
		return ReasonKNNTable
	}
	s := source{found[0], from.Relname}
	if from.Alias != nil {
		s.as = from.Alias.Aliasname
	}
	switch {
	case s.rel.Kind != 'r' && s.rel.Kind != 'p', s.rel.Temp, !s.rel.ReadClean && !s.rel.Clean,
		slices.ContainsFunc(t.sources, func(o source) bool { return o.as == s.as }):
		return ReasonKNNTable
	case s.rel.RowSecurity:
		return ReasonKNNSecurity
	}
	t.sources = append(t.sources, s)
	t.reads = append(t.reads, s.rel.OID)
	name := catalog.Quote(from.Relname)
	if from.Schemaname != "" {
		name = catalog.Quote(from.Schemaname) + "." + name
	}
	t.proof.addf("pg_catalog.to_regclass(%s)::pg_catalog.oid = %d AND NOT (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = %[2]d)", catalog.Literal(name), s.rel.OID)
	return ""
}

// join adds tables that are joined by their columns: which rows belong together depends
// on the rows alone.
func (t *neighbours) join(j *pg_query.JoinExpr) Reason {
	if j.Jointype != pg_query.JoinType_JOIN_INNER && j.Jointype != pg_query.JoinType_JOIN_LEFT ||
		j.IsNatural || j.Alias != nil || j.JoinUsingAlias != nil || j.Quals == nil && len(j.UsingClause) == 0 {
		return ReasonKNNForm
	}
	for _, side := range []*pg_query.Node{j.Larg, j.Rarg} {
		if reason := t.from(side); reason != "" {
			return reason
		}
	}
	names, ok := stringsOf(j.UsingClause)
	if !ok {
		return ReasonKNNForm
	}
	for _, name := range names {
		for _, s := range t.sources {
			if col, ok := s.rel.Column(name); ok && !steady[col.Type] {
				return ReasonKNNFilter
			}
		}
		if t.using == nil {
			t.using = map[string]bool{}
		}
		t.using[name] = true
	}
	if j.Quals != nil && !t.condition(j.Quals) {
		return ReasonKNNFilter
	}
	return ""
}

// row accepts a sub-query for a vector of one table's row: more rows than one are an
// error.
func (t *neighbours) row(n *pg_query.SubLink) bool {
	q := n.GetSubselect().GetSelectStmt()
	if n.GetSubLinkType() != pg_query.SubLinkType_EXPR_SUBLINK || q == nil || t.view == nil || !plainAround(q) ||
		len(q.FromClause) != 1 || len(q.TargetList) != 1 || q.WhereClause == nil || len(q.SortClause) > 0 || q.LimitCount != nil || q.LimitOffset != nil {
		return false
	}
	in := &neighbours{c: t.c, view: t.view, snap: t.snap}
	if in.from(q.FromClause[0]) != "" || !in.isVectorColumn(q.TargetList[0].GetResTarget().GetVal()) || !in.condition(q.WhereClause) {
		return false
	}
	t.reads, t.proof = append(t.reads, in.reads...), append(t.proof, in.proof...)
	return true
}
