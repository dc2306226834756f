package main

import (
	"context"
	"errors"
	"reflect"

	"qvpgw/internal/config"
)

// readAgain reads the configuration anew and puts it into force: for SIGHUP and the
// console's RELOAD. An error is in the log, with file and line, and leaves
// everything as it was.
func (p *program) readAgain() error {
	if p.load == nil {
		return errors.New("cannot reload: this gateway has no configuration file")
	}
	read, err := p.load()
	if err == nil {
		err = p.reload(read)
	}
	p.metrics.Reloaded(err == nil)
	if err != nil {
		p.log.Error("cannot reload: the configuration in force stays", "error", err)
	}
	return err
}

// reload puts a configuration that was read anew into force, without dropping
// anybody: for clients that log in from now on pool modes and users, for all else
// at once. What needs a restart stays as it is and is named in the log. An error
// leaves everything as it was.
func (p *program) reload(read *config.Config) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	old := p.cfg()
	next := old.WithReloadable(read)
	opt, err := p.options(next)
	if err != nil {
		return err
	}
	if next.Cache.Bytes != old.Cache.Bytes {
		if err := p.gateway.ResizeCache(int64(next.Cache.Bytes)); err != nil {
			return err
		}
	}
	p.config.Store(next)
	p.gateway.Reload(opt)
	go p.reconcile(context.Background()) // it may wait for a server connection
	changed, restart := changes(old, next), changes(next, read)
	for _, c := range changed {
		p.log.Info("reloaded", "key", c.Key, "value", c.Value, "was", c.was)
	}
	for _, c := range restart {
		p.log.Warn("a restart is needed for this key to change", "key", c.Key, "value", c.Value, "in force", c.was)
	}
	p.log.Info("configuration reloaded", "changed", len(changed), "waiting for a restart", len(restart))
	return nil
}

// change is one key that differs between two configurations.
type change struct {
	config.Item
	was string
}

// changes compares two configurations key by key; secrets show as changed, never
// as themselves.
func changes(from, to *config.Config) (list []change) {
	was := map[string]string{}
	for _, i := range from.Items() {
		was[i.Key] = i.Value
	}
	for _, i := range to.Items() {
		if v, ok := was[i.Key]; !ok || v != i.Value {
			list = append(list, change{i, v})
		}
		delete(was, i.Key)
	}
	for key, v := range was {
		list = append(list, change{config.Item{Key: key}, v})
	}
	if from.Backend.Password != to.Backend.Password {
		list = append(list, change{config.Item{Key: "backend.password", Value: "(changed)"}, "(another)"})
	}
	if len(from.Auth.Users) == len(to.Auth.Users) && !reflect.DeepEqual(from.Auth.Users, to.Auth.Users) {
		list = append(list, change{config.Item{Key: "auth.users", Value: "(changed)"}, "(others)"})
	}
	return list
}
