package updater

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/mooring-lb/mooring/cloud/config"
)

const (
	dialTimeout = 5 * time.Second
	// longestToken that a file may hold, in bytes.
	longestToken = 4096
)

// secrets are the files of an updater, which are read before each call: they are small, and a changed one is in force at
// once. When what stands in them cannot be used, what was used before goes on: a file may be half written.
type secrets struct {
	tokenFile string
	tls       config.TLS
	// given is the transport that a caller brought; nil: one is made of the files.
	given http.RoundTripper

	mu sync.Mutex
	// contents of CA, certificate and key of which transport was made.
	contents  [3][]byte
	transport *http.Transport
	token     string
	hasToken  bool
}

// read returns the transport and the token for a call. An error beside a transport says why newer files are not in use;
// without one, no call can be made.
func (s *secrets) read() (http.RoundTripper, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var mistakes []error
	if s.tokenFile != "" {
		token, err := readToken(s.tokenFile)
		if err == nil {
			s.token, s.hasToken = token, true
		} else {
			mistakes = append(mistakes, err)
		}
	}
	transport := s.given
	if transport == nil {
		if err := s.refresh(); err != nil {
			mistakes = append(mistakes, err)
		}
		if s.transport != nil {
			transport = s.transport
		}
	}
	if s.tokenFile != "" && !s.hasToken {
		transport = nil
	}
	return transport, s.token, errors.Join(mistakes...)
}

// refresh makes a new transport when the files have changed.
func (s *secrets) refresh() error {
	var contents [3][]byte
	for i, file := range []string{s.tls.CAFile, s.tls.CertFile, s.tls.KeyFile} {
		if file == "" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("tls: %w: write the file, or correct tls in the cloud-config", err)
		}
		contents[i] = content
	}
	if s.transport != nil && bytes.Equal(contents[0], s.contents[0]) && bytes.Equal(contents[1], s.contents[1]) && bytes.Equal(contents[2], s.contents[2]) {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.tls.CAFile != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(contents[0]) {
			return fmt.Errorf("tls: %s holds no certificate: write the authority's into it, in PEM", s.tls.CAFile)
		}
	}
	if s.tls.CertFile != "" {
		pair, err := tls.X509KeyPair(contents[1], contents[2])
		if err != nil {
			return fmt.Errorf("tls: %s and %s are not a certificate and its key: %w: write both anew, in PEM", s.tls.CertFile, s.tls.KeyFile, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	s.contents = contents
	s.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    maxCalls,
		IdleConnTimeout:        10 * time.Second,
	}
	return nil
}

// close lets go of connections that nobody uses.
func (s *secrets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
}

// readToken reads a token file: one line, with or without its end.
func readToken(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token file: %w: write the updater's token into it, or correct bearerTokenFile", err)
	}
	token := strings.TrimSpace(string(content))
	switch {
	case token == "":
		return "", fmt.Errorf("token file %s is empty: write the updater's token into it", file)
	case len(token) > longestToken:
		return "", fmt.Errorf("token file %s is longer than a token can be: write the token alone into it", file)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > unicode.MaxASCII || r == 0x7f }):
		return "", fmt.Errorf("token file %s holds characters that no token has: write the token alone into it, in one line of plain text", file)
	}
	return token, nil
}
