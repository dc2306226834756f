package schema

import (
	"context"
	"fmt"
	"slices"
)

// policyLock is the advisory lock under which each policy is changed, so that two
// gateways do not make the same one twice.
const policyLock = lockKey + 1

// Compare sets the policies of the database beside the wanted ones. It changes
// nothing and needs no privilege.
func (w Policies) Compare(ctx context.Context, q Query) (PolicyReport, error) {
	a, err := readActual(ctx, q, w)
	if err != nil {
		return PolicyReport{}, err
	}
	return PolicyReport{Policies: compare(w, a, false, false).policies}, nil
}

// Apply changes the policies that differ from the wanted ones, each in a
// transaction of its own, and says what it changed. What the edition does not have
// is listed, and what the database refuses; neither is an error. A retention that a
// table did not have and that would drop rows at once is held back unless yes.
func (w Policies) Apply(ctx context.Context, q Query, yes bool) (PolicyReport, error) {
	var made []string
	failed := map[Policy]string{} // by object and kind
	// Retentions come last and are compared anew: none may drop what a refresh that
	// could not be changed looks for.
	for _, last := range []bool{false, true} {
		a, err := readActual(ctx, q, w)
		if err != nil {
			return PolicyReport{}, err
		}
		c := compare(w, a, yes, last)
		if !last && len(c.changes) == 0 {
			return PolicyReport{Policies: c.policies}, nil
		}
		slices.SortStableFunc(c.changes, func(a, b change) int { return b2i(b.first) - b2i(a.first) })
		for _, ch := range c.changes {
			p := c.policies[ch.policy]
			key := Policy{Object: p.Object, Kind: p.Kind}
			if ch.tightening != last || failed[key] != "" {
				continue
			}
			if _, err := q(ctx, changeSQL(ch.sql)); err != nil {
				failed[key] = err.Error()
				continue
			}
			made = append(made, fmt.Sprintf("%s %s: %s -> %s", p.Object, p.Kind, orNothing(p.Actual), p.Wanted))
		}
	}
	a, err := readActual(ctx, q, w)
	if err != nil {
		return PolicyReport{}, err
	}
	r := PolicyReport{Policies: compare(w, a, yes, false).policies, Changes: made}
	for i, p := range r.Policies {
		if why := failed[Policy{Object: p.Object, Kind: p.Kind}]; why != "" && p.State != PolicyKept {
			r.Policies[i].State, r.Policies[i].Why = PolicyFailed, why
		}
	}
	return r, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// changeSQL is one statement, as a Query takes, that waits for other gateways, and
// not long for statements that keep the table.
func changeSQL(sql string) string {
	return fmt.Sprintf("DO $qvpgw$ DECLARE id int; BEGIN PERFORM pg_advisory_xact_lock(%d); SET LOCAL lock_timeout = '10s'; %s END $qvpgw$", policyLock, sql)
}

// policies brings the policies to what is wanted, if anything is.
func (s *session) policies(ctx context.Context, o Options) error {
	if o.Policies == nil {
		return nil
	}
	r, err := o.Policies.Apply(ctx, ConnQuery(s.driver.conn), o.Yes)
	if err != nil {
		return err
	}
	s.result.Policies = &r
	return nil
}
