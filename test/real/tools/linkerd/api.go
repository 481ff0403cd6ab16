package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// api asks the API server as the pod's ServiceAccount.
type api struct {
	client *http.Client
	server string
}

func openAPI() (*api, error) {
	authority, err := os.ReadFile(account + "/ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate of the API server's CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	return &api{&http.Client{Transport: transport, Timeout: 15 * time.Second}, "https://" + host}, nil
}

func (a *api) post(path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(account + "/token")
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, a.server+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s: %d %s", path, answer.StatusCode, said)
	}
	return said, err
}
