package figure

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestFiguresGoToTheFileAndTheNewestOfANameCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures")
	t.Setenv(Env, path)
	Print(t, "b.share", 0.123456)
	Print(t, "a.rows", 3)
	Print(t, "b.share", 1.5)
	Print(t, "c.big", int64(1e15))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "figure b.share 0.1235\nfigure a.rows 3\nfigure b.share 1.5\nfigure c.big 1000000000000000\n"; string(text) != want {
		t.Errorf("the file has\n%s", text)
	}
	got := Newest("other line\n" + string(text) + "figure x")
	if want := []string{"figure a.rows 3", "figure b.share 1.5", "figure c.big 1000000000000000"}; !reflect.DeepEqual(got, want) {
		t.Errorf("newest are %q", got)
	}
}

func TestAFigureIsANumberWithAName(t *testing.T) {
	for name, value := range map[string]float64{"": 1, "a b": 1, "a\n": 1, "nan": math.NaN(), "inf": math.Inf(1)} {
		if line, err := Line(name, value); err == nil {
			t.Errorf("%q %v gives %q", name, value, line)
		}
	}
	for want, value := range map[string]float64{"figure x 0": 0, "figure x -0.5": -0.5, "figure x 100": 100, "figure x 0.0001": 0.00012} {
		if line, err := Line("x", value); err != nil || line != want {
			t.Errorf("%v gives %q, %v", value, line, err)
		}
	}
}
