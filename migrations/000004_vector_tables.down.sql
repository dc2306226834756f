-- loses: volatility_regimes feature_embeddings
DROP TABLE IF EXISTS volatility_regimes;
DROP TABLE IF EXISTS feature_embeddings;
