package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"qvpgw/web"
)

// Options of a Server.
type Options struct {
	Status   func() Status // what the page shows; called for each request of /api/status
	Ready    func() error  // nil when the pool can reach the server; called for each /readyz
	Registry *prometheus.Registry
	Log      *slog.Logger // nil: discarded
}

// Server serves HTTP:
//
//	/            the operators' page, its data at /api/status
//	/metrics     Prometheus
//	/healthz     200 while the process runs
//	/readyz      200 while the pool can reach the server, else 503 with the reason
//	/debug/pprof for clients at loopback addresses only
type Server struct {
	opt  Options
	http *http.Server

	mu        sync.Mutex // protects what follows
	listeners []net.Listener
	closing   bool
	serving   int               // Serve calls that have not returned
	busy      map[net.Conn]bool // connections whose request is under way or to come
}

// New returns a Server.
func New(opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, busy: map[net.Conn]bool{}}
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a profile takes 30 s by default
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 14,
		ConnState:         s.state,
		ErrorLog:          slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// state follows a connection.
func (s *Server) state(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew || state == http.StateActive {
		s.busy[c] = true
	} else {
		delete(s.busy, c)
	}
}

// Serve answers on l until Shutdown, which makes it return nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.serving++
	s.mu.Unlock()
	err := s.http.Serve(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving--
	if s.closing || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve HTTP on %s: %w", l.Addr(), err)
}

// Shutdown stops accepting and waits for requests under way, at most until ctx
// ends. Those of connections that were accepted are answered: http.Server.Shutdown
// alone drops a request that it has not read yet.
func (s *Server) Shutdown(ctx context.Context) error {
	s.http.SetKeepAlivesEnabled(false)
	s.mu.Lock()
	s.closing = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	for quiet := false; !quiet && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		quiet = s.serving == 0 && len(s.busy) == 0
		s.mu.Unlock()
	}
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // the connections are given up with the error below
		return fmt.Errorf("cannot end all HTTP requests: %w", err)
	}
	return nil
}

// Handler returns what Serve serves.
func (s *Server) Handler() http.Handler {
	open := http.NewServeMux() // for whoever reaches the port
	open.Handle("GET /metrics", promhttp.HandlerFor(s.opt.Registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelWarn),
	}))
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	open.HandleFunc("GET /readyz", s.ready)

	page := http.NewServeMux() // shows statements, so no foreign site may read it
	page.Handle("GET /", http.FileServerFS(web.Files))
	page.HandleFunc("GET /api/status", s.status)
	page.Handle("GET /debug/pprof/", loopbackOnly(profiles()))
	open.Handle("/", ownHostOnly(page))
	return secured(open)
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a client that is gone needs no answer
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.opt.Ready != nil {
		if err := s.opt.Ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	answer(w, http.StatusOK, "ready")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	var status Status
	if s.opt.Status != nil {
		status = s.opt.Status()
	}
	status.trim(time.Now())
	body, err := json.Marshal(status)
	if err != nil {
		s.opt.Log.Error("cannot encode the status", "error", err)
		answer(w, http.StatusInternalServerError, "cannot encode the status: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // a client that is gone needs no answer
}

func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// loopbackOnly lets only clients at loopback addresses in: profiles show memory
// and cost time.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) {
			answer(w, http.StatusForbidden, "profiles are for clients on this machine; use an SSH tunnel")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHostOnly refuses, on a loopback listener, requests whose Host is a name other
// than localhost: a web site that resolves its own name to 127.0.0.1 would read
// the page through the operator's browser.
func ownHostOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if local != nil && isLoopback(local.String()) && !isOwnName(r.Host) {
			answer(w, http.StatusForbidden, "ask for this page by an address or as localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isOwnName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// secured keeps browsers from anything but showing what is served here.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
