package main

import (
	"context"
	"time"

	"qvpgw/internal/config"
	"qvpgw/internal/schema"
)

// policies is what the configuration wants of TimescaleDB's policies.
func policies(cfg *config.Config) *schema.Policies {
	p := cfg.Schema.Policies
	w := new(schema.Policies)
	switch {
	case cfg.Schema.TimescaleDB == config.Off:
		w.Off = "schema.timescaledb is off"
	case !p.Enabled:
		w.Off = "schema.policies.enabled is false"
	}
	const newestFirst = "timestamp DESC"
	for _, t := range []struct {
		name, segment string
		config.TablePolicy
	}{
		{"market_data", "symbol", p.Tables.MarketData},
		{"tick_data", "symbol", p.Tables.TickData},
		{"portfolio_values", "", p.Tables.PortfolioValues},
		{"risk_metrics", "", p.Tables.RiskMetrics},
	} {
		w.Tables = append(w.Tables, schema.TablePolicy{
			Table: t.name, SegmentBy: t.segment, OrderBy: newestFirst, Off: !t.Enabled,
			ChunkInterval: time.Duration(t.ChunkInterval), CompressAfter: time.Duration(t.CompressAfter), Retain: time.Duration(t.Retain),
		})
	}
	const day = 24 * time.Hour
	for _, a := range []struct {
		name   string
		bucket time.Duration
		config.RefreshPolicy
	}{
		{"market_data_1h", time.Hour, p.Aggregates.MarketData1h},
		{"market_data_1d", day, p.Aggregates.MarketData1d},
		{"market_data_1w", 7 * day, p.Aggregates.MarketData1w},
		{"tick_data_1m", time.Minute, p.Aggregates.TickData1m},
		{"tick_data_1h", time.Hour, p.Aggregates.TickData1h},
		{"tick_data_1d", day, p.Aggregates.TickData1d},
		{"tick_data_1w", 7 * day, p.Aggregates.TickData1w},
		{"portfolio_values_1d", day, p.Aggregates.PortfolioValues1d},
	} {
		w.Aggregates = append(w.Aggregates, schema.RefreshPolicy{
			Aggregate: a.name, Bucket: a.bucket, Off: !a.Enabled,
			From: time.Duration(a.From), Until: time.Duration(a.Until), Every: time.Duration(a.Every),
		})
	}
	return w
}

// said logs what a reconciliation of the policies did and what it could not do.
func (p *program) said(r schema.PolicyReport) {
	for _, c := range r.Changes {
		p.log.Info("policy", "changed", c)
	}
	for _, x := range r.Unsettled() {
		p.log.Warn("policy", "table", x.Object, "kind", x.Kind, "state", x.State, "wanted", x.Wanted, "actual", x.Actual, "why", x.Why)
	}
}

// reconcile brings the policies to what the configuration in force wants, through
// the pool: a backend may have no connection left.
func (p *program) reconcile(ctx context.Context) {
	p.reconciling.Lock()
	defer p.reconciling.Unlock()
	cfg := p.cfg()
	if !cfg.Schema.Migrate {
		return
	}
	r, err := policies(cfg).Apply(ctx, schema.TextQuery(func(sql string) ([][]*string, error) {
		return p.gateway.Query(cfg.Backend.Database, cfg.Backend.User, sql)
	}), false)
	if err != nil {
		p.log.Warn("cannot bring the policies to what is configured", "error", err)
		return
	}
	p.said(r)
}
