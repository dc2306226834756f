package gateway

import (
	"strings"
	"testing"
)

func TestTheRouteLogSaysWhereATextWasCut(t *testing.T) {
	var s Server
	whole, long := strings.Repeat("a", routeText), "b"+strings.Repeat("ä", routeText/2)
	s.routes.add(Route{Text: whole})
	s.routes.add(Route{Text: long})
	got := s.Routes()
	if len(got) != 2 || got[0].Text != "b"+strings.Repeat("ä", routeText/2-1)+"…" || got[1].Text != whole {
		t.Errorf("the log has %+v", got)
	}
}
