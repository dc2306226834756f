package router

import (
	"fmt"
	"testing"
)

// BenchmarkPlanHit is what a known statement costs: by its text, and by its shape
// with another literal each time.
func BenchmarkPlanHit(b *testing.B) {
	r := New(Options{})
	c := &Context{Database: "d", User: "u", SearchPath: []string{"public"}, TimeZone: "UTC", ConformingStrings: true, SettingsKnown: true}
	texts := make([][]byte, 1<<16)
	for i := range texts {
		texts[i] = fmt.Appendf(nil, "SELECT abalance FROM pgbench_accounts WHERE aid = %d;", 100000+i*13)
	}
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Plan(c, texts[0])
		}
	})
	b.Run("shape", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			r.Plan(c, texts[i&(1<<16-1)])
			i++
		}
	})
}
