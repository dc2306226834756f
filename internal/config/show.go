package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Item is one key as SHOW CONFIG gives it. Secrets are masked.
type Item struct {
	Key, Value, Default string
	Where               string // "config.yaml:12", "POSTGRES_PORT" or "default"
}

// entry adds what an entry of databases or users sets, or that it is there.
func entry(v reflect.Value, key string, add func(key string, value any)) {
	empty := true
	walk(v, key+".", func(key string, f reflect.Value) {
		if !f.IsZero() {
			empty = false
			add(key, reflect.Indirect(f).Interface())
		}
	})
	if empty {
		add(key, "")
	}
}

// Items lists every key in the order of config.yaml; users and rules have one
// item each, databases and users' exceptions one for each key that they set.
func (c *Config) Items() []Item {
	defaults := map[string]string{}
	walk(reflect.ValueOf(Default()).Elem(), "", func(key string, v reflect.Value) {
		defaults[key] = fmt.Sprint(v.Interface())
	})
	var items []Item
	add := func(key string, value any) {
		items = append(items, Item{key, fmt.Sprint(value), defaults[key], c.Where(key)})
	}
	walk(reflect.ValueOf(c).Elem(), "", func(key string, v reflect.Value) {
		switch leaf := v.Interface().(type) {
		case []User:
			for i, u := range leaf {
				add(fmt.Sprintf("%s[%d]", key, i), u.Name)
			}
		case map[string]Database:
			for _, name := range slices.Sorted(maps.Keys(leaf)) {
				entry(reflect.ValueOf(leaf[name]), join(key, name), add)
			}
		case map[string]UserPolicy:
			for _, name := range slices.Sorted(maps.Keys(leaf)) {
				entry(reflect.ValueOf(leaf[name]), join(key, name), add)
			}
		case map[string]RuleMode:
			for _, name := range slices.Sorted(maps.Keys(leaf)) {
				add(join(key, name), leaf[name])
			}
		case map[string]Toggle:
			for _, name := range slices.Sorted(maps.Keys(leaf)) {
				add(join(key, name), leaf[name])
			}
		default:
			add(key, leaf)
		}
	})
	return items
}

// String has a "key = value" line for each item; secrets are masked.
func (c *Config) String() string {
	var out strings.Builder
	for _, item := range c.Items() {
		fmt.Fprintf(&out, "%s = %s\n", item.Key, item.Value)
	}
	return out.String()
}
