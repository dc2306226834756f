package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"qvpgw/internal/auth"
	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/pool"
	"qvpgw/internal/wire"
)

// door is a gateway that is asked who may come in, and the files with which its
// clients try.
type door struct {
	*testing.T
	addr     string
	database string
	dir      string
}

// openDoor serves the shared cluster with rules. Users are secret (whose password is
// "secret"), hash (an md5 hash of "secret") and the cluster's scram, whose verifier
// is looked up; every login to the server that has no keys is the superuser's,
// without a password.
func openDoor(t *testing.T, rules ...string) *door {
	t.Helper()
	dsn := pgtest.Database(t)
	d := &door{T: t, database: databaseOf(dsn), dir: t.TempDir()}
	own, foreign := pgtest.NewAuthority(t, "own"), pgtest.NewAuthority(t, "foreign")
	server, serverKey := own.Issue(t, "gateway", "localhost", "127.0.0.1")
	user, userKey := own.Issue(t, "secret")
	mail, mailKey := own.Issue(t, "secret@example.org")
	stranger, strangerKey := foreign.Issue(t, "secret")
	for name, content := range map[string][]byte{
		"ca.pem": own.CertPEM, "server.pem": server, "server.key": serverKey, "user.pem": user, "user.key": userKey,
		"mail.pem": mail, "mail.key": mailKey, "stranger.pem": stranger, "stranger.key": strangerKey,
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certs, err := auth.NewCertificates(auth.Files{
		Cert: filepath.Join(d.dir, "server.pem"), Key: filepath.Join(d.dir, "server.key"), ClientCA: filepath.Join(d.dir, "ca.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &auth.Guard{TLS: certs, Users: map[string]auth.Secret{}}
	if g.Rules, err = auth.ParseTable(rules); err != nil {
		t.Fatal(err)
	}
	if g.Maps, err = auth.ParseMaps([]string{`mail /^(.*)@example\.org$ \1`, "dn CN=secret,O=test secret"}); err != nil {
		t.Fatal(err)
	}
	if g.Users["secret"], err = auth.PlainSecret("secret", "secret"); err != nil {
		t.Fatal(err)
	}
	if g.Users["hash"], err = auth.StoredSecret(wire.MD5Secret("hash", "secret")); err != nil {
		t.Fatal(err)
	}
	var gw atomic.Pointer[gateway.Server] // served before startGateway returns
	g.Lookup = auth.NewLookup(func(user string) (string, bool, error) {
		rows, err := gw.Load().Ask(d.database, pgtest.Superuser, "SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolpassword IS NOT NULL", user)
		if err != nil || len(rows) == 0 {
			return "", false, err
		}
		return *rows[0][0], true, nil
	})
	to, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	served, addr := startGateway(t, dsn, gateway.Options{
		Guard: g, Pool: pool.Options{Size: 2, Backoff: time.Minute}, NewLoader: noCatalog,
		Backend: func(database, user string) (*pgconn.Config, error) {
			c := to.Copy()
			c.Database, c.User, c.RuntimeParams = database, user, map[string]string{}
			if user != pgtest.ScramUser {
				c.User = pgtest.Superuser
			}
			return c, nil
		},
	})
	gw.Store(served)
	d.addr = addr
	return d
}

// login logs in and returns how the gateway says that it went, or the error's
// SQLSTATE and message.
func (d *door) login(user, password, options string) string {
	d.Helper()
	options = strings.ReplaceAll(options, "@", d.dir+"/")
	ctx, cancel := context.WithTimeout(d.Context(), 10*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, "postgres://"+user+":"+password+"@"+d.addr+"/"+d.database+"?"+options)
	if err != nil {
		if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
			return e.Code + " " + e.Message
		}
		return err.Error()
	}
	defer c.Close(context.WithoutCancel(ctx))
	r, err := c.Exec(ctx, "SHOW qvpgw.login").ReadAll()
	if err != nil {
		return err.Error()
	}
	return string(r[0].Rows[0][0])
}

// attempt is a login and what is to come of it: a beginning of login's result.
type attempt struct{ user, password, options, want string }

func (d *door) try(list ...attempt) {
	d.Helper()
	for _, a := range list {
		if got := d.login(a.user, a.password, a.options); !strings.HasPrefix(got, a.want) || a.want == "" {
			d.Errorf("%s with %q and %s: got %q, want %q", a.user, a.password, a.options, got, a.want)
		}
	}
}

const (
	plain  = "sslmode=disable"
	secure = "sslmode=require&channel_binding=disable"
	bound  = "sslmode=require&channel_binding=require"
	wrong  = "28P01 password authentication failed for user"
)

func TestClientsLogInByEachMethod(t *testing.T) {
	t.Run("scram-sha-256", func(t *testing.T) {
		openDoor(t, "host all all all scram-sha-256").try(
			attempt{"secret", "secret", plain, "scram-sha-256"},
			attempt{"secret", "secret", secure, "scram-sha-256 TLS 1.3"},
			attempt{"secret", "secret", bound, "scram-sha-256-plus TLS 1.3"},
			attempt{"secret", "secret", "sslmode=require&sslnegotiation=direct&channel_binding=require", "scram-sha-256-plus TLS 1.3 direct"},
			attempt{"secret", "secret", "sslmode=verify-full&sslrootcert=@ca.pem", "scram-sha-256-plus TLS 1.3"},
			attempt{"secret", "wrong", plain, wrong},
			attempt{"secret", "wrong", bound, wrong},
			attempt{"nobody", "secret", plain, wrong},
			attempt{"nobody", "secret", bound, wrong},
			attempt{"hash", "secret", plain, wrong}, // an md5 hash is no verifier
			attempt{pgtest.ScramUser, pgtest.ScramPassword, plain, "scram-sha-256"},
			attempt{pgtest.ScramUser, pgtest.ScramPassword, bound, "scram-sha-256-plus TLS 1.3"},
			attempt{pgtest.ScramUser, "wrong", plain, wrong},
		)
	})
	t.Run("scram-sha-256-plus", func(t *testing.T) {
		openDoor(t, "hostssl all all all scram-sha-256-plus").try(
			attempt{"secret", "secret", bound, "scram-sha-256-plus TLS 1.3"},
			attempt{"secret", "wrong", bound, wrong},
			attempt{"nobody", "wrong", bound, wrong},
			attempt{"secret", "secret", secure, "28000 channel binding is required"},
			attempt{"secret", "secret", plain, "28000 no rule lets in user \"secret\" from 127.0.0.1"},
		)
	})
	t.Run("md5", func(t *testing.T) {
		openDoor(t, "host all all all md5").try(
			attempt{"secret", "secret", plain, "md5"},
			attempt{"hash", "secret", plain, "md5"},
			attempt{"hash", "secret", secure, "md5 TLS 1.3"},
			attempt{"hash", "wrong", plain, wrong},
			attempt{"nobody", "secret", plain, wrong},
			attempt{pgtest.ScramUser, pgtest.ScramPassword, plain, "scram-sha-256"}, // a verifier is for SCRAM
		)
	})
	t.Run("password", func(t *testing.T) {
		openDoor(t, "hostssl all all all password", "host all hash all password cleartext=allow", "host all all all password").try(
			attempt{"secret", "secret", secure, "password TLS 1.3"},
			attempt{"secret", "secret", secure, "password TLS 1.3"},
			attempt{"hash", "secret", secure, "password TLS 1.3"},
			attempt{pgtest.ScramUser, pgtest.ScramPassword, secure, "password TLS 1.3"},
			attempt{"secret", "wrong", secure, wrong},
			attempt{"hash", "wrong", secure, wrong},
			attempt{"nobody", "secret", secure, wrong},
			attempt{"secret", "secret", plain, "28000 a password is taken as it is over TLS only"},
			attempt{"hash", "secret", plain, "password"},
			attempt{"hash", "", plain, "28P01 empty password"},
		)
	})
	t.Run("cert", func(t *testing.T) {
		openDoor(t, "hostssl all all all cert", "host all all all scram-sha-256").try(
			attempt{"secret", "", "sslmode=require&sslcert=@user.pem&sslkey=@user.key", "cert TLS 1.3"},
			attempt{"hash", "", "sslmode=require&sslcert=@user.pem&sslkey=@user.key", "28000 certificate authentication failed for user \"hash\""},
			attempt{"secret", "", "sslmode=require&sslcert=@mail.pem&sslkey=@mail.key", "28000 certificate authentication failed"},
			attempt{"secret", "secret", secure, "28000 connection requires a valid client certificate"},
			attempt{"secret", "secret", plain, "scram-sha-256"},
			// A client with the foreign certificate sees that it is of no use here.
			attempt{"secret", "", "sslmode=require&sslcert=@stranger.pem&sslkey=@stranger.key", "28000 connection requires a valid client certificate"},
		)
	})
	t.Run("cert with maps", func(t *testing.T) {
		openDoor(t, "hostssl all secret all cert map=mail", "hostssl all all all scram-sha-256 clientcert=verify-ca").try(
			attempt{"secret", "", "sslmode=require&sslcert=@mail.pem&sslkey=@mail.key", "cert TLS 1.3"},
			attempt{"secret", "", "sslmode=require&sslcert=@user.pem&sslkey=@user.key", "28000 certificate authentication failed"},
			attempt{"hash", "secret", "sslmode=require&sslcert=@user.pem&sslkey=@user.key", wrong},
			attempt{pgtest.ScramUser, pgtest.ScramPassword, "sslmode=require&sslcert=@user.pem&sslkey=@user.key", "scram-sha-256-plus"},
			attempt{pgtest.ScramUser, pgtest.ScramPassword, secure, "28000 connection requires a valid client certificate"},
		)
		openDoor(t, "hostssl all all all cert map=dn clientname=DN").try(
			attempt{"secret", "", "sslmode=require&sslcert=@user.pem&sslkey=@user.key", "cert TLS 1.3"},
			attempt{"secret", "", "sslmode=require&sslcert=@mail.pem&sslkey=@mail.key", "28000 certificate authentication failed"},
		)
	})
	t.Run("trust and reject", func(t *testing.T) {
		openDoor(t, "hostnossl all hash all reject", "host sameuser all all trust", "host postgres secret,hash all trust", "host all secret all trust").try(
			attempt{"hash", "", plain, "28000 a rule rejects user \"hash\" from 127.0.0.1"},
			attempt{"secret", "", plain, "trust"},
			attempt{"secret", "", secure, "trust TLS 1.3"},
			attempt{"hash", "", secure, "28000 no rule lets in user \"hash\" from 127.0.0.1"},
		)
	})
}

// TestAClientsProofLogsInToTheServer is pass-through: the gateway has no password
// of the role, only its verifier, and its server connections ask for SCRAM.
func TestAClientsProofLogsInToTheServer(t *testing.T) {
	d := openDoor(t, "host all all all scram-sha-256", "host all all all trust")
	c, err := pgconn.Connect(t.Context(), "postgres://"+pgtest.ScramUser+":"+pgtest.ScramPassword+"@"+d.addr+"/"+d.database+"?"+plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	r, err := c.Exec(t.Context(), "SELECT current_user, system_user").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %s", r[0].Rows[0][0], r[0].Rows[0][1]); got != pgtest.ScramUser+" scram-sha-256:"+pgtest.ScramUser {
		t.Errorf("the server says %s", got)
	}
}

// TestAPasswordThatTheServerWantsAndNobodyHasIsSaidSo lets the role in by trust,
// so that there is neither password nor proof for the server.
func TestAPasswordThatTheServerWantsAndNobodyHasIsSaidSo(t *testing.T) {
	d := openDoor(t, "host all all all trust")
	d.try(attempt{pgtest.ScramUser, "", plain, "28000 cannot log in to the server"})
}

// TestAProofEndsTheWaitAfterLoginsWithout has the server refuse a user for whom there
// is no proof: it is asked again as soon as there is one.
func TestAProofEndsTheWaitAfterLoginsWithout(t *testing.T) {
	openDoor(t, "hostnossl all all all trust", "hostssl all all all scram-sha-256").try(
		attempt{pgtest.ScramUser, "", plain, "28000 cannot log in to the server"},
		attempt{pgtest.ScramUser, pgtest.ScramPassword, secure, "scram-sha-256 TLS 1.3"},
	)
}

func TestDirectTLSWithoutItsProtocolIsRefused(t *testing.T) {
	d := openDoor(t, "host all all all trust")
	conn, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	front := pgproto3.NewFrontend(conn, conn)
	m, err := front.Receive()
	if e, ok := m.(*pgproto3.ErrorResponse); !ok || e.Code != "08P01" {
		t.Errorf("got %v, %v", m, err)
	}
	old, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, NextProtos: []string{"postgresql"}})
	if err == nil {
		_ = old.Close()
		t.Error("TLS 1.1 was spoken")
	}
}

func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(file(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := pgtest.NewAuthority(t, "own")
	cert, key := a.Issue(t, "first", "127.0.0.1")
	write("cert", cert)
	write("key", key)
	certs, err := auth.NewCertificates(auth.Files{Cert: file("cert"), Key: file("key")})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startGateway(t, pgtest.Database(t), gateway.Options{Guard: &auth.Guard{Rules: auth.DefaultTable(true), TLS: certs}})
	shown := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Fatalf("the certificate is %s", got)
	}
	log := &spoken{}
	look := func(said string) {
		t.Helper()
		certs.Look(slog.New(slog.NewTextHandler(log, nil)))
		if !strings.Contains(log.String(), said) {
			t.Errorf("the log does not say %q:\n%s", said, log)
		}
	}
	look("")
	if text := log.String(); text != "" {
		t.Errorf("nothing changed, and the log says %s", text)
	}
	second, secondKey := a.Issue(t, "second", "127.0.0.1")
	write("cert", second) // with the first one's key: not a pair
	look("cannot use the changed certificates")
	if got := shown(); got != "first" {
		t.Errorf("after a broken change the certificate is %s", got)
	}
	write("key", secondKey)
	look("certificates reloaded")
	if got := shown(); got != "second" {
		t.Errorf("after the change the certificate is %s", got)
	}
}

// spoken is a log that is read while it is written.
type spoken struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *spoken) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *spoken) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
