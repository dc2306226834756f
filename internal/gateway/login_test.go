package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pgtest"
	"qvpgw/internal/wire"
)

// TestClientsLogInByScramWithAndWithoutTLS logs in with a verifier that the server
// itself keeps, by plain TCP and by TLS with channel binding, the TLS handshake
// asked for or sent at once.
func TestClientsLogInByScramWithAndWithoutTLS(t *testing.T) {
	dsn := pgtest.Database(t)
	stored := run(t, dsn, "SELECT rolpassword FROM pg_authid WHERE rolname = '"+pgtest.ScramUser+"'")[0][0]
	verifier, err := wire.ParseVerifier(stored)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	binding, err := wire.TLSServerEndPoint(leaf)
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startGateway(t, dsn, gateway.Options{
		Backend: func(database, user string) (*pgconn.Config, error) {
			c := server.Copy()
			c.Database, c.User, c.Password, c.RuntimeParams = database, user, pgtest.ScramPassword, map[string]string{}
			return c, nil
		},
		Verifier: func(user string) (wire.Verifier, bool, error) { return verifier, user == pgtest.ScramUser, nil },
		TLS:      &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"postgresql"}},
		Binding:  binding,
	})
	login := func(user, password, options string) error {
		c, err := pgconn.Connect(context.Background(), "postgres://"+user+":"+password+"@"+addr+"/"+server.Database+"?"+options)
		if err != nil {
			return err
		}
		defer c.Close(context.Background())
		return c.Exec(context.Background(), "SELECT 1").Close()
	}
	for _, options := range []string{
		"sslmode=disable", "sslmode=require", "sslmode=require&channel_binding=require",
		"sslmode=require&sslnegotiation=direct&channel_binding=require",
	} {
		if err := login(pgtest.ScramUser, pgtest.ScramPassword, options); err != nil {
			t.Errorf("the right password with %s: %v", options, err)
		}
		wantCode(t, login(pgtest.ScramUser, "wrong", options), "28P01", "password authentication failed")
		wantCode(t, login("nobody_of_that_name", "wrong", options), "28P01", "password authentication failed")
	}
}
