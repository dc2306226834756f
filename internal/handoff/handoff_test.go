package handoff

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const patience = 20 * time.Second

// links returns the two ends of a control socket.
func links(t *testing.T) (ours, theirs *link) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return newLink(a), newLink(b)
}

// within fails the test if c is not closed in time.
func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

func TestACancelIsCarriedOutBeforeItsSenderGoesOn(t *testing.T) {
	ours, theirs := links(t)
	var pid uint32
	var key string
	go theirs.read(func(string) {}, func(p uint32, k []byte) { pid, key = p, string(k) })
	go ours.read(func(string) {}, nil)
	ours.cancel(7<<24|5, []byte{0, '\n', 0xff, ' '}, patience)
	if pid != 7<<24|5 || key != "\x00\n\xff " {
		t.Errorf("%d with key %q arrived", pid, key)
	}
}

func TestACancelIsNotWaitedForWhenTheOtherProcessIsGone(t *testing.T) {
	ours, theirs := links(t)
	began := make(chan struct{})
	hold := make(chan struct{})
	defer close(hold)
	go theirs.read(func(string) {}, func(uint32, []byte) { close(began); <-hold })
	go ours.read(func(string) {}, nil)
	done := make(chan struct{})
	go func() { ours.cancel(1, []byte("k"), time.Hour); close(done) }()
	within(t, "the cancel arrives", began)
	_ = theirs.conn.Close()
	within(t, "the sender goes on", done)
}

func TestLinesThatAreNotUnderstoodDoNothing(t *testing.T) {
	ours, theirs := links(t)
	said := make(chan string, 10)
	go theirs.read(func(word string) { said <- word }, func(uint32, []byte) { said <- "cancelled" })
	for _, line := range []string{"", "cancel", "cancel 1 x 00", "cancel 1 4294967296 00", "cancel 1 2 0g", "done", "done x", "done 9", "a b c d e"} {
		ours.send("%s", line)
	}
	ours.send("ready")
	var words []string
	for len(words) == 0 || words[len(words)-1] != "ready" {
		select {
		case w := <-said:
			words = append(words, w)
		case <-time.After(patience):
			t.Fatalf("only %q came", words)
		}
	}
	if len(words) != 3 || words[0] != "cancel" || words[1] != "done" {
		t.Errorf("%q was made of it", words)
	}
}

func TestASocketIsHandedOnByItsRoleAndAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var before sockets
	opened, err := before.listen(RoleClients, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.listen(RoleClients, path); err == nil {
		t.Error("a second process listens on the same path")
	}
	after := sockets{inherited: before.used}
	if err := opened[0].Close(); err != nil { // the one before stops accepting
		t.Fatal(err)
	}
	waiting, err := net.Dial("unix", path) // into the queue that both have
	if err != nil {
		t.Fatalf("the socket went with its first owner: %v", err)
	}
	defer waiting.Close()
	other, err := after.listen(RoleHTTP, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other[0].Close()
	if len(after.inherited) != 1 {
		t.Error("a socket for clients was taken for HTTP")
	}
	taken, err := after.listen(RoleClients, path)
	if err != nil {
		t.Fatal(err)
	}
	defer taken[0].Close()
	if c, err := taken[0].Accept(); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	if len(after.inherited) != 0 || len(after.used) != 2 {
		t.Errorf("%d are left, %d are handed on", len(after.inherited), len(after.used))
	}
	after.remove()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the last process left the file: %v", err)
	}
}

func TestOnlyASocketThatNobodyListensOnIsRemoved(t *testing.T) {
	dir := t.TempDir()
	file, stale := filepath.Join(dir, "file"), filepath.Join(dir, "stale")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeStale(file); err == nil {
		t.Error("a file that is no socket was removed")
	}
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	keepPath(l)
	if err := removeStale(stale); err == nil {
		t.Error("a socket in use was removed")
	}
	_ = l.Close()
	if err := removeStale(stale); err != nil {
		t.Error(err)
	}
	if err := removeStale(stale); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
}

func TestSystemdsVariablesAreForTheProcessTheyName(t *testing.T) {
	for _, c := range []struct {
		pid, fds string
		wrong    bool
	}{
		{"1", "2", false},
		{"", "", false},
		{strconv.Itoa(os.Getpid()), "x", true},
		{strconv.Itoa(os.Getpid()), "-1", true},
		{strconv.Itoa(os.Getpid()), "65", true},
		{strconv.Itoa(os.Getpid()), "0", false},
	} {
		t.Setenv("LISTEN_PID", c.pid)
		t.Setenv("LISTEN_FDS", c.fds)
		t.Setenv("LISTEN_FDNAMES", "http")
		var s sockets
		if err := s.fromSystemd(); (err != nil) != c.wrong || len(s.inherited) > 0 || s.activated {
			t.Errorf("LISTEN_PID=%s LISTEN_FDS=%s: %v, %d sockets", c.pid, c.fds, err, len(s.inherited))
		}
		if v, ok := os.LookupEnv("LISTEN_FDS"); ok {
			t.Errorf("a successor would see LISTEN_FDS=%s", v)
		}
	}
}

func TestReadinessIsToldToSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	p := &Process{retired: make(chan struct{})}
	if err := p.Ready(nil); err != nil {
		t.Fatal(err)
	}
	p.Stopping()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v, want %s", b[:n], err, want)
		}
	}
}

func TestASuccessorRetiresWhenItIsToldOrAlone(t *testing.T) {
	for _, told := range []bool{true, false} {
		first, successor := links(t)
		p := &Process{parent: successor, retired: make(chan struct{})}
		ready := make(chan struct{})
		go first.read(func(word string) {
			if word == "ready" {
				close(ready)
			}
		}, nil)
		if err := p.Ready(nil); err != nil {
			t.Fatal(err)
		}
		within(t, "ready is said", ready)
		select {
		case <-p.Retired():
			t.Error("it retired before anything was said")
		default:
		}
		if told {
			first.send("retire")
		} else {
			_ = first.conn.Close()
		}
		within(t, "it retires", p.Retired())
	}
}
