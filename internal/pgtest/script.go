package pgtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Script is a conversation between a client and a server as text, one step a
// line. It plays either side: its own messages are sent, the other's expected.
//
//	startup user=postgres database=x   # a whole startup, trust authentication
//	> Query "select 1"                 # from the client
//	< RowDescription n:23              # from the server
//	< DataRow "1" null
//	< CommandComplete "SELECT 1"
//	< ReadyForQuery I
//	< ErrorResponse ERROR 42601        # arguments may end early: the rest is not compared
//	< *                                # any one message
//	< ... ReadyForQuery                # any messages up to this one
//	> raw 51 00 00 00                  # bytes, in hexadecimal
//	> close                            # the client closes, the server expects it
//	sleep 20ms
//
// Strings are quoted as in Go where they hold spaces; a # ends a line. Which
// messages there are, with their arguments, is in build and render. Every wait
// is bounded by Timeout.
type Script struct {
	Segment int           // bytes sent in one piece, 0: whole messages
	Timeout time.Duration // of one expected message
	steps   []step
}

type step struct {
	line int
	from byte // '>' client, '<' server, 0: neither
	skip bool // "...": up to this message
	args []string
}

// side is whom a script plays.
type side byte

const (
	client side = '>'
	server side = '<'
)

var token = regexp.MustCompile(`[^\s"#]*(?:"(?:[^"\\]|\\.)*")?`)

// ParseScript reads a script.
func ParseScript(text string) (*Script, error) {
	s := &Script{Timeout: 10 * time.Second}
	number := 0
	for line := range strings.Lines(text) {
		number++
		args, err := tokens(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if len(args) == 0 {
			continue
		}
		st := step{line: number}
		if args[0] == ">" || args[0] == "<" {
			st.from = args[0][0]
			args = args[1:]
		}
		if len(args) > 0 && args[0] == "..." {
			st.skip = true
			args = args[1:]
		}
		st.args = args
		if err := st.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		s.steps = append(s.steps, st)
	}
	return s, nil
}

// tokens splits a line into words; a quoted part of a word is unquoted.
func tokens(line string) ([]string, error) {
	var out []string
	for line = strings.TrimSpace(line); line != "" && line[0] != '#'; line = strings.TrimSpace(line) {
		word := token.FindString(line)
		if word == "" {
			return nil, fmt.Errorf("cannot read %q", line)
		}
		line = line[len(word):]
		if i := strings.IndexByte(word, '"'); i >= 0 {
			text, err := strconv.Unquote(word[i:])
			if err != nil {
				return nil, fmt.Errorf("cannot read the string %s: %w", word[i:], err)
			}
			word = word[:i] + text
		}
		out = append(out, word)
	}
	return out, nil
}

func (st step) check() error {
	switch {
	case len(st.args) == 0:
		return errors.New("a step without a message")
	case st.from == 0 && st.args[0] == "startup", st.args[0] == "close", st.args[0] == "*":
		return nil
	case st.from == 0 && st.args[0] == "sleep" && len(st.args) == 2:
		_, err := time.ParseDuration(st.args[1])
		return err
	case st.from == 0:
		return fmt.Errorf("%q is not a step, a message starts with > or <", st.args[0])
	case st.args[0] == "raw":
		_, err := hex.DecodeString(strings.Join(st.args[1:], ""))
		return err
	}
	_, err := build(st.from, st.args)
	return err
}

// MustScript is ParseScript for a test.
func MustScript(t testing.TB, text string) *Script {
	t.Helper()
	s, err := ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Serve plays the server's side to every connection on a new loopback port and
// returns its address. A conversation that goes another way fails the test,
// which waits for those that have begun.
func (s *Script) Serve(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				if err := s.play(conn, server); err != nil {
					t.Errorf("scripted server, connection %d: %v", n, err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

// Run plays the client's side against an address.
func (s *Script) Run(t testing.TB, addr string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.play(conn, client); err != nil {
		t.Errorf("scripted client: %v", err)
	}
}

// Transcript plays the client's side against an address, sends without
// expecting, and returns what came back, a message a line: for comparing two
// servers. Each expectation stands for the messages up to one of that name.
func (s *Script) Transcript(ctx context.Context, addr string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("cannot reach the server: %w", err)
	}
	defer conn.Close()
	p := s.player(conn, client)
	for _, st := range s.steps {
		if st.from == byte(server) {
			st = step{line: st.line, from: st.from, skip: true, args: st.args[:1]}
		}
		if err := p.step(st); err != nil {
			return p.seen.String(), fmt.Errorf("line %d: %w", st.line, err)
		}
	}
	return p.seen.String(), nil
}

func (s *Script) play(conn net.Conn, me side) error {
	p := s.player(conn, me)
	for _, st := range s.steps {
		if err := p.step(st); err != nil {
			return fmt.Errorf("line %d: %w", st.line, err)
		}
	}
	return nil
}

func (s *Script) player(conn net.Conn, me side) *player {
	p := &player{script: s, conn: conn, me: me, greeting: true}
	if me == client {
		p.front = pgproto3.NewFrontend(conn, conn)
	} else {
		p.back = pgproto3.NewBackend(conn, conn)
		_ = p.back.SetAuthType(pgproto3.AuthTypeCleartextPassword)
	}
	return p
}

// player is one run of a script.
type player struct {
	script   *Script
	conn     net.Conn
	me       side
	front    *pgproto3.Frontend // when me is the client
	back     *pgproto3.Backend  // when me is the server
	greeting bool               // the server expects a startup message
	seen     strings.Builder    // what was received
}

func (p *player) step(st step) error {
	switch st.args[0] {
	case "sleep":
		d, err := time.ParseDuration(st.args[1])
		time.Sleep(d)
		return err
	case "startup":
		return p.startup(st)
	}
	if st.from == byte(p.me) {
		return p.send(st)
	}
	if err := p.conn.SetReadDeadline(time.Now().Add(p.script.Timeout)); err != nil {
		return err
	}
	for {
		done, err := p.expect(st)
		if done || err != nil {
			return err
		}
	}
}

// startup is the whole exchange up to the first ReadyForQuery.
func (p *player) startup(st step) error {
	steps := []step{{from: byte(client), args: append([]string{"StartupMessage"}, st.args[1:]...)}}
	if p.me == client {
		if len(st.args) == 1 {
			steps[0].args = append(steps[0].args, "user="+Superuser, "database=postgres")
		}
		steps = append(steps, step{from: byte(server), skip: true, args: []string{"ReadyForQuery", "I"}})
	} else {
		for _, line := range []string{
			"AuthenticationOk", "ParameterStatus server_version 17.0", "ParameterStatus client_encoding UTF8",
			"ParameterStatus standard_conforming_strings on", "BackendKeyData 1 1", "ReadyForQuery I",
		} {
			steps = append(steps, step{from: byte(server), args: strings.Fields(line)})
		}
	}
	for _, s := range steps {
		s.line = st.line
		if err := p.step(s); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) send(st step) error {
	var out []byte
	switch st.args[0] {
	case "close":
		return p.conn.Close()
	case "raw":
		out, _ = hex.DecodeString(strings.Join(st.args[1:], ""))
	default:
		m, err := build(st.from, st.args)
		if err != nil {
			return err
		}
		if out, err = m.Encode(nil); err != nil {
			return fmt.Errorf("cannot encode %s: %w", st.args[0], err)
		}
	}
	piece := p.script.Segment
	if piece == 0 {
		piece = max(len(out), 1)
	}
	for sent := 0; len(out) > 0; sent++ {
		n := min(piece, len(out))
		if _, err := p.conn.Write(out[:n]); err != nil {
			return fmt.Errorf("cannot send %s: %w", st.args[0], err)
		}
		if out = out[n:]; len(out) > 0 && sent < 6 {
			time.Sleep(200 * time.Microsecond) // else the kernel joins the pieces of the header
		}
	}
	return nil
}

// expect receives one message; done when the step is over.
func (p *player) expect(st step) (done bool, err error) {
	if st.args[0] == "raw" {
		want, _ := hex.DecodeString(strings.Join(st.args[1:], ""))
		have := make([]byte, len(want))
		if n, err := io.ReadFull(p.conn, have); err != nil || !bytes.Equal(have, want) {
			return true, fmt.Errorf("expected the bytes %x, got %x, %w", want, have[:n], err)
		}
		return true, nil
	}
	have, err := p.receive()
	if st.args[0] == "close" {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) {
			return true, nil
		}
		if err == nil && st.skip {
			return false, nil
		}
		return true, fmt.Errorf("expected the other side to close, got %v, %v", have, err)
	}
	if err != nil {
		return true, fmt.Errorf("expected %v: %w", st.args, err)
	}
	if matches(st.args, have) {
		return true, nil
	}
	if st.skip {
		return false, nil
	}
	return true, fmt.Errorf("expected %v, got %v", st.args, have)
}

func matches(want, have []string) bool {
	if want[0] == "*" {
		return true
	}
	if want[0] == "StartupMessage" && have[0] == want[0] { // its pairs have no order, and there may be more
		return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) })
	}
	if len(want) > len(have) {
		return false
	}
	for i, w := range want {
		if w != have[i] && (w != "*" || i == 0) {
			return false
		}
	}
	return true
}

// receive is the next message as words.
func (p *player) receive() ([]string, error) {
	var m any
	var err error
	switch {
	case p.me == client:
		m, err = p.front.Receive()
	case p.greeting:
		m, err = p.back.ReceiveStartupMessage()
		_, p.greeting = m.(*pgproto3.StartupMessage)
		p.greeting = !p.greeting // SSLRequest is followed by another
	default:
		m, err = p.back.Receive()
	}
	if err != nil {
		return nil, err
	}
	words := render(m)
	for i, w := range words {
		if i > 0 {
			p.seen.WriteByte(' ')
		}
		if strings.ContainsAny(w, " \t\n\\\"#") || w == "" {
			w = strconv.Quote(w)
		}
		p.seen.WriteString(w)
	}
	p.seen.WriteByte('\n')
	return words, nil
}
