//go:build race

package gateway

// raced: sync.Pool forgets at random under the race detector, so that
// allocations cannot be counted.
const raced = true
