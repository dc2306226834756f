package schema

import (
	"strconv"
	"strings"
)

// numbers parses a row's numbers and remembers the first that is none.
type numbers struct{ err error }

func (n *numbers) int64(s string) int64 {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil && n.err == nil {
		n.err = err
	}
	return v
}

func (n *numbers) int(s string) int     { return int(n.int64(s)) }
func (n *numbers) int32(s string) int32 { return int32(n.int64(s)) }
func (n *numbers) oid(s string) uint32  { return uint32(n.int64(s)) }

// list32 reads numbers with commas between them.
func (n *numbers) list32(s string) []int32 {
	if s == "" {
		return nil
	}
	var list []int32
	for _, text := range strings.Split(s, ",") {
		list = append(list, n.int32(text))
	}
	return list
}
