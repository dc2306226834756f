// Package demo is what `qvpgw demo` shows: market data for an empty platform
// database, its loader, and a tour of statements that are run through the
// gateway with routing and caching on and off and compared.
//
// The data is made from one file, the daily S&P 500 bars of the npm package
// vega-datasets (data/sp500-2000.csv, 5,105 sessions from 2000-01-03 to
// 2020-04-17): the bars themselves as SPX, and, drawn from them by a seeded
// generator, minute bars and ticks called SPY that reproduce each real day
// exactly. Nothing that is called SPY here is the real fund's price.
//
// It is a client like any other: it knows SQL and a connection string and must
// never know how the gateway plans, pools or caches; what was decided it asks
// with SHOW qvpgw.last_route. A Dataset is immutable after NewDataset and its
// slices belong to it.
//
//	ReadBars -> NewDataset -> Load -> (the gateway serves) -> Tour -> Result
package demo
