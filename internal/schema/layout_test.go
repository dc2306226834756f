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
	if of(name, "SELECT 2") != of(name, "SELECT 2") {
		t.Error("the same files have two layouts")
	}
	if of(name, "SELECT 2") == of(name, "SELECT 3") || of(name, "SELECT 2") == of("000002_other.up.sql", "SELECT 2") {
		t.Error("other files have the same layout")
	}
}
