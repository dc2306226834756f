package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// benchTLS has TLS between clients and pooler, with one certificate for both.
func benchTLS(t *testing.T, b *benchBed) {
	const clients = 64
	targets := b.tlsTargets(t)
	table := newBenchTable("TLS")
	ratios := map[string]float64{}
	for _, protocol := range []string{"simple", "prepared"} {
		warm, measure := b.pgbench(t, protocol, clients, "-S")
		r := summarise(b.alternate(targets, warm, measure))
		table.add(protocol, clients, r)
		ratios[protocol] = r.vsBouncer
		b.figure(t, fmt.Sprintf("bench.tls.%s.%d.vs_pgbouncer", protocol, clients), r.vsBouncer)
		b.figure(t, fmt.Sprintf("bench.tls.%s.%d.cpu_vs_pgbouncer", protocol, clients), r.cpuVsBouncer)
	}
	b.figure(t, fmt.Sprintf("bench.tls.%d.vs_pgbouncer", clients), min(ratios["simple"], ratios["prepared"]))
	fmt.Print(table)
}

// tlsTargets starts both poolers with TLS required of their clients.
func (b *benchBed) tlsTargets(t *testing.T) []benchTarget {
	here, inside := b.TempDir(t)
	cert, key := benchCertificate(t)
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(here, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	targets := []benchTarget{
		b.bouncer(t, fmt.Sprintf("client_tls_sslmode = require\nclient_tls_cert_file = %s/cert.pem\nclient_tls_key_file = %[1]s/key.pem\nclient_tls_ca_file = %[1]s/cert.pem\n", inside)),
		b.gateway(t, fmt.Sprintf("tls: {mode: require, cert: %s/cert.pem, key: %[1]s/key.pem}\n", here)),
	}
	for i, target := range targets {
		targets[i].dsn = strings.Replace(target.dsn, "sslmode=disable", "sslmode=require", 1)
	}
	return targets
}

// benchCertificate is a new self-signed certificate for 127.0.0.1, as most have one:
// ECDSA with P-256.
func benchCertificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
