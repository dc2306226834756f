package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policies are the wanted policies of the platform's hypertables and continuous
// aggregates. What is not among them is left as it is.
type Policies struct {
	Tables     []TablePolicy
	Aggregates []RefreshPolicy
	Off        string // why none is touched, as "schema.timescaledb is off"; "" when they are
}

// TablePolicy is what becomes of a hypertable's rows as they age.
type TablePolicy struct {
	Table         string
	ChunkInterval time.Duration // of chunks that are made from now on
	CompressAfter time.Duration // 0: chunks are not compressed
	SegmentBy     string        // column of which a compressed row has one value; "" for none
	OrderBy       string        // order of the rows within a compressed one
	Retain        time.Duration // 0: for ever
	Off           bool          // left as it is
}

// RefreshPolicy is which buckets of a continuous aggregate are brought up to date,
// and how often.
type RefreshPolicy struct {
	Aggregate   string
	Bucket      time.Duration // width of its buckets
	From, Until time.Duration // before now; 0: no limit
	Every       time.Duration
	Off         bool // left as it is
}

// PolicyKind is what a policy is about.
type PolicyKind string

// The kinds of policies.
const (
	ChunkInterval PolicyKind = "chunk interval"
	Compression   PolicyKind = "compression"
	Retention     PolicyKind = "retention"
	Refreshing    PolicyKind = "refresh"
)

// PolicyState is how a policy in the database compares with what is wanted.
type PolicyState string

// The states of a policy.
const (
	PolicyKept       PolicyState = "as wanted"
	PolicyDiffers    PolicyState = "differs"      // the next reconciliation changes it
	PolicyOff        PolicyState = "left alone"   // configured so
	PolicyImpossible PolicyState = "not possible" // here: the edition, or there is no such table
	PolicyHeld       PolicyState = "held back"    // changing it would lose something: Why says what
	PolicyFailed     PolicyState = "failed"       // the database refused the change
)

// Policy is one policy, wanted and actual.
type Policy struct {
	Object string      `json:"object"`
	Kind   PolicyKind  `json:"kind"`
	Wanted string      `json:"wanted"` // "" when it is left alone
	Actual string      `json:"actual"` // "" when there is nothing that could have it
	State  PolicyState `json:"state"`
	Why    string      `json:"why,omitempty"`
}

// PolicyReport is what a comparison or reconciliation found and did.
type PolicyReport struct {
	Policies []Policy `json:"policies"`
	Changes  []string `json:"changes,omitempty"` // what was changed, as "tick_data retention: none -> 365d"
}

// Text is the report for people: what was changed, then a line for each policy.
func (r PolicyReport) Text() string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "changed %s\n", c)
	}
	for _, p := range r.Policies {
		fmt.Fprintf(&b, "%-20s %-14s %-12s %s\n", p.Object, p.Kind, p.State, p.text())
	}
	return b.String()
}

// text is what there is to say besides the state.
func (p Policy) text() string {
	said := p.Actual
	if p.State != PolicyKept && p.Wanted != "" && p.Wanted != p.Actual {
		said = fmt.Sprintf("%s, wanted %s", orNothing(p.Actual), p.Wanted)
	}
	if p.Why != "" {
		said = strings.TrimPrefix(said+": "+p.Why, ": ")
	}
	return said
}

func orNothing(actual string) string {
	if actual == "" {
		return "nothing"
	}
	return actual
}

// Unsettled returns the policies that are not as wanted although they could be.
func (r PolicyReport) Unsettled() []Policy {
	return slices.DeleteFunc(slices.Clone(r.Policies), func(p Policy) bool {
		return p.State != PolicyDiffers && p.State != PolicyHeld && p.State != PolicyFailed
	})
}

const day = 24 * time.Hour

// period is a length of time as config.yaml has it: "365d", "90m"; "none" for 0.
func period(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	for _, u := range []struct {
		suffix string
		length time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d%u.length == 0 {
			return strconv.FormatInt(int64(d/u.length), 10) + u.suffix
		}
	}
	return d.String()
}

// compression is how a compression policy is shown and compared.
func compression(after time.Duration, segment, order string) string {
	if after == 0 {
		return "none"
	}
	s := "after " + period(after)
	if segment != "" {
		s += ", segmented by " + segment
	}
	return s + ", ordered by " + order
}

// refreshing is how a refresh policy is shown and compared.
func refreshing(p RefreshPolicy) string {
	from, until := "the beginning", "now"
	if p.From > 0 {
		from = period(p.From)
	}
	if p.Until > 0 {
		until = period(p.Until)
	}
	return fmt.Sprintf("from %s until %s, every %s", from, until, period(p.Every))
}
