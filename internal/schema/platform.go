package schema

// The platform's relations, as the migrations name them.
var (
	hypertables  = []string{"market_data", "tick_data", "portfolio_values", "risk_metrics"}
	plainTables  = []string{"trades", "strategies", "positions"}
	vectorTables = []string{"feature_embeddings", "volatility_regimes"}
	aggregates   = []string{
		"market_data_1h", "market_data_1d", "market_data_1w", "tick_data_1m", "tick_data_1h", "tick_data_1d", "tick_data_1w", "portfolio_values_1d",
	}
)

// platformMetric is the operator class by which the platform's own functions order a
// vector column when they are not told otherwise, by table and column.
var platformMetric = map[[2]string]string{
	{"feature_embeddings", "embedding"}:     "vector_cosine_ops",
	{"volatility_regimes", "regime_vector"}: "vector_l2_ops",
}
