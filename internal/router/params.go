package router

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/rollup"
)

// Param is the value of one parameter of a statement as Bind gives it.
type Param struct {
	Type   catalog.OID // as the server resolved it
	Binary bool
	Value  []byte // nil: NULL
}

const (
	oidText     catalog.OID = 25
	oidDate     catalog.OID = 1082
	oidVarchar  catalog.OID = 1043
	oidInterval catalog.OID = 1186
	oidInt2     catalog.OID = 21
	oidInt4     catalog.OID = 23
)

// paramTypes are the types of parameters that planning looks at: moments, widths
// and the names of units.
var paramTypes = map[catalog.OID]string{
	oidTimestamptz: "timestamptz", oidTimestamp: "timestamp", oidDate: "date", oidInterval: "interval",
	oidText: "text", oidVarchar: "text", oidInt2: "int2", oidInt4: "int4", oidInt8: "int8",
}

// postgresEpoch is what binary dates and timestamps count from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// literal is the parameter's value as its type's input reads it under any setting;
// false for one that planning does not look at, or that is NULL or infinite.
func (p Param) literal() (string, bool) {
	switch {
	case p.Value == nil || paramTypes[p.Type] == "":
		return "", false
	case integerTypes[p.Type]:
		return p.integer()
	case !p.Binary || p.Type == oidText || p.Type == oidVarchar:
		return string(p.Value), true
	case p.Type == oidDate && len(p.Value) == 4:
		days := int64(int32(binary.BigEndian.Uint32(p.Value)))
		return inYears(postgresEpoch+days*rollup.Day, false)
	case p.Type == oidInterval && len(p.Value) == 16:
		micros, days, months := int64(binary.BigEndian.Uint64(p.Value)), int32(binary.BigEndian.Uint32(p.Value[8:])), int32(binary.BigEndian.Uint32(p.Value[12:]))
		if micros < 0 || days < 0 || months < 0 {
			return "", false // signs are read differently under IntervalStyle sql_standard
		}
		return fmt.Sprintf("%d months %d days %d.%06d seconds", months, days, micros/1_000_000, micros%1_000_000), true
	case (p.Type == oidTimestamp || p.Type == oidTimestamptz) && len(p.Value) == 8:
		v := int64(binary.BigEndian.Uint64(p.Value))
		if v > rollup.MaxTime-postgresEpoch || v < rollup.MinTime-postgresEpoch {
			return "", false // infinity
		}
		return inYears(postgresEpoch+v, p.Type == oidTimestamptz)
	}
	return "", false
}

// integer is literal for integers.
func (p Param) integer() (string, bool) {
	var v int64
	switch {
	case !p.Binary:
		n, ok := parseInteger(string(p.Value))
		if !ok {
			return "", false
		}
		v = n
	case p.Type == oidInt2 && len(p.Value) == 2:
		v = int64(int16(binary.BigEndian.Uint16(p.Value)))
	case p.Type == oidInt4 && len(p.Value) == 4:
		v = int64(int32(binary.BigEndian.Uint32(p.Value)))
	case p.Type == oidInt8 && len(p.Value) == 8:
		v = int64(binary.BigEndian.Uint64(p.Value))
	default:
		return "", false
	}
	return strconv.FormatInt(v, 10), true
}

// inYears spells a moment of the years 1 to 9999.
func inYears(micros int64, instant bool) (string, bool) {
	if y := time.UnixMicro(micros).UTC().Year(); y < 1 || y > 9999 {
		return "", false
	}
	return momentText(micros, instant), true
}

// bind puts the values of parameters that planning looks at in their place: those
// that are moments or widths, and the names of units, by which date_trunc and its
// like are called. Others stay parameters, so that their values do not matter to
// the plan.
func bind(n *pg_query.Node, counted map[string]bool, params []Param) {
	each(n, counted, params, func(n *pg_query.Node, p Param) {
		text, ok := p.literal()
		if !ok {
			return
		}
		n.Node = &pg_query.Node_TypeCast{TypeCast: &pg_query.TypeCast{
			Arg: &pg_query.Node{Node: &pg_query.Node_AConst{AConst: &pg_query.A_Const{Val: &pg_query.A_Const_Sval{Sval: &pg_query.String{Sval: text}}}}},
			TypeName: &pg_query.TypeName{Typemod: -1, Names: []*pg_query.Node{
				{Node: &pg_query.Node_String_{String_: &pg_query.String{Sval: "pg_catalog"}}},
				{Node: &pg_query.Node_String_{String_: &pg_query.String{Sval: paramTypes[p.Type]}}},
			}},
		}}
	})
}

// appendBound appends the values of parameters that a plan depends on.
func (t *template) appendBound(b []byte, params []Param) []byte {
	each(t.stmt, t.counted, params, func(_ *pg_query.Node, p Param) {
		text, ok := p.literal()
		if !ok {
			text = "\x00"
		}
		b = append(binary.BigEndian.AppendUint32(append(b, 0), uint32(len(text))), text...)
	})
	return b
}

// unitFunctions have the name of a unit as their first argument.
var unitFunctions = setOf("date_trunc", "date_part", "extract")

// countedTime are the names of the time columns that are integers.
func countedTime(snap *catalog.Snapshot) map[string]bool {
	var names map[string]bool
	for _, h := range snap.Hypertables {
		if integerTypes[h.TimeType] {
			if names == nil {
				names = map[string]bool{}
			}
			names[h.TimeColumn] = true
		}
	}
	return names
}

// each calls f for every parameter that planning looks at: of the integers those that a
// column named in counted is compared with, divided by, or put into buckets by; of the
// texts those that name units.
func each(n *pg_query.Node, counted map[string]bool, params []Param, f func(*pg_query.Node, Param)) {
	units, counts := map[*pg_query.Node]bool{}, map[*pg_query.Node]bool{}
	count := func(n *pg_query.Node) {
		visit(n, func(m any) bool {
			if x, ok := m.(*pg_query.Node); ok && x.GetParamRef() != nil {
				counts[x] = true
			}
			return true
		})
	}
	visit(n, func(m any) bool {
		switch x := m.(type) {
		case *pg_query.FuncCall:
			switch name := functionName(x); {
			case unitFunctions[name] && len(x.Args) > 0:
				units[x.Args[0]] = true
			case name == "time_bucket" && len(counted) > 0:
				for _, a := range x.Args {
					count(a)
				}
			}
		case *pg_query.A_Expr:
			if counted[lastName(x.Lexpr.GetColumnRef().GetFields())] {
				count(x.Rexpr)
			}
			if counted[lastName(x.Rexpr.GetColumnRef().GetFields())] {
				count(x.Lexpr)
			}
		case *pg_query.Node:
			ref := x.GetParamRef()
			if ref == nil {
				return true
			}
			i := int(ref.Number) - 1
			if i < 0 || i >= len(params) {
				return false
			}
			switch p := params[i]; {
			case (p.Type == oidText || p.Type == oidVarchar) && !units[x], integerTypes[p.Type] && !counts[x]:
			default:
				f(x, p)
			}
			return false
		}
		return true
	})
}
