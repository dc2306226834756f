package gateway_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// messagesOf reads a step of testdata/twins.txt: messages of one client, separated by
// " ;; ", which get so many ReadyForQuery. "-" stands for an empty name.
func messagesOf(step string) (list []message, ready int) {
	for _, w := range strings.Split(step, " ;; ") {
		kind, rest, _ := strings.Cut(w, " ")
		f := append(strings.Fields(rest), "", "")
		for i := range f {
			f[i] = strings.TrimPrefix(f[i], "-")
		}
		n, _ := strconv.Atoi(f[1])
		switch kind {
		case "Q":
			list, ready = append(list, simple(rest)), ready+1
		case "X": // a whole statement, but for the Sync
			list = append(list, parse("", rest), bind("", ""), describe('P', ""), runPortal("", 0))
		case "P":
			_, sql, _ := strings.Cut(rest, " ")
			list = append(list, parse(f[0], sql))
		case "B":
			list = append(list, bind(f[0], f[1], f[2:len(f)-2]...))
		case "D":
			list = append(list, describe(f[0][0], f[1]))
		case "E":
			list = append(list, runPortal(f[0], uint32(n)))
		case "C":
			list = append(list, closing(f[0][0], f[1]))
		case "S":
			list, ready = append(list, endGroup), ready+1
		case "H":
			list = append(list, &pgproto3.Flush{})
		case "F": // in a group that fails before it, it has no answer
			n, _ := strconv.Atoi(f[0])
			list = append(list, &pgproto3.FunctionCall{Function: uint32(n)})
			ready += bit(!strings.Contains(step, "X "))
		case "d":
			list = append(list, &pgproto3.CopyData{Data: []byte(rest + "\n")})
		case "c":
			list = append(list, &pgproto3.CopyDone{})
		case "f":
			list = append(list, &pgproto3.CopyFail{Message: rest})
		default:
			panic("no such step: " + step)
		}
	}
	return list, ready
}

// TestTwoClientsSeeOfTheirSessionsWhatDirectOnesSee has the clients of each script of
// testdata/twins.txt say the same through the gateway and to the server. A line is a
// client and what it sends, or "leaves", or "hears" and how many notifications of others
// it has got since it last heard; {r} is a word of the side, for what all databases share.
func TestTwoClientsSeeOfTheirSessionsWhatDirectOnesSee(t *testing.T) {
	text, err := os.ReadFile("testdata/twins.txt")
	if err != nil {
		t.Fatal(err)
	}
	scripts := strings.Split(string(text), "\n=== ")
	one, other := nativeDatabase(t, scripts[0]), nativeDatabase(t, scripts[0])
	_, addr := serve(t, other, gateway.Options{Pool: pool.Options{Size: 3}})
	for _, script := range scripts[1:] {
		name, lines, _ := strings.Cut(script, "\n")
		t.Run(name, func(t *testing.T) {
			twins := map[string]twin{}
			heard := map[*peer][]string{}
			say := func(p *peer, step, word string) (out []string) {
				list, ready := messagesOf(strings.ReplaceAll(step, "{r}", word))
				p.send(list...)
				for _, l := range comparable(p.reply(ready)) {
					if strings.HasSuffix(l, "of another's") {
						heard[p] = append(heard[p], l)
					} else if !strings.HasPrefix(l, "parameters ") { // oids of types
						out = append(out, strings.ReplaceAll(l, word, "{r}"))
					}
				}
				return out
			}
			hear := func(p *peer, n int) (out []string) {
				for len(heard[p]) < n {
					heard[p] = append(heard[p], p.next())
				}
				out, heard[p] = heard[p], nil
				return out
			}
			for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
				who, step, _ := strings.Cut(line, " ")
				w, ok := twins[who]
				if !ok {
					w = twin{direct(t, one), dial(t, addr, other)}
					twins[who] = w
				}
				var want, got []string
				switch n, hears := strings.CutPrefix(step, "hears "); {
				case step == "leaves":
					w.leave()
					delete(twins, who)
				case hears:
					n, err := strconv.Atoi(n)
					if err != nil {
						t.Fatal(err)
					}
					want, got = hear(w.direct, n), hear(w.through, n)
				default:
					want, got = say(w.direct, step, "direct_side"), say(w.through, step, "gateway_side")
				}
				if !slices.Equal(want, got) {
					t.Errorf("step %d: %s\ndirect  %q\ngateway %q", i, line, want, got)
				}
			}
			for who, w := range twins {
				if want, got := fmt.Sprint(heard[w.direct]), fmt.Sprint(heard[w.through]); want != got {
					t.Errorf("%s: heard at the end:\ndirect  %s\ngateway %s", who, want, got)
				}
				differentParams(t, w.direct, w.through)
				w.leave()
			}
		})
	}
}
