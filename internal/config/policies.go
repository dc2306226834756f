package config

import "time"

// Policies are what TimescaleDB does by itself with the platform's tables. What is
// not enabled is left as it is in the database.
type Policies struct {
	Enabled    bool       `yaml:"enabled"`
	Tables     Tables     `yaml:"tables"`
	Aggregates Aggregates `yaml:"aggregates"`
}

// Tables are the platform's hypertables.
type Tables struct {
	MarketData      TablePolicy `yaml:"market_data"`
	TickData        TablePolicy `yaml:"tick_data"`
	PortfolioValues TablePolicy `yaml:"portfolio_values"`
	RiskMetrics     TablePolicy `yaml:"risk_metrics"`
}

// TablePolicy is what becomes of a hypertable's rows as they age.
type TablePolicy struct {
	Enabled       bool   `yaml:"enabled"`
	ChunkInterval Period `yaml:"chunk_interval"` // of chunks that are made from now on
	CompressAfter Period `yaml:"compress_after"` // none: chunks are not compressed
	Retain        Period `yaml:"retain"`         // none: for ever
}

// Aggregates are the platform's continuous aggregates.
type Aggregates struct {
	MarketData1h      RefreshPolicy `yaml:"market_data_1h"`
	MarketData1d      RefreshPolicy `yaml:"market_data_1d"`
	MarketData1w      RefreshPolicy `yaml:"market_data_1w"`
	TickData1m        RefreshPolicy `yaml:"tick_data_1m"`
	TickData1h        RefreshPolicy `yaml:"tick_data_1h"`
	TickData1d        RefreshPolicy `yaml:"tick_data_1d"`
	TickData1w        RefreshPolicy `yaml:"tick_data_1w"`
	PortfolioValues1d RefreshPolicy `yaml:"portfolio_values_1d"`
}

// RefreshPolicy is which buckets of an aggregate are brought up to date, and how
// often: those that lie between From and Until before now.
type RefreshPolicy struct {
	Enabled bool   `yaml:"enabled"`
	From    Period `yaml:"from"`  // none: from the beginning
	Until   Period `yaml:"until"` // none: to the newest whole bucket
	Every   Period `yaml:"every"`
}

func defaultPolicies() Policies {
	const hour, minute = Period(time.Hour), Period(time.Minute)
	kept := TablePolicy{Enabled: true, ChunkInterval: 7 * Day, CompressAfter: 30 * Day}
	year := kept
	year.Retain = 365 * Day
	refresh := func(until, every Period) RefreshPolicy {
		return RefreshPolicy{Enabled: true, From: 360 * Day, Until: until, Every: every}
	}
	return Policies{
		Enabled: true,
		Tables:  Tables{MarketData: year, TickData: year, PortfolioValues: kept, RiskMetrics: kept},
		Aggregates: Aggregates{
			MarketData1h: refresh(hour, 30*minute), MarketData1d: refresh(Day, hour), MarketData1w: refresh(7*Day, Day),
			TickData1m: refresh(minute, minute), TickData1h: refresh(hour, 30*minute), TickData1d: refresh(Day, hour), TickData1w: refresh(7*Day, Day),
			PortfolioValues1d: RefreshPolicy{Enabled: true, Until: Day, Every: hour},
		},
	}
}

// refreshMargin is how much shorter the reach of a refresh is than what its table
// keeps, so that one that runs for long does not meet rows that were dropped since
// it began.
const refreshMargin = Day

// bucketSource is an aggregate, the width of its buckets, and the hypertable that
// its rows come from.
type bucketSource struct {
	name   string
	policy RefreshPolicy
	width  Period
	table  string // "" for an aggregate of an aggregate, which is kept for ever
	from   TablePolicy
}

func (p Policies) sources() []bucketSource {
	const hour, minute = Period(time.Hour), Period(time.Minute)
	t, a := p.Tables, p.Aggregates
	return []bucketSource{
		{"market_data_1h", a.MarketData1h, hour, "market_data", t.MarketData},
		{"market_data_1d", a.MarketData1d, Day, "market_data", t.MarketData},
		{"market_data_1w", a.MarketData1w, 7 * Day, "market_data", t.MarketData},
		{"tick_data_1m", a.TickData1m, minute, "tick_data", t.TickData},
		{"tick_data_1h", a.TickData1h, hour, "", TablePolicy{}},
		{"tick_data_1d", a.TickData1d, Day, "", TablePolicy{}},
		{"tick_data_1w", a.TickData1w, 7 * Day, "", TablePolicy{}},
		{"portfolio_values_1d", a.PortfolioValues1d, Day, "portfolio_values", t.PortfolioValues},
	}
}

func (v *validator) schemaPolicies() {
	const key = "schema.policies."
	p := v.c.Schema.Policies
	if !p.Enabled {
		return
	}
	for _, t := range []struct {
		name   string
		policy TablePolicy
	}{{"market_data", p.Tables.MarketData}, {"tick_data", p.Tables.TickData}, {"portfolio_values", p.Tables.PortfolioValues}, {"risk_metrics", p.Tables.RiskMetrics}} {
		if t.policy.Enabled {
			v.tablePolicy(key+"tables."+t.name, t.policy)
		}
	}
	for _, s := range p.sources() {
		if s.policy.Enabled {
			v.refreshPolicy(key+"aggregates."+s.name, s)
		}
		if s.policy.Enabled && s.from.Enabled && s.from.Retain > 0 {
			v.refreshReach(key, s)
		}
	}
}

func (v *validator) tablePolicy(at string, t TablePolicy) {
	if t.ChunkInterval < Period(time.Hour) {
		v.add(at+".chunk_interval", "%s.chunk_interval is %s; it must be at least 1h", at, t.ChunkInterval)
	}
	if t.Retain == 0 {
		return
	}
	if t.Retain < t.ChunkInterval {
		v.add(at+".retain", "%s.retain is %s; it must be at least chunk_interval, %s, since rows are dropped by whole chunks", at, t.Retain, t.ChunkInterval)
	}
	if t.CompressAfter >= t.Retain {
		v.add(at+".compress_after", "%s.compress_after is %s; it must be less than retain, %s: give none not to compress", at, t.CompressAfter, t.Retain)
	}
}

func (v *validator) refreshPolicy(at string, s bucketSource) {
	if s.policy.Every == 0 {
		v.add(at+".every", "%s.every is none; to refresh by hand write enabled: false", at)
	}
	if s.policy.From > 0 && s.policy.From < s.policy.Until+2*s.width {
		v.add(at+".from", "%s.from is %s; it must reach at least two buckets of %s beyond until, %s", at, s.policy.From, s.width, s.policy.Until)
	}
}

// refreshReach refuses a refresh that reaches rows which retention drops: it would
// find none and empty the buckets that the aggregate keeps of them.
func (v *validator) refreshReach(key string, s bucketSource) {
	if s.policy.From > 0 && s.policy.From <= s.from.Retain-refreshMargin {
		return
	}
	at := key + "aggregates." + s.name + ".from"
	v.add(at, "%s is %s; it must be at most %s, a day less than %stables.%s.retain, or refreshing would empty the buckets of rows that retention has dropped",
		at, s.policy.From, max(s.from.Retain-refreshMargin, 0), key, s.table)
}
