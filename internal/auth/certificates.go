package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"qvpgw/internal/wire"
)

// Files are the PEM files of TLS with clients, and what is done with them.
type Files struct {
	Cert, Key   string // the chain, the server's first, and its key
	ClientCA    string // who signs clients' certificates; "": clients are not asked for one
	RequireCert bool   // a client without a certificate that ClientCA signed is refused
	MinVersion  uint16 // tls.VersionTLS12 or later; 0: that
}

// Certificates are what clients are shown and compared with. They are read again
// when the files change, and those that are in use stay when the new ones are not
// right.
type Certificates struct {
	files   Files
	current atomic.Pointer[Generation]

	mu   sync.Mutex // one Reload at a time
	seen stamp      // the files at the last attempt
}

// Generation is one reading of the files: a login uses the same from its first
// byte to its last.
type Generation struct {
	Config  *tls.Config
	Binding []byte // wire.TLSServerEndPoint of the certificate; nil: it has none
	// NotAfter is when the certificate ends.
	NotAfter time.Time
}

// stamp tells one state of the files from another.
type stamp [3]struct {
	size int64
	time time.Time
}

// NewCertificates reads the files.
func NewCertificates(files Files) (*Certificates, error) {
	c := &Certificates{files: files}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Current returns the certificates to use for a new client.
func (c *Certificates) Current() *Generation { return c.current.Load() }

// Reload reads the files now. After an error those read before are in use still.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.look()
	g, err := load(c.files)
	if err == nil {
		c.current.Store(g)
	}
	return err
}

// Look reads the files again if one of them is another than at the last attempt.
func (c *Certificates) Look(log *slog.Logger) {
	c.mu.Lock()
	same := c.seen == c.look()
	c.mu.Unlock()
	if same {
		return
	}
	if err := c.Reload(); err != nil {
		log.Error("cannot use the changed certificates, those before stay", "error", err)
		return
	}
	log.Info("certificates reloaded", "certificate", c.files.Cert, "valid until", c.Current().NotAfter)
}

func (c *Certificates) look() (s stamp) {
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].time = info.Size(), info.ModTime()
		}
	}
	return s
}

func load(f Files) (*Generation, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot load the certificate in %s with the key in %s: %w", f.Cert, f.Key, err)
	}
	g := &Generation{NotAfter: pair.Leaf.NotAfter}
	if binding, err := wire.TLSServerEndPoint(pair.Leaf); err == nil {
		g.Binding = binding // else SCRAM goes without channel binding
	}
	g.Config = &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   max(f.MinVersion, tls.VersionTLS12),
		NextProtos:   []string{"postgresql"},
	}
	if f.ClientCA == "" {
		if f.RequireCert {
			return nil, errors.New("cannot verify clients' certificates without the certificate of who signs them")
		}
		return g, nil
	}
	text, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the clients' authority: %w", err)
	}
	g.Config.ClientCAs = x509.NewCertPool()
	if !g.Config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot use the clients' authority: there is no certificate in %s", f.ClientCA)
	}
	g.Config.ClientAuth = tls.VerifyClientCertIfGiven
	if f.RequireCert {
		g.Config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return g, nil
}
