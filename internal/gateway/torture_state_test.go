package gateway_test

import (
	"fmt"
	"time"
)

// state is something that a session keeps: made, looked at, ended.
type state struct {
	make, look, end func(c *client) (ok bool, err error)
}

// states are what withState makes. They have the same names in every client.
var states = []state{
	role: {(*client).makeRole, (*client).lookRole, (*client).endRole},
	{(*client).makeTemp, (*client).lookTemp, (*client).endTemp},
	{(*client).makePrepared, (*client).lookPrepared, (*client).endPrepared},
	{(*client).makeHeld, (*client).lookHeld, (*client).endHeld},
	{(*client).makeListen, (*client).lookListen, (*client).endListen},
	{(*client).makeLock, (*client).lookLock, (*client).endLock},
	{(*client).makeTenant, (*client).lookCustom, (*client).nothing},
	{(*client).makeTriggered, (*client).lookCustom, (*client).nothing},
	{(*client).makeConfig, (*client).lookCustom, (*client).nothing},
}

// role is that among states which changes what the client may do.
const role = 0

// withState makes some state that may keep the server connection, uses it between
// other statements, ends it or not, and has the session discarded, as drivers' pools
// do: while it is pinned, others wait.
func (c *client) withState() error {
	var made []state
	for _, i := range c.rng.Perm(len(states))[:1+c.rng.IntN(2)] {
		if i == role && len(made) > 0 {
			continue
		}
		ok, err := states[i].make(c)
		if err != nil {
			return err
		}
		if !ok {
			return c.discard()
		}
		made = append(made, states[i])
		if i == role {
			break // which may do little else
		}
	}
	for range 1 + c.rng.IntN(2) {
		if err := c.simple(); err != nil {
			return err
		}
		for _, s := range made {
			if ok, err := s.look(c); err != nil || !ok {
				return c.either(err)
			}
		}
	}
	if c.r.broken || c.rng.IntN(8) == 0 {
		return c.hangUp() // and leaves it
	}
	if c.rng.IntN(2) == 0 {
		for _, s := range made {
			if ok, err := s.end(c); err != nil || !ok {
				return c.either(err)
			}
		}
	}
	return c.discard()
}

// either passes an error, or discards the session after a cancel.
func (c *client) either(err error) error {
	if err != nil {
		return err
	}
	return c.discard()
}

func (c *client) nothing() (bool, error) { return true, nil }

func (c *client) makeTemp() (bool, error) {
	tag := c.tag()
	c.own["temp"] = tag
	return c.steps(
		step{"CREATE TEMP TABLE torture_temp (tag text)", command()},
		step{"INSERT INTO torture_temp VALUES ('" + tag + "')", command()},
	)
}

func (c *client) lookTemp() (bool, error) {
	return c.steps(step{"SELECT tag FROM torture_temp", one(c.own["temp"])})
}

func (c *client) endTemp() (bool, error) {
	return c.steps(
		step{"DROP TABLE torture_temp", command()},
		step{"SELECT * FROM torture_temp", failing("42P01", "torture_temp")},
	)
}

func (c *client) makePrepared() (bool, error) {
	tag := c.tag()
	c.own["prepared"] = tag
	return c.steps(step{"PREPARE torture_prepared (text) AS SELECT '" + tag + "' || $1", command()})
}

func (c *client) lookPrepared() (bool, error) {
	return c.steps(step{"EXECUTE torture_prepared('x')", one(c.own["prepared"] + "x")})
}

func (c *client) endPrepared() (bool, error) {
	return c.steps(
		step{"DEALLOCATE torture_prepared", command()},
		step{"EXECUTE torture_prepared('x')", failing("26000", "torture_prepared")},
	)
}

func (c *client) makeHeld() (bool, error) {
	tag := c.tag()
	c.own["held"] = tag
	return c.steps(step{fmt.Sprintf("DECLARE torture_held SCROLL CURSOR WITH HOLD FOR SELECT '%s', i FROM generate_series(1, 4) i", tag), command()})
}

func (c *client) lookHeld() (bool, error) {
	return c.steps(
		step{"FETCH 4 FROM torture_held", series(c.own["held"], 4)},
		step{"MOVE ABSOLUTE 0 FROM torture_held", command()},
	)
}

func (c *client) endHeld() (bool, error) {
	return c.steps(
		step{"CLOSE torture_held", command()},
		step{"FETCH 1 FROM torture_held", failing("34000", "torture_held")},
	)
}

// channel is this client's own.
func (c *client) channel() string { return fmt.Sprintf("torture_%d", c.n) }

func (c *client) makeListen() (bool, error) {
	c.listening, c.listened = true, true // notifications may come from the statement on
	return c.steps(step{"LISTEN " + c.channel(), command()})
}

// lookListen notifies itself and waits for that.
func (c *client) lookListen() (bool, error) {
	tag := c.tag()
	if ok, err := c.steps(step{"NOTIFY " + c.channel() + ", '" + tag + "'", command()}); err != nil || !ok {
		return ok, err
	}
	for deadline := time.Now().Add(c.r.patience); c.heard != tag; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.r.stuck.Add(1)
			if !c.r.broken {
				c.r.Errorf("client %d was not told of its own NOTIFY within %v", c.n, c.r.patience)
			}
			return false, errLost
		}
		if ok, err := c.steps(step{"SELECT '" + tag + "'", one(tag)}); err != nil || !ok {
			return ok, err
		}
	}
	return true, nil
}

func (c *client) endListen() (bool, error) {
	ok, err := c.steps(step{"UNLISTEN " + c.channel(), command()})
	if ok {
		c.listening = false
	}
	return ok, err
}

// notifyAnother sends to another client's channel; it may listen or not.
func (c *client) notifyAnother() error {
	to := c.rng.IntN(tortureClients)
	_, err := c.query(fmt.Sprintf("NOTIFY torture_%d, 'for q%dx from q%dx'", to, to, c.n), command())
	return err
}

func (c *client) lockKey() string { return fmt.Sprint(4_700_000 + c.n) }

func (c *client) makeLock() (bool, error) {
	return c.steps(step{"SELECT pg_advisory_lock(" + c.lockKey() + ") IS NOT NULL", c.value("the lock", "t")})
}

func (c *client) lookLock() (bool, error) {
	return c.steps(step{
		"SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objid = " + c.lockKey() + " AND pid = pg_catalog.pg_backend_pid()",
		c.value("its lock's count", "1"),
	})
}

func (c *client) endLock() (bool, error) {
	return c.steps(step{"SELECT pg_advisory_unlock(" + c.lockKey() + ")", c.value("the unlocking", "t")})
}

func (c *client) makeTenant() (bool, error) {
	tag := c.tag()
	c.own["torture.tenant"] = ""
	ok, err := c.steps(step{"SELECT torture_tenant('" + tag + "')", one(tag)})
	if ok {
		c.own["torture.tenant"] = tag
	}
	return ok, err
}

// makeTriggered has a trigger set something.
func (c *client) makeTriggered() (bool, error) {
	tag := c.tag()
	c.own["torture.trigger"] = ""
	ok, err := c.steps(step{"INSERT INTO torture_triggered VALUES ('" + tag + "')", command()})
	if ok {
		c.own["torture.trigger"] = tag
	}
	return ok, err
}

func (c *client) makeConfig() (bool, error) {
	tag := c.tag()
	c.own["torture.own"] = ""
	ok, err := c.steps(step{"SELECT set_config('torture.own', '" + tag + "', false)", one(tag)})
	if ok {
		c.own["torture.own"] = tag
	}
	return ok, err
}

func (c *client) lookCustom() (bool, error) { return true, c.ownSettings() }

func (c *client) makeRole() (bool, error) { return c.steps(step{"SET ROLE pg_monitor", command()}) }

func (c *client) lookRole() (bool, error) {
	return c.steps(step{"SELECT current_user", c.value("current_user", "pg_monitor")})
}

func (c *client) endRole() (bool, error) {
	return c.steps(
		step{"RESET ROLE", command()},
		step{"SELECT current_user", c.value("current_user", "postgres")},
	)
}
