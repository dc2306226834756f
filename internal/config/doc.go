// Package config holds everything that can be configured, in one Config.
//
//	defaults -> config.yaml (strict, ${NAME:-default}) -> POSTGRES_* names -> Validate -> *Config
//
// It is a leaf: it knows no other part of the gateway, only the values that they
// are built with. It opens no connection and starts nothing; besides the config
// file and ./.env it only looks whether the files named by TLS keys can be read.
//
// A Config is filled once by Load and then read by everybody without a lock; who
// wants other values makes a copy. A Secret never prints itself: String, %v, %#v,
// JSON and slog give asterisks, string(s) gives the text.
package config
