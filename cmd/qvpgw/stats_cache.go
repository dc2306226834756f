package main

import (
	"qvpgw/internal/admin"
	"qvpgw/internal/metrics"
)

// cacheStat sums up the answers kept of all databases.
func (p *program) cacheStat() metrics.CacheStat {
	s := p.cache.Stat()
	st := metrics.CacheStat{Entries: s.Entries, Bytes: s.Bytes, Budget: s.Budget, Evictions: s.Evictions, Rejections: s.Rejected, Declined: s.Declined}
	for _, m := range p.gateway.Memory() {
		for i, n := range m.Misses {
			st.Stale[i] += n
		}
		st.Rounds += m.Rounds.Rounds
		st.Served += m.Rounds.Served
	}
	return st
}

// cacheRows are the console's: a row for each figure.
func (p *program) cacheRows() (rows []admin.CacheRow) {
	for _, m := range p.gateway.Memory() {
		add := func(figure, reason string, v float64) {
			rows = append(rows, admin.CacheRow{Database: m.Database, Table: m.Table, Figure: figure, Reason: reason, Value: v})
		}
		if m.Table == "" {
			add("rounds", "", float64(m.Rounds.Rounds))
			add("rounds_failed", "", float64(m.Rounds.Failed))
			perRound := 0.0
			if m.Rounds.Rounds > 0 {
				perRound = float64(m.Rounds.Served) / float64(m.Rounds.Rounds)
			}
			add("asked_per_round", "", perRound)
			continue
		}
		add("entries", m.Mode.String(), float64(m.Entries))
		add("bytes", "", float64(m.Bytes))
		for i, n := range m.Hits {
			add("hits", metrics.CacheHit(i).String(), float64(n))
		}
		for i, n := range m.Misses {
			add("misses", metrics.CacheMiss(i).String(), float64(n))
		}
		add("evictions", "space", float64(m.Evicted))
		for i, n := range m.Misses {
			if r := metrics.CacheMiss(i); r.Evicts() {
				add("evictions", r.String(), float64(n))
			}
		}
	}
	return rows
}
