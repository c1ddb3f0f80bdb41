package updater_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// certificate of a client that is its own authority, in PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mooring"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	firstCert, firstKey := certificate(t)
	secondCert, secondKey := certificate(t)
	h := httptest.NewUnstartedServer(updatertest.New(updatertest.Options{}))
	clients := x509.NewCertPool()
	require.True(t, clients.AppendCertsFromPEM(secondCert))
	h.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	h.StartTLS()
	defer h.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})

	dir := t.TempDir()
	files := &config.TLS{CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
	put := func(file string, content []byte) { require.NoError(t, os.WriteFile(file, content, 0o600)) }
	c := newClient(t, updater.ClientOptions{URL: h.URL, TLS: files})
	call := func() error { return c.Remove(t.Context(), "a") }

	require.ErrorContains(t, call(), "write the file, or correct tls in the cloud-config")
	put(files.CAFile, []byte("not PEM"))
	put(files.CertFile, firstCert)
	put(files.KeyFile, firstKey)
	require.ErrorContains(t, call(), files.CAFile+" holds no certificate")
	put(files.CAFile, firstCert)
	err := call()
	require.ErrorContains(t, err, "tls.caFile", "another authority")
	assert.Equal(t, updater.Unreachable, updater.KindOf(err))
	put(files.CAFile, ca)
	require.ErrorContains(t, call(), "tls.certFile", "the server does not trust the client")
	put(files.CertFile, secondCert)
	require.ErrorContains(t, call(), "are not a certificate and its key", "half of a rotation is named")
	put(files.KeyFile, secondKey)
	require.NoError(t, call())
	put(files.KeyFile, firstKey)
	require.NoError(t, call(), "what cannot be used does not replace what is in use")
}
