package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// certificates is as strict as linkerd2 pkg/tls/codec.go: block by block until nothing is left. Whatever stands behind the last block is an error, a
// blank line too, and a block that is no certificate ends the reading in silence.
func certificates(text string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for rest := []byte(text); len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, errors.New("not a PEM certificate")
		}
		if block.Type != "CERTIFICATE" {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, certificate)
		rest = after
	}
	return found, nil
}

func pool(text string) (*x509.CertPool, []*x509.Certificate, error) {
	found, err := certificates(text)
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		return nil, nil, errors.New("no certificates found")
	}
	certPool := x509.NewCertPool()
	for _, each := range found {
		certPool.AddCert(each)
	}
	return certPool, found, nil
}

// privateKey reads what every version reads, and where asked PKCS#8 as those from 2.9 on.
func privateKey(text string, pkcs8 bool) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM-encoded")
	}
	switch {
	case block.Type == "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PRIVATE KEY" && pkcs8:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*ecdsa.PrivateKey); ok {
			return key, nil
		}
		return nil, errors.New("not an ECDSA key")
	}
	return nil, fmt.Errorf("unsupported block type: '%s'", block.Type)
}
