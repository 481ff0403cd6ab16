import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { lineStack } from './lines.ts'
import type { Stack } from './stack.ts'

/**
 * crypto/tls at both ends. The client looks at no name, as SPIFFE verifiers do: certificates of the mesh are for workloads, not for hosts
 * (istio pkg/spiffe, linkerd2 pkg/tls).
 */
const program = `package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

type side struct {
	certificate tls.Certificate
	pool        *x509.CertPool
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func list(text string) [][]byte {
	var all [][]byte
	for _, one := range strings.Split(text, ",") {
		der, err := base64.StdEncoding.DecodeString(one)
		must(err)
		all = append(all, der)
	}
	return all
}

func read(part []string) side {
	made := side{pool: x509.NewCertPool()}
	made.certificate.Certificate = list(part[0])
	key, err := x509.ParsePKCS8PrivateKey(list(part[1])[0])
	must(err)
	made.certificate.PrivateKey = key
	for _, der := range list(part[2]) {
		parsed, err := x509.ParseCertificate(der)
		must(err)
		made.pool.AddCert(parsed)
	}
	return made
}

func verify(pool *x509.CertPool, state tls.ConnectionState) error {
	between := x509.NewCertPool()
	for _, one := range state.PeerCertificates[1:] {
		between.AddCert(one)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func shake(server, client side) (answer string) {
	defer func() {
		if broken := recover(); broken != nil {
			answer = fmt.Sprint("broken ", broken)
		}
	}()
	one, other := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	one.SetDeadline(deadline)
	other.SetDeadline(deadline)
	serve := tls.Server(one, &tls.Config{
		Certificates: []tls.Certificate{server.certificate}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.pool, SessionTicketsDisabled: true,
	})
	ask := tls.Client(other, &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &client.certificate, nil },
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error { return verify(client.pool, state) },
	})
	served := make(chan error, 1)
	go func() {
		err := serve.Handshake()
		if err == nil {
			_, err = serve.Write([]byte("."))
		}
		served <- err
		one.Close()
	}()
	err := ask.Handshake()
	if err == nil {
		_, err = ask.Read(make([]byte, 1))
	}
	other.Close()
	if got := <-served; got != nil || err != nil {
		return strings.ReplaceAll(fmt.Sprintf("server: %v / client: %v", got, err), "\\n", " ")
	}
	if !serve.ConnectionState().HandshakeComplete {
		return fmt.Sprint("broken ", errors.New("no handshake"))
	}
	return "ok"
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	for lines.Scan() {
		part := strings.Split(lines.Text(), "\\t")
		fmt.Println(shake(read(part[2:5]), read(part[5:8])))
	}
}
`

/** Builds the program in `folder`; needs Go on the PATH. */
export async function goStack(folder: string): Promise<Stack> {
  await writeFile(join(folder, 'main.go'), program)
  await writeFile(join(folder, 'go.mod'), 'module shake\n\ngo 1.21\n')
  await promisify(execFile)('go', ['build', '-o', 'shake', '.'], { cwd: folder })
  return lineStack(join(folder, 'shake'), [], folder)
}
