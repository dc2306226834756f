package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"qvpgw/internal/admin"
	"qvpgw/internal/handoff"
)

// successorTimeout bounds how long a successor may take until it serves: it may
// migrate the schema.
const successorTimeout = 2 * time.Minute

// listening is what the program serves on.
type listening struct {
	clients, http []net.Listener
}

// listen opens the sockets, or takes over those of the process before.
func (p *program) listen() (l listening, err error) {
	if l.clients, err = p.process.Listen(handoff.RoleClients, p.cfg().Listen); err != nil {
		return l, fmt.Errorf("cannot listen for PostgreSQL clients: %w", listenHint(err, "listen"))
	}
	defer func() {
		if err != nil {
			for _, c := range l.clients {
				_ = c.Close()
			}
		}
	}()
	if p.cfg().ListenUnix != "" {
		local, err := p.listenUnix(l.clients[0].Addr())
		if err != nil {
			return l, fmt.Errorf("cannot listen for PostgreSQL clients: %w", listenHint(err, "listen_unix"))
		}
		l.clients = append(l.clients, local)
	}
	if p.cfg().HTTP == "" {
		return l, nil
	}
	if l.http, err = p.process.Listen(handoff.RoleHTTP, p.cfg().HTTP); err != nil {
		return l, fmt.Errorf("cannot listen for HTTP: %w", listenHint(err, "http"))
	}
	return l, nil
}

// listenUnix opens the Unix socket, which has the name that libpq looks for at the
// port of tcp. Who may come in is for the rules to say, as in PostgreSQL.
func (p *program) listenUnix(tcp net.Addr) (net.Listener, error) {
	_, port, err := net.SplitHostPort(p.cfg().Listen)
	if err != nil {
		return nil, err
	}
	if a, ok := tcp.(*net.TCPAddr); ok {
		port = strconv.Itoa(a.Port) // it may have been any
	}
	path := filepath.Join(p.cfg().ListenUnix, ".s.PGSQL."+port)
	l, err := p.process.Listen(handoff.RoleUnix, path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		_ = l[0].Close()
		return nil, fmt.Errorf("cannot let all users connect: %w", err)
	}
	return l[0], nil
}

// listenHint says what to do when a port is taken.
func listenHint(err error, key string) error {
	return fmt.Errorf("%w (another program may have the port: change %s in the configuration)", err, key)
}

// serve listens and serves until ctx ends, a signal says so or a successor has
// taken over, then drains; the process that was started first stays for its
// successors. ready is called once clients can connect. Signals (nil: none):
// SIGHUP reloads, SIGUSR2 restarts, SIGTERM and SIGINT drain and, the second time,
// end at once.
func (p *program) serve(ctx context.Context, signals <-chan os.Signal, ready func()) error {
	l, err := p.listen()
	if err != nil {
		return err
	}
	served := make(chan error, len(l.clients)+len(l.http))
	var web *admin.Server
	if len(l.http) > 0 {
		web = admin.New(admin.Options{
			Status: p.status, Registry: p.metrics.Registry(), Log: p.log,
			Ready: func() error { return p.gateway.Ready(p.cfg().Backend.Database, p.cfg().Backend.User) },
		})
		for _, h := range l.http {
			go func() { served <- web.Serve(h) }()
			p.log.Info("HTTP", "address", h.Addr().String())
		}
	}
	for _, c := range l.clients {
		go func() { served <- p.gateway.Serve(c) }()
		p.log.Info("serving", "address", c.Addr().String(), "backend", net.JoinHostPort(p.cfg().Backend.Host, fmt.Sprint(p.cfg().Backend.Port)), "generation", p.process.Generation())
	}
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	go p.console.Run(sampling)
	go p.lookAtCertificates(sampling)
	go p.keep(sampling)
	if err := p.process.Ready(p.gateway.Cancel); err != nil {
		p.log.Warn("the service manager does not know that the gateway serves", "error", err)
	}
	ready()
	e := &ending{program: p, web: web, signals: signals}
	return e.run(ctx, served)
}

// ending is the rest of a program's life, from when it serves.
type ending struct {
	*program
	web     *admin.Server
	signals <-chan os.Signal

	stopping bool               // for good: no successor serves on
	drained  chan error         // nil: it serves
	atOnce   context.CancelFunc // ends the drain
}

// run returns when this process has served all its clients, and when its
// successors have ended, if it was the first.
func (e *ending) run(ctx context.Context, served <-chan error) error {
	var failed error
	stop, retired := ctx.Done(), e.process.Retired()
	var successor <-chan struct{}
	for {
		select {
		case err := <-served:
			if e.drained == nil {
				failed = err
				e.stop(syscall.SIGTERM)
			}
		case <-stop:
			stop = nil
			e.stop(syscall.SIGTERM)
		case <-retired:
			retired = nil
			e.log.Info("a successor serves; this process ends with its clients", "at most", e.cfg().Limits.ShutdownTimeout)
			e.drain(true)
			successor = e.process.Served()
		case s := <-e.signals:
			e.signal(s)
		case s := <-e.asked:
			e.signal(s)
		case err := <-e.drained:
			if successor == nil || e.stopping {
				err = errors.Join(failed, err, e.process.Wait())
				e.process.Close()
				return err
			}
			if err != nil {
				e.log.Warn("not all clients ended by themselves", "error", err)
			}
			e.drained = make(chan error) // it waits for its successors
			debug.FreeOSMemory()
		case <-successor:
			// The next one took over, or the last one ended.
			if successor = e.process.Served(); closed(successor) {
				err := e.process.Wait()
				e.process.Close()
				return errors.Join(failed, err)
			}
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// signal does what a signal asks for.
func (e *ending) signal(s os.Signal) {
	switch {
	case s == syscall.SIGUSR2:
		if e.stopping {
			return
		}
		go func() {
			if err := e.process.Restart(successorTimeout); err != nil {
				e.log.Error("the gateway goes on as it is", "error", err)
			}
		}()
	case s == syscall.SIGHUP:
		if e.drained == nil {
			go func() { _ = e.readAgain() }() // the log has its error
			return
		}
		e.process.Signal(s)
	case e.stopping:
		e.log.Info("shutting down at once")
		e.process.Signal(s)
		e.atOnce()
	default:
		e.stop(s)
	}
}

// stop ends this process and its successors.
func (e *ending) stop(s os.Signal) {
	e.stopping = true
	e.process.Stopping()
	e.process.Signal(s)
	e.log.Info("shutting down", "at most", e.cfg().Limits.ShutdownTimeout)
	e.drain(false)
}

// drain has the clients end, in the background; once.
func (e *ending) drain(successor bool) {
	if e.drained != nil {
		return
	}
	drained := make(chan error, 1)
	e.drained = drained
	end, stop := context.WithTimeout(context.Background(), e.cfg().Limits.ShutdownTimeout)
	e.atOnce = stop
	go func() {
		defer stop()
		if !successor {
			drained <- errors.Join(e.gateway.Shutdown(end), e.endHTTP(end))
			return
		}
		gone := make(chan error, 1)
		go func() { gone <- e.endHTTP(end) }() // at once: the successor answers
		drained <- errors.Join(e.gateway.Retire(end), <-gone)
	}()
}

// endHTTP waits for the requests under way.
func (e *ending) endHTTP(ctx context.Context) error {
	if e.web == nil {
		return nil
	}
	return e.web.Shutdown(ctx)
}
