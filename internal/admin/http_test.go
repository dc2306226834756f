package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qvpgw/web"
)

func serve(t *testing.T, opt Options) (get func(path, host string) (int, string, http.Header)) {
	t.Helper()
	if opt.Registry == nil {
		opt.Registry = prometheus.NewRegistry()
	}
	ts := httptest.NewServer(New(opt).Handler())
	t.Cleanup(ts.Close)
	return func(path, host string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, ts.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header
	}
}

func TestHealthIsTheProcessAndReadinessTheServer(t *testing.T) {
	var down error
	get := serve(t, Options{Ready: func() error { return down }})
	f := func(path string, code int, text string) {
		t.Helper()
		if c, body, _ := get(path, ""); c != code || body != text {
			t.Errorf("%s: %d %q", path, c, body)
		}
	}
	f("/healthz", 200, "ok\n")
	f("/readyz", 200, "ready\n")
	down = errors.New("cannot reach db:5432: refused")
	f("/healthz", 200, "ok\n")
	f("/readyz", 503, "cannot reach db:5432: refused\n")
}

func TestMetricsAreTheRegistrys(t *testing.T) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "x_total", Help: "x"})
	r.MustRegister(c)
	c.Add(3)
	get := serve(t, Options{Registry: r})
	if code, body, _ := get("/metrics", "gateway.internal:8432"); code != 200 || !strings.Contains(body, "x_total 3\n") {
		t.Errorf("%d %s", code, body)
	}
}

func TestThePageHasAllItsFilesAndNothingFromElsewhere(t *testing.T) {
	get := serve(t, Options{})
	code, page, h := get("/", "")
	if code != 200 || !strings.Contains(page, "<title>qvpgw</title>") {
		t.Fatalf("%d %s", code, page)
	}
	if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'") {
		t.Errorf("policy %q", csp)
	}
	for _, name := range []string{"app.js", "style.css"} {
		if code, body, _ := get("/"+name, ""); code != 200 || body == "" {
			t.Errorf("%s: %d", name, code)
		}
		if !strings.Contains(page, `"`+name+`"`) {
			t.Errorf("the page does not use %s", name)
		}
	}
	if code, _, _ := get("/embed.go", ""); code != 404 {
		t.Errorf("embed.go: %d", code)
	}
	foreign := regexp.MustCompile(`(?i)https?://[^\s"']+`)
	for _, name := range []string{"index.html", "app.js", "style.css"} {
		text, err := web.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range foreign.FindAllString(string(text), -1) {
			if link != "http://www.w3.org/2000/svg" { // a name, never loaded
				t.Errorf("%s uses %s", name, link)
			}
		}
		if strings.Contains(string(text), "innerHTML") || strings.Contains(string(text), "onclick") {
			t.Errorf("%s makes HTML of texts", name)
		}
	}
}

// TestTheScriptReadsOnlyNamesThatTheStatusHas compares each name that app.js reads
// from the status with the JSON.
func TestTheScriptReadsOnlyNamesThatTheStatusHas(t *testing.T) {
	status := Status{
		Capabilities: make([]Capability, 1), Actions: make([]Count, 1), Pools: make([]PoolRow, 1),
		Clients: make([]ClientRow, 1), Routes: make([]RouteRow, 1),
	}
	text, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	script, err := web.Files.ReadFile("app.js")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	first := func(key string) map[string]any { return tree[key].([]any)[0].(map[string]any) }
	f := func(pattern string, in map[string]any, least int) {
		t.Helper()
		names := regexp.MustCompile(pattern).FindAllStringSubmatch(string(script), -1)
		if len(names) < least {
			t.Errorf("%s is found %d times only", pattern, len(names))
		}
		for _, n := range names {
			if _, ok := in[n[1]]; !ok {
				t.Errorf("app.js reads %s, which the status has not", n[0])
			}
		}
	}
	f(`\bs\.([a-z_]+)\b`, tree, 10)
	f(`\bb\.([a-z_]+) (?:&&|\?)`, tree["backend"].(map[string]any), 4)
	f(`\bs\.cache\.([a-z_]+)`, tree["cache"].(map[string]any), 4)
	f(`\(p\) => .*?\bp\.([a-z_]+)`, first("pools"), 10)
	f(`sum\("([a-z_]+)"\)`, first("pools"), 5)
	f(`\(r\) => .*?\br\.([a-z_]+)`, first("routes"), 5)
	f(`\["[a-z ]*", \(c\) => [a-z]*\(?\(?c\.([a-z_]+)`, merge(first("clients"), first("capabilities")), 10)
	f(`\ba\.([a-z_]+)`, first("actions"), 3)
}

func merge(a, b map[string]any) map[string]any {
	for k, v := range b {
		a[k] = v
	}
	return a
}

func TestTheStatusIsBoundedWithPinnedClientsFirst(t *testing.T) {
	get := serve(t, Options{Status: func() Status {
		s := Status{Version: "1.2.3"}
		for i := range 1000 {
			c := ClientRow{ID: uint64(i), State: "idle"}
			switch i {
			case 900:
				c.Pins = []string{"listen"}
			case 800:
				c.State = "waiting"
			case 700:
				c.State = "active"
			}
			s.Clients = append(s.Clients, c)
			s.Routes = append(s.Routes, RouteRow{When: start.Add(time.Duration(i) * time.Second)})
		}
		return s
	}})
	code, body, h := get("/api/status", "")
	var s Status
	if err := json.Unmarshal([]byte(body), &s); code != 200 || err != nil || h.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", code, err, body)
	}
	if s.ClientsTotal != 1000 || len(s.Clients) != pageRows || len(s.Routes) != pageRows {
		t.Errorf("%d clients of %d, %d routes", len(s.Clients), s.ClientsTotal, len(s.Routes))
	}
	if s.Clients[0].ID != 900 || s.Clients[1].ID != 800 || s.Clients[2].ID != 700 || s.Clients[3].ID != 0 {
		t.Errorf("first are %d, %d, %d", s.Clients[0].ID, s.Clients[1].ID, s.Clients[2].ID)
	}
	if !s.Routes[0].When.Equal(start.Add(999 * time.Second)) {
		t.Errorf("the first route is of %s", s.Routes[0].When)
	}
	if s.Version != "1.2.3" || time.Since(s.Now) > time.Minute {
		t.Errorf("version %s at %s", s.Version, s.Now)
	}
}

func TestForeignNamesCannotReadThePage(t *testing.T) {
	get := serve(t, Options{})
	f := func(path, host string, want int) {
		t.Helper()
		if code, _, _ := get(path, host); code != want {
			t.Errorf("%s as %s: %d", path, host, code)
		}
	}
	for _, path := range []string{"/", "/api/status", "/debug/pprof/"} {
		f(path, "evil.example:8432", 403)
		f(path, "localhost:8432", 200)
		f(path, "127.0.0.1", 200)
		f(path, "[::1]:8432", 200)
	}
	f("/healthz", "gateway", 200)
	f("/nothing", "localhost", 404)
}

func TestProfilesAreForLoopbackClientsOnly(t *testing.T) {
	h := New(Options{Registry: prometheus.NewRegistry()}).Handler()
	f := func(remote string, want int) {
		t.Helper()
		req := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		req.RemoteAddr = remote
		req.Header.Set("X-Forwarded-For", "127.0.0.1")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("from %s: %d", remote, rec.Code)
		}
	}
	f("127.0.0.1:1", 200)
	f("[::1]:1", 200)
	f("[::ffff:127.0.0.1]:1", 200)
	f("10.0.0.1:1", 403)
	f("nonsense", 403)
}

func TestOnlyReadingMethodsAreServed(t *testing.T) {
	h := New(Options{Registry: prometheus.NewRegistry()}).Handler()
	for _, path := range []string{"/", "/api/status", "/metrics", "/healthz"} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader("x")))
		if rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, rec.Code)
		}
	}
}

func TestServeEndsWithShutdown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Registry: prometheus.NewRegistry()})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	if err := New(Options{Registry: prometheus.NewRegistry()}).Serve(closed); err == nil || !strings.Contains(err.Error(), "cannot serve HTTP on 127.0.0.1:") {
		t.Errorf("on a closed listener: %v", err)
	}
}

func TestAConnectionThatWasAcceptedIsAnsweredAtTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Registry: prometheus.NewRegistry()})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for accepted := false; !accepted; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		accepted = len(s.busy) == 1
		s.mu.Unlock()
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("got %q", b)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
