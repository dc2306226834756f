package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"

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
		case "SHUTDOWN":
			return p.shutdown(c.Name)
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

// shutdown has the program end: at once with "", and with WAIT_FOR_SERVERS when the
// transactions under way have ended, limits.shutdown_timeout at most.
func (p *program) shutdown(how string) error {
	times := 2 // as two signals do
	switch {
	case strings.EqualFold(how, "WAIT_FOR_SERVERS"):
		times = 1
	case how != "":
		return &gateway.Error{Code: "0A000", Message: "the console cannot SHUTDOWN " + strings.ToUpper(how), Hint: "SHUTDOWN ends at once, SHUTDOWN WAIT_FOR_SERVERS when the transactions under way have ended."}
	}
	for range times {
		select {
		case p.asked <- syscall.SIGTERM:
		default: // it has been asked already
		}
	}
	return nil
}
