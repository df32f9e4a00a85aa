package clearnode

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// roots are the certificates of Config.CAFile; nil: the machine's.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("clearnode.tls.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("clearnode.tls.ca: %s holds no certificate: want PEM, with lines BEGIN CERTIFICATE", c.CAFile)
	}
	return pool, nil
}

// tlsConfig is read anew for each dial, so that a file that was replaced counts.
func (c Config) tlsConfig() (*tls.Config, error) {
	pool, err := c.roots()
	if err != nil || pool == nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// dialError adds to an error of a dial what to do about it.
func dialError(err error, response *http.Response) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("dial: %w: name the file with the certificate authority's certificate (PEM) in clearnode.tls.ca", err)
	case errors.As(err, &host):
		return fmt.Errorf("dial: %w: clearnode.url must name a host of the node's certificate", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("dial: %w: check the node's certificate, the clocks and clearnode.tls.ca", err)
	case errors.As(err, &record):
		return fmt.Errorf("dial: %w: the node does not speak TLS there: clearnode.url may want ws:// in place of wss://", err)
	case response == nil:
		return fmt.Errorf("dial: %w", err)
	}
	if location := response.Header.Get("Location"); location != "" {
		return fmt.Errorf("dial: %w (HTTP %s to %s): redirects are not followed, set clearnode.url to the final address", err, response.Status, quote(location))
	}
	return fmt.Errorf("dial: %w (HTTP %s): check the path of clearnode.url", err, response.Status)
}
