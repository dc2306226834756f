package main

import (
	"context"
	"time"

	"qvpgw/internal/config"
	"qvpgw/internal/gateway"
	"qvpgw/internal/schema"
)

// keeperEvery is how often the keeper looks for something to do, keeperTimeout what
// one of its statements, a refresh, may take.
const (
	keeperEvery   = 10 * time.Second
	keeperTimeout = 10 * time.Minute
)

// keeper does what the gateway's own schema needs from time to time: the triggers of
// the change log, settled points, pruning.
type keeper struct {
	*program
	settler schema.Settler
	pruner  schema.Pruner
	seen    *config.Config // the configuration that the triggers were compared with
	said    string         // the last complaint, said once
}

// keep works until ctx ends, on connections that no client needs (trap T16).
func (p *program) keep(ctx context.Context) {
	k := &keeper{program: p}
	k.settler.Log = func(s string) { p.log.Info(s) }
	t := time.NewTicker(keeperEvery)
	defer t.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			more = k.round(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// round does a piece of work, and says whether there is more that need not wait.
func (k *keeper) round(ctx context.Context) (more bool) {
	cfg := k.cfg()
	if cfg.Schema.TimescaleDB == config.Off && cfg.Schema.PGVector == config.Off {
		return false
	}
	_, err := k.gateway.Spare(lookupDatabase(cfg), cfg.Backend.User, keeperTimeout, func(query gateway.QueryFunc) error {
		var err error
		more, err = k.work(ctx, cfg, schema.TextQuery(query))
		return err
	})
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
		if text != k.said {
			k.log.Warn("the gateway's schema is not kept", "error", err)
		}
	}
	k.said = text
	return more && err == nil
}

func (k *keeper) work(ctx context.Context, cfg *config.Config, q schema.Query) (more bool, err error) {
	if k.seen != cfg && cfg.Schema.Migrate {
		want := map[string]bool{}
		for name, t := range cfg.Schema.ChangeLog.Tables {
			if t != config.Auto {
				want[name] = t == config.On
			}
		}
		changed, err := schema.Watch(ctx, q, want)
		for _, text := range changed {
			k.log.Info(text)
		}
		if err != nil {
			return false, err
		}
		k.seen = cfg
	}
	k.pruner.Age, k.pruner.Rows = cfg.Schema.ChangeLog.Keep, cfg.Schema.ChangeLog.Rows
	if more, err = k.pruner.Round(ctx, q); err != nil || !cfg.Schema.Settle || cfg.Schema.TimescaleDB == config.Off {
		return more, err
	}
	settles, err := k.settler.Round(ctx, q)
	return more || settles, err
}
