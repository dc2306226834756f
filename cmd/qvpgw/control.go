package main

import (
	"context"
	"errors"
	"strconv"

	"qvpgw/internal/admin"
	"qvpgw/internal/gateway"
)

// do carries out a command of the console.
func (p *program) do(ctx context.Context, c admin.Command) error {
	g := p.gateway
	err := func() error {
		switch c.Verb {
		case "PAUSE":
			return g.Pause(ctx, c.Name)
		case "RESUME":
			return g.Resume(c.Name)
		case "DISABLE":
			return g.Disable(c.Name)
		case "ENABLE":
			return g.Enable(c.Name)
		case "KILL":
			return g.Kill(c.Name)
		case "RECONNECT":
			return g.Reconnect(c.Name)
		case "WAIT_CLOSE":
			return g.WaitClose(ctx, c.Name)
		case "KILL_CLIENT":
			id, err := strconv.ParseUint(c.Name, 10, 32)
			if err != nil {
				return &gateway.Error{Code: "42601", Message: "write KILL_CLIENT id", Hint: "SHOW CLIENTS has them in the column id."}
			}
			return g.KillClient(uint32(id))
		}
		panic("BUG: the console has the command " + c.Verb)
	}()
	if err == nil {
		p.log.Info("console", "command", c.Verb, "name", c.Name)
		return nil
	}
	var e *gateway.Error
	if errors.As(err, &e) {
		return &admin.Error{Code: e.Code, Message: e.Message, Hint: e.Hint}
	}
	return err
}
