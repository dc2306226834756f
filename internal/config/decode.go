package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder fills a Config from the YAML syntax tree. It walks the tree itself
// instead of unmarshalling so that each problem has its line, all of them are
// found in one run, and ${NAME} is replaced in values only, never in the syntax.
type decoder struct {
	file     string
	lookup   func(string) (string, bool)
	where    map[string]string // filled: key -> file:line
	problems Problems
}

func (d *decoder) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return d.file
	}
	return d.file + ":" + strconv.Itoa(t.Position.Line)
}

func (d *decoder) problem(t *token.Token, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.at(t), fmt.Sprintf(format, args...)})
}

func (d *decoder) document(text []byte, into reflect.Value) {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		var e interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &e) {
			d.problem(e.GetToken(), "not YAML: %s", e.GetMessage())
		} else {
			d.problem(nil, "not YAML: %s", err)
		}
		return
	}
	seen := false
	for _, doc := range tree.Docs {
		if doc.Body == nil || isNull(doc.Body) || doc.Body.Type() == ast.CommentType {
			continue
		}
		if seen {
			d.problem(doc.Start, "a second YAML document; a configuration is one")
			return
		}
		seen = true
		d.value(doc.Body, into, "")
	}
}

func isNull(n ast.Node) bool { return n.Type() == ast.NullType }

// value decodes n into v, whose dotted key is key.
func (d *decoder) value(n ast.Node, v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.Struct:
		d.section(n, v, key)
	case reflect.Slice:
		d.list(n, v, key)
	case reflect.Map:
		d.dictionary(n, v, key)
	default:
		d.scalar(n, v, key)
	}
}

// pairs returns the key-value pairs of a mapping, nil for a section without keys.
func (d *decoder) pairs(n ast.Node, key string) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	case *ast.NullNode: // everything in the section is commented out
		return nil
	}
	if key == "" {
		d.problem(n.GetToken(), `not a configuration; write "key: value" lines`)
	} else {
		d.problem(n.GetToken(), `%s is a section; write its keys below it, indented, as "key: value" lines`, key)
	}
	return nil
}

func (d *decoder) section(n ast.Node, v reflect.Value, key string) {
	fields := map[string]reflect.Value{}
	var names []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" {
			fields[tag], names = v.Field(i), append(names, tag)
		}
	}
	for _, pair := range d.pairs(n, key) {
		name := pair.Key.GetToken().Value
		field, ok := fields[name]
		if !ok {
			d.problem(pair.Key.GetToken(), "%s", unknownKey(key, name, names))
			continue
		}
		d.value(pair.Value, field, join(key, name))
	}
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// unknownKey says which key was meant: one of the same section, or one that
// stands elsewhere.
func unknownKey(section, name string, names []string) string {
	text := fmt.Sprintf("unknown key %q", name)
	if section != "" {
		text += " in " + section
	}
	if guess := didYouMean(name, names); guess != "" {
		return text + guess
	}
	var elsewhere []string
	flat := strings.NewReplacer(".", "_", "-", "_")
	wanted := strings.ToLower(flat.Replace(join(section, name)))
	walk(reflect.ValueOf(Default()).Elem(), "", func(k string, _ reflect.Value) {
		full, last := flat.Replace(k), k[strings.LastIndexByte(k, '.')+1:]
		if last == name || distance(full, wanted) <= 1 || distance(full, strings.ToLower(name)) <= 1 {
			elsewhere = append(elsewhere, strconv.Quote(k))
		}
	})
	if len(elsewhere) > 0 {
		return text + "; did you mean " + strings.Join(elsewhere, " or ") + "?"
	}
	slices.Sort(names)
	return text + "; the keys here are " + strings.Join(names, ", ")
}

func (d *decoder) list(n ast.Node, v reflect.Value, key string) {
	if isNull(n) {
		return
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(n.GetToken(), `%s is a list; write each entry below it, as "- name: …"`, key)
		return
	}
	for i, entry := range seq.Values {
		element := reflect.New(v.Type().Elem()).Elem()
		at := fmt.Sprintf("%s[%d]", key, i)
		d.where[at] = d.at(entry.GetToken())
		d.value(entry, element, at)
		v.Set(reflect.Append(v, element))
	}
}

func (d *decoder) dictionary(n ast.Node, v reflect.Value, key string) {
	for _, pair := range d.pairs(n, key) {
		element := reflect.New(v.Type().Elem()).Elem()
		name := pair.Key.GetToken().Value
		if element.Kind() == reflect.Struct {
			d.where[join(key, name)] = d.at(pair.Key.GetToken())
			d.section(pair.Value, element, join(key, name))
			v.SetMapIndex(reflect.ValueOf(name), element)
			continue
		}
		if d.scalar(pair.Value, element, join(key, name)) {
			v.SetMapIndex(reflect.ValueOf(name), element)
		}
	}
}

// scalar decodes the text of n as it stands in the file, so that a password of
// 0123 or no stays these characters.
func (d *decoder) scalar(n ast.Node, v reflect.Value, key string) bool {
	text, ok := scalarText(n)
	if !ok {
		d.problem(n.GetToken(), "%s takes one plain value, not %s", key, describe(n))
		return false
	}
	text, err := expand(text, d.lookup)
	if err == nil {
		err = setScalar(v, text)
	}
	if err != nil {
		d.problem(n.GetToken(), "%s: %s", key, err)
		return false
	}
	d.where[key] = d.at(n.GetToken())
	return true
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.NullNode:
		return "", true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section with keys"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	}
	return "this"
}

// setScalar sets v from text by v's type; the error says what would be right.
func setScalar(v reflect.Value, text string) error {
	if v.Kind() == reflect.Pointer { // a key that may be left out
		v.Set(reflect.New(v.Type().Elem()))
		return setScalar(v.Elem(), text)
	}
	if text == "" && v.Type() != reflect.TypeFor[string]() && v.Type() != reflect.TypeFor[Secret]() {
		return errors.New("has no value; give one, or leave the key out for its default")
	}
	switch target := v.Addr().Interface().(type) {
	case *string:
		*target = text
		return nil
	case *Secret:
		*target = Secret(text)
		return nil
	case *int:
		return parsed(target, text, parseInt)
	case *bool:
		return parsed(target, text, parseBool)
	case *Bytes:
		return parsed(target, text, parseBytes)
	case *time.Duration:
		return parsed(target, text, parseDuration)
	case *Period:
		return parsed(target, text, parsePeriod)
	}
	value, err := parseEnum(v.Interface().(enum), text)
	if err == nil {
		v.SetString(value)
	}
	return err
}

func parsed[T any](target *T, text string, parse func(string) (T, error)) error {
	value, err := parse(text)
	if err == nil {
		*target = value
	}
	return err
}
