package rollup

import (
	"testing"

	"qvpgw/internal/catalog"
)

func testView() *View {
	return &View{
		Grid: Fixed(Hour, 0), Bucket: "bucket", Dims: map[string]string{"symbol": "symbol"},
		Partials: map[Partial]string{
			{Count, ""}: "n", {Sum, "price"}: "sum_price", {Count, "price"}: "count_price", {Sum, "size"}: "sum_size", {Sum, "qty"}: "sum_qty", {Min, "price"}: "low",
			{Max, "fee"}: "max_fee", {Max, "raw"}: "max_raw", {Sum, "ratio"}: "sum_ratio", {First, "price"}: "open", {Min, "at"}: "t0",
		},
	}
}

func TestCallsAreDerivedFromTheirPartials(t *testing.T) {
	price := catalog.Column{Name: "price", Type: typeFloat8}
	size := catalog.Column{Name: "size", Type: typeInt4, NotNull: true}
	symbol := catalog.Column{Name: "symbol", Type: typeVarchar}
	for name, c := range map[string]struct {
		call    Call
		pinned  bool
		combine Combine
		parts   []string
		float   bool
		notNull string
	}{
		"count(*)":                  {call: Call{Func: Count, Star: true}, combine: CombineCount, parts: []string{"n"}},
		"count of a column":         {call: Call{Func: Count, Column: price}, combine: CombineCount, parts: []string{"count_price"}},
		"count of a filled column":  {call: Call{Func: Count, Column: size}, combine: CombineCount, parts: []string{"n"}, notNull: "size"},
		"sum of float":              {call: Call{Func: Sum, Column: price}, combine: CombineSum, parts: []string{"sum_price"}, float: true},
		"sum of int":                {call: Call{Func: Sum, Column: size}, combine: CombineSumInt, parts: []string{"sum_size"}},
		"sum of bigint":             {call: Call{Func: Sum, Column: catalog.Column{Name: "qty", Type: typeInt8}}, combine: CombineSum, parts: []string{"sum_qty"}},
		"average of float":          {call: Call{Func: Avg, Column: price}, combine: CombineAvgFloat, parts: []string{"sum_price", "count_price"}, float: true},
		"average of int":            {call: Call{Func: Avg, Column: size}, combine: CombineAvgNumeric, parts: []string{"sum_size", "n"}, notNull: "size"},
		"minimum":                   {call: Call{Func: Min, Column: price}, combine: CombineMin, parts: []string{"low"}},
		"maximum of a fixed scale":  {call: Call{Func: Max, Column: catalog.Column{Name: "fee", Type: typeNumeric, TypMod: 655366}}, combine: CombineMax, parts: []string{"max_fee"}},
		"maximum of a group column": {call: Call{Func: Max, Column: symbol}, combine: CombineMax, parts: []string{"symbol"}},
		"first moment":              {call: Call{Func: Min, Column: catalog.Column{Name: "at", Type: typeTimestamptz, NotNull: true}, Time: true}, combine: CombineMin, parts: []string{"t0"}},
		"first of one group":        {call: Call{Func: First, Column: price}, pinned: true, combine: CombineFirst, parts: []string{"open", "bucket"}},
	} {
		r, obstacle := testView().Derive(c.call, c.pinned)
		if obstacle != NoObstacle || r.Combine != c.combine || r.Float != c.float || r.NotNull != c.notNull || len(r.Parts) != len(c.parts) {
			t.Errorf("%s: %+v, obstacle %d", name, r, obstacle)
			continue
		}
		for i, p := range r.Parts {
			if p.Stored != c.parts[i] {
				t.Errorf("%s: part %d is %s, want %s", name, i, p.Stored, c.parts[i])
			}
		}
	}
}

func TestWhatCannotBePutTogetherExactlyIsRefused(t *testing.T) {
	column := func(name string, typ catalog.OID) catalog.Column {
		return catalog.Column{Name: name, Type: typ, TypMod: -1}
	}
	for name, c := range map[string]struct {
		call   Call
		pinned bool
		want   Obstacle
	}{
		"sum of real":                     {Call{Func: Sum, Column: column("ratio", typeFloat4)}, true, TypeUnknown},
		"average of real":                 {Call{Func: Avg, Column: column("ratio", typeFloat4)}, true, TypeUnknown},
		"sum of interval":                 {Call{Func: Sum, Column: column("wait", typeInterval)}, true, TypeUnknown},
		"maximum of numeric, any scale":   {Call{Func: Max, Column: column("raw", typeNumeric)}, true, TypeUnknown},
		"maximum of uuid":                 {Call{Func: Max, Column: column("raw", typeUUID)}, true, TypeUnknown},
		"sum without its partial":         {Call{Func: Sum, Column: column("other", typeFloat8)}, true, NotStored},
		"average without its count":       {Call{Func: Avg, Column: column("qty", typeInt8)}, true, NotStored},
		"count of a column with nulls":    {Call{Func: Count, Column: column("size", typeInt4)}, true, NotStored},
		"first over several groups":       {Call{Func: First, Column: column("price", typeFloat8)}, false, FirstTies},
		"last that is not stored":         {Call{Func: Last, Column: column("price", typeFloat8)}, true, NotStored},
		"a function that is not followed": {Call{Func: 99}, true, NotStored},
	} {
		if _, got := testView().Derive(c.call, c.pinned); got != c.want {
			t.Errorf("%s: obstacle %d, want %d", name, got, c.want)
		}
	}
	extra := testView()
	extra.Extra = true
	if _, got := extra.Derive(Call{Func: First, Column: column("price", typeFloat8)}, true); got != FirstTies {
		t.Error("first is derived from an aggregate with hidden groups")
	}
}

func TestOnlyGroupsWhoseValuesLookAlikeAreRolledUp(t *testing.T) {
	for name, c := range map[string]struct {
		column catalog.Column
		want   bool
	}{
		"text": {catalog.Column{Type: typeText}, true}, "text, nondeterministic": {catalog.Column{Type: typeText, Nondeterministic: true}, false},
		"numeric": {catalog.Column{Type: typeNumeric, TypMod: 655366}, false}, "float": {catalog.Column{Type: typeFloat8}, false}, "uuid": {catalog.Column{Type: typeUUID}, true},
		"char(3)": {catalog.Column{Type: typeBpchar, TypMod: 7}, true}, "bpchar": {catalog.Column{Type: typeBpchar, TypMod: -1}, false}, "an extension's type": {catalog.Column{Type: 20000}, false},
	} {
		if got := Groupable(c.column); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, ok := FuncNamed("stddev"); ok {
		t.Error("stddev is derived")
	}
}
