package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"qvpgw/internal/auth"
	"qvpgw/internal/config"
)

// guard is what the configuration says of who may come in. Its errors say the line
// of the configuration.
func (p *program) guard(cfg *config.Config) (*auth.Guard, error) {
	g := &auth.Guard{Rules: auth.DefaultTable(cfg.Auth.Method == config.AuthTrust), RequireTLS: cfg.TLS.Mode.Required()}
	var err error
	if len(cfg.Auth.HBA) > 0 {
		if g.Rules, err = auth.ParseTable(cfg.Auth.HBA); err != nil {
			return nil, lines(cfg, "auth.hba", err)
		}
	}
	if g.Maps, err = auth.ParseMaps(cfg.Auth.Ident); err != nil {
		return nil, lines(cfg, "auth.ident", err)
	}
	for _, name := range g.Rules.Maps() {
		if g.Maps[name] == nil {
			return nil, fmt.Errorf("auth.hba uses the map %q, which auth.ident does not have", name)
		}
	}
	if g.Rules.CertRules() && (cfg.TLS.Mode == config.TLSDisable || cfg.TLS.ClientCA == "") {
		return nil, errors.New("auth.hba asks for client certificates; set tls.mode and tls.client_ca")
	}
	if g.Users, err = listed(cfg.ClientUsers()); err != nil {
		return nil, err
	}
	if cfg.Auth.Query {
		g.Lookup = auth.NewLookup(func(user string) (string, bool, error) { return p.lookUp(cfg, user) })
	}
	g.TLS, err = certificates(cfg.TLS)
	return g, err
}

// lines says of each bad line of a list where it is.
func lines(cfg *config.Config, key string, err error) error {
	var list []error
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var l *auth.LineError
		if errors.As(e, &l) {
			at := fmt.Sprintf("%s[%d]", key, l.Line)
			e = fmt.Errorf("%s: %s: %w", cfg.Where(at), at, l.Err)
		}
		list = append(list, e)
	}
	return errors.Join(list...)
}

// listed are the secrets of the users of the configuration.
func listed(users []config.User) (map[string]auth.Secret, error) {
	list := make(map[string]auth.Secret, len(users))
	for _, u := range users {
		var s auth.Secret
		var err error
		if u.Verifier != "" {
			s, err = auth.StoredSecret(string(u.Verifier))
		} else {
			s, err = auth.PlainSecret(u.Name, string(u.Password))
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use the password of user %q: %w", u.Name, err)
		}
		list[u.Name] = s
	}
	return list, nil
}

// lookUp asks the server for what it keeps of a user's password.
func (p *program) lookUp(cfg *config.Config, user string) (stored string, known bool, err error) {
	rows, err := p.gateway.Ask(lookupDatabase(cfg), cfg.Backend.User, cfg.Auth.QueryText, user)
	if err != nil || len(rows) == 0 {
		return "", false, err
	}
	row := rows[0]
	if len(rows) > 1 || len(row) == 0 {
		return "", false, fmt.Errorf("auth.query_text gave %d rows of %d columns; it must give one of name and secret, or of the secret alone", len(rows), len(row))
	}
	secret := row[0]
	if len(row) > 1 {
		if secret == nil || *secret != user {
			return "", false, nil // of another: such a name is no user's
		}
		secret = row[1]
	}
	if secret == nil || *secret == "" {
		return "", false, nil
	}
	return *secret, true, nil
}

// lookupDatabase is where users are looked up: the gateway's own database, or one
// that is served when that is not.
func lookupDatabase(cfg *config.Config) string {
	if _, ok := cfg.Policy(cfg.Backend.Database, cfg.Backend.User); ok {
		return cfg.Backend.Database
	}
	return slices.Sorted(maps.Keys(cfg.Databases))[0]
}

// certificates are those of TLS with clients, nil without.
func certificates(cfg config.TLS) (*auth.Certificates, error) {
	if cfg.Mode == config.TLSDisable {
		return nil, nil
	}
	least := uint16(tls.VersionTLS12)
	if cfg.MinVersion == config.TLS13 {
		least = tls.VersionTLS13
	}
	c, err := auth.NewCertificates(auth.Files{
		Cert: cfg.Cert, Key: cfg.Key, ClientCA: cfg.ClientCA, RequireCert: cfg.Mode.Verified(), MinVersion: least,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use tls.cert, tls.key and tls.client_ca: %w", err)
	}
	return c, nil
}

// certificatesEvery is how often the files of tls.cert, tls.key and tls.client_ca
// are looked at.
const certificatesEvery = 2 * time.Second

// lookAtCertificates has changed certificates read again until ctx ends.
func (p *program) lookAtCertificates(ctx context.Context) {
	t := time.NewTicker(certificatesEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if c := p.gateway.Guard().TLS; c != nil {
			c.Look(p.log)
		}
	}
}
