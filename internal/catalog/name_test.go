package catalog

import "testing"

func TestALiteralMeansTheSameWhateverStandardConformingStringsSays(t *testing.T) {
	for text, want := range map[string]string{"": "''", "it's": "'it''s'", `\'`: `E'\\'''`} {
		if got := Literal(text); got != want {
			t.Errorf("%s is written %s, not %s", text, got, want)
		}
	}
}
