package gateway

import (
	"slices"
	"testing"

	"qvpgw/internal/metrics"
	"qvpgw/internal/router"
)

// TestMetricLabelsFollowTheRouter holds the enums of package metrics, which knows
// no router, to the order of the router's.
func TestMetricLabelsFollowTheRouter(t *testing.T) {
	for action, label := range map[router.Action]string{
		router.Pass: "pass", router.Rewrite: "rewrite", router.Cached: "cached", router.Refused: "refused", router.Local: "local",
	} {
		if got := metrics.Action(action).String(); got != label {
			t.Errorf("the metrics call action %d %q, want %q", action, got, label)
		}
	}
	var labels []string
	for p := range metrics.Pins {
		labels = append(labels, p.String())
	}
	if names := router.Pins(1<<metrics.Pins - 1).Names(); !slices.Equal(names, labels) {
		t.Errorf("the metrics call the pins\n%v, the router\n%v", labels, names)
	}
	if more := router.Pins(^uint32(0)).Names(); len(more) != len(labels) {
		t.Errorf("the router has %d pins, the metrics %d", len(more), len(labels))
	}
}
