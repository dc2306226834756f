package schema

import (
	"testing"
	"testing/fstest"
)

func TestALayoutIsThatOfNamesAndContents(t *testing.T) {
	of := func(name, text string) string {
		l, err := layoutIn(fstest.MapFS{"000001_first.up.sql": {Data: []byte("SELECT 1")}, name: {Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const name = "000002_second.up.sql"
	is := of(name, "SELECT 2")
	if again := of(name, "SELECT 2"); again != is {
		t.Errorf("the same files have the layouts %s and %s", is, again)
	}
	for _, other := range []string{of(name, "SELECT 3"), of("000002_other.up.sql", "SELECT 2")} {
		if other == is {
			t.Error("other files have the same layout")
		}
	}
}
