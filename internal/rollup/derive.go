package rollup

import "qvpgw/internal/catalog"

// Call is one aggregate function call of a query over the raw hypertable.
type Call struct {
	Func   Func
	Star   bool           // count(*), or count of a constant that is not null
	Column catalog.Column // its argument, without Star; for First and Last the value
	Time   bool           // the argument is the time column
}

// Combine says how partials of several buckets become one value, given the
// values of Recipe.Parts in their order.
type Combine uint8

// The ways; s, n, v, t stand for the parts.
const (
	CombineCount      Combine = iota + 1 // coalesce(sum(n), 0)::int8: sum of int8 is numeric, count is int8 and never null
	CombineSum                           // sum(s): the sum of sums has the sum's own type
	CombineSumInt                        // sum(s)::int8: sum of int2 and int4 is int8, of int8 numeric
	CombineSame                          // f(v), f being the call's own function
	CombineMin                           // min(v)
	CombineMax                           // max(v)
	CombineAvgNumeric                    // sum(s)::numeric / nullif(sum(n), 0): the division that avg itself does
	CombineAvgFloat                      // sum(s) / nullif(sum(n), 0)::float8
	CombineFirst                         // first(v, t)
	CombineLast                          // last(v, t)
)

// Part is one column that both the materialization and the raw rows give.
type Part struct {
	Partial Partial
	// Stored is the column of the materialization. For a part with Dim it is the
	// grouped column itself.
	Stored string
	Dim    bool
	AsText bool // min and max of varchar are text
	// Order: the part says in which order the values of another part came: the
	// bucket's start in the materialization, min or max of the time in raw rows.
	Order bool
}

// Recipe is how a call is answered from partials.
type Recipe struct {
	Parts   []Part
	Combine Combine
	Float   bool // a sum of floats is added up in another order
	// NotNull: the recipe counts all rows for this column, which is right as long as
	// the column is NOT NULL; "" when it does not.
	NotNull string
}

// Obstacle says why a call cannot be derived.
type Obstacle uint8

// The obstacles.
const (
	NoObstacle  Obstacle = iota
	NotStored            // the aggregate does not hold the partial
	TypeUnknown          // the type's sum, average or order cannot be put together exactly
	FirstTies            // first or last over several groups: rows of one moment tie
)

// Derive says how the view answers the call. pinned: every grouped column of the
// view has one value in each group of the query, so a group holds at most one
// stored row for each bucket.
func (v *View) Derive(c Call, pinned bool) (Recipe, Obstacle) {
	switch c.Func {
	case Count:
		part, notNull, ok := v.count(c)
		return recipe(ok, Recipe{Parts: []Part{part}, Combine: CombineCount, NotNull: notNull})
	case Sum:
		combine, ok := sumOf(c.Column.Type)
		if !ok || c.Star {
			return Recipe{}, TypeUnknown
		}
		part, ok := v.part(Partial{Sum, c.Column.Name})
		return recipe(ok, Recipe{Parts: []Part{part}, Combine: combine, Float: c.Column.Type == typeFloat8})
	case Avg:
		if _, ok := sumOf(c.Column.Type); !ok || c.Star {
			return Recipe{}, TypeUnknown
		}
		sum, ok := v.part(Partial{Sum, c.Column.Name})
		count, notNull, okCount := v.count(c)
		r := Recipe{Parts: []Part{sum, count}, Combine: CombineAvgNumeric, NotNull: notNull}
		if c.Column.Type == typeFloat8 {
			r.Combine, r.Float = CombineAvgFloat, true
		}
		return recipe(ok && okCount, r)
	case BoolAnd, BoolOr, BitAnd, BitOr, BitXor:
		part, ok := v.part(Partial{c.Func, c.Column.Name})
		return recipe(ok && !c.Star, Recipe{Parts: []Part{part}, Combine: CombineSame})
	case Min, Max:
		return v.extreme(c)
	case First, Last:
		return v.bookend(c, pinned)
	}
	return Recipe{}, NotStored
}

func recipe(stored bool, r Recipe) (Recipe, Obstacle) {
	if !stored {
		return Recipe{}, NotStored
	}
	return r, NoObstacle
}

func (v *View) part(p Partial) (Part, bool) {
	stored, ok := v.Partials[p]
	return Part{Partial: p, Stored: stored}, ok
}

// count finds a stored count equal to count(column): of the column itself, or of
// all rows for a column without nulls, which it then names.
func (v *View) count(c Call) (part Part, notNull string, ok bool) {
	if !c.Star {
		if part, ok := v.part(Partial{Count, c.Column.Name}); ok {
			return part, "", true
		}
		if !c.Column.NotNull {
			return Part{}, "", false
		}
		notNull = c.Column.Name
	}
	part, ok = v.part(Partial{Count, ""})
	return part, notNull, ok
}

// sumOf gives the way to add up sums of a type. sum(float4) is rounded to float4
// at every step, and sums of money and intervals are left alone.
func sumOf(t catalog.OID) (Combine, bool) {
	switch t {
	case typeInt2, typeInt4:
		return CombineSumInt, true
	case typeInt8, typeNumeric, typeFloat8:
		return CombineSum, true
	}
	return 0, false
}

func (v *View) extreme(c Call) (Recipe, Obstacle) {
	if c.Star || !ordered(c.Column) {
		return Recipe{}, TypeUnknown
	}
	combine := CombineMin
	if c.Func == Max {
		combine = CombineMax
	}
	if stored, ok := v.Dims[c.Column.Name]; ok {
		part := Part{Partial: Partial{c.Func, c.Column.Name}, Stored: stored, Dim: true, AsText: c.Column.Type == typeVarchar}
		return Recipe{Parts: []Part{part}, Combine: combine}, NoObstacle
	}
	part, ok := v.part(Partial{c.Func, c.Column.Name})
	return recipe(ok, Recipe{Parts: []Part{part}, Combine: combine})
}

func (v *View) bookend(c Call, pinned bool) (Recipe, Obstacle) {
	if !pinned || v.Extra {
		return Recipe{}, FirstTies
	}
	value, ok := v.part(Partial{c.Func, c.Column.Name})
	r := Recipe{Combine: CombineFirst}
	order := Part{Partial: Partial{Func: Min}, Stored: v.Bucket, Order: true}
	if c.Func == Last {
		r.Combine, order.Partial.Func = CombineLast, Max
	}
	r.Parts = []Part{value, order}
	return recipe(ok, r)
}
