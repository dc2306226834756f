package config

import (
	"strings"
	"testing"
)

func TestPeriodsPrintAsTheyAreWritten(t *testing.T) {
	f := func(text string, want Period, printed string) {
		t.Helper()
		got, err := parsePeriod(text)
		if err != nil || got != want || got.String() != printed {
			t.Errorf("%s: got %d (%s), %v", text, got, got, err)
		}
	}
	f("none", 0, "none")
	f("365d", 365*Day, "365d")
	f("52w", 364*Day, "364d")
	f("36h", Day*3/2, "36h")
	f("90m", Day/16, "90m")
	f("1s", Day/86400, "1s")
	for _, bad := range []string{"", "0d", "-1d", "1.5d", "1y", "1mo", "d", "5", "999999999999d", "off"} {
		if _, err := parsePeriod(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestARefreshMayNotReachRowsThatRetentionDrops(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, err := load(t, "schema:\n  policies:\n"+text, env())
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != strings.Join(want, "\n") {
			t.Errorf("%s\ngot:  %v\nwant: %s", text, got, strings.Join(want, "\n"))
		}
	}
	const emptied = " or refreshing would empty the buckets of rows that retention has dropped"
	f("    aggregates: {market_data_1d: {from: 365d}}",
		"config.yaml:3: schema.policies.aggregates.market_data_1d.from is 365d; it must be at most 364d, a day less than schema.policies.tables.market_data.retain,"+emptied)
	f("    aggregates: {tick_data_1m: {from: none}}",
		"config.yaml:3: schema.policies.aggregates.tick_data_1m.from is none; it must be at most 364d, a day less than schema.policies.tables.tick_data.retain,"+emptied)
	f("    tables: {portfolio_values: {retain: 90d}}",
		"schema.policies.aggregates.portfolio_values_1d.from is none; it must be at most 89d, a day less than schema.policies.tables.portfolio_values.retain,"+emptied)
	// What is kept for ever, aggregated from an aggregate or not ours to keep may be refreshed whole.
	f("    tables: {market_data: {retain: none}}\n    aggregates: {market_data_1d: {from: none}}")
	f("    aggregates: {tick_data_1h: {from: none}}")
	f("    tables: {tick_data: {enabled: false}}\n    aggregates: {tick_data_1m: {from: none}}")
	f("    aggregates: {tick_data_1m: {enabled: false, from: none}}")
	f("    enabled: false\n    aggregates: {tick_data_1m: {from: none}}")
}

func TestPoliciesThatCannotHoldAreRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := load(t, "schema:\n  policies:\n"+text, env())
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot:  %v\nwant: %s", text, err, want)
		}
	}
	f("    tables: {risk_metrics: {chunk_interval: none}}", `config.yaml:3: schema.policies.tables.risk_metrics.chunk_interval is none; it must be at least 1h`)
	f("    tables: {risk_metrics: {compress_after: 30d, retain: 20d}}", `config.yaml:3: schema.policies.tables.risk_metrics.compress_after is 30d; it must be less than retain, 20d: give none not to compress`)
	f("    tables: {risk_metrics: {compress_after: none, retain: 1d}}", `config.yaml:3: schema.policies.tables.risk_metrics.retain is 1d; it must be at least chunk_interval, 7d, since rows are dropped by whole chunks`)
	f("    tables: {risk_metrics: {retain: 1 year}}", `config.yaml:3: schema.policies.tables.risk_metrics.retain: "1 year" is not a period; write a whole number with a unit, as 30m, 12h, 7d or 52w, or none`)
	f("    aggregates: {market_data_1w: {from: 20d}}", `config.yaml:3: schema.policies.aggregates.market_data_1w.from is 20d; it must reach at least two buckets of 7d beyond until, 7d`)
	f("    aggregates: {market_data_1w: {every: none}}", `config.yaml:3: schema.policies.aggregates.market_data_1w.every is none; to refresh by hand write enabled: false`)
	f("    tables: {bars: {retain: 1d}}", `config.yaml:3: unknown key "bars" in schema.policies.tables; the keys here are market_data, portfolio_values, risk_metrics, tick_data`)
}
