package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	tokenFile = "/var/run/secrets/tokens/linkerd-identity-token"
	// LINKERD2_PROXY_IDENTITY_MIN_REFRESH, and how much of a leaf's remaining life passes before it is renewed (linkerd2-proxy
	// linkerd/proxy/identity-client/src/certify.rs).
	minRefresh  = 10 * time.Second
	renewAfter  = 0.7
	dialTimeout = 3 * time.Second
	// linger: a server goes on until its clients know that it leaves, and the application beside it does so for as long.
	linger = 6 * time.Second
)

// mesh is a proxy as far as trust goes. Its anchors are those of its environment, read once; every leaf that comes is held to them before it is used;
// peers are verified both ways, by the same anchors, over connections that are never resumed.
type mesh struct {
	anchors *x509.CertPool
	name    string
	key     *ecdsa.PrivateKey
	leaf    atomic.Pointer[tls.Certificate]
	lastUse atomic.Int64
}

func proxy() error {
	roots, list, err := pool(os.Getenv("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"))
	if err != nil {
		return fmt.Errorf("invalid trust roots: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	m := &mesh{anchors: roots, name: os.Getenv("LINKERD2_PROXY_IDENTITY_LOCAL_NAME"), key: key}
	out.print(map[string]any{"at": now(), "roots": fingerprints(list)})
	leaving := make(chan os.Signal, 1)
	signal.Notify(leaving, syscall.SIGTERM, syscall.SIGINT)
	if err := m.serveAdmin(":4191"); err != nil {
		return err
	}
	go m.renew()
	if inbound := os.Getenv("RIG_INBOUND"); inbound != "" {
		if err := m.listen(":4143", func(near net.Conn) { m.inbound(near, inbound) }); err != nil {
			return err
		}
	}
	for entry := range strings.SplitSeq(os.Getenv("RIG_OUTBOUND"), ",") {
		if entry == "" {
			continue
		}
		parts := strings.Split(entry, "=")
		if len(parts) != 3 {
			return fmt.Errorf("RIG_OUTBOUND: %q is not port=address=name", entry)
		}
		if err := m.listen("127.0.0.1:"+parts[0], func(near net.Conn) { m.outbound(near, parts[1], parts[2]) }); err != nil {
			return err
		}
	}
	<-leaving
	m.lastUse.Store(max(m.lastUse.Load(), time.Now().UnixMilli()))
	for quiet := time.Duration(0); quiet < linger; quiet = time.Since(time.UnixMilli(m.lastUse.Load())) {
		time.Sleep(min(linger-quiet, 100*time.Millisecond))
	}
	return nil
}

func (m *mesh) listen(address string, serve func(net.Conn)) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				fatal(err)
			}
			m.lastUse.Store(time.Now().UnixMilli())
			go func() {
				defer near.Close()
				serve(near)
			}()
		}
	}()
	return nil
}

// inbound takes mutual TLS and hands on to the application. Identity's own proxy takes clients without a certificate too: one that starts has none.
func (m *mesh) inbound(near net.Conn, application string) {
	near.SetDeadline(time.Now().Add(30 * time.Second))
	secure := tls.Server(near, m.serverConfig())
	if err := secure.Handshake(); err != nil {
		m.refused("inbound", near.RemoteAddr().String(), err)
		return
	}
	if os.Getenv("RIG_INBOUND_UNAUTHENTICATED") != "true" && len(secure.ConnectionState().PeerCertificates) == 0 {
		m.refused("inbound", near.RemoteAddr().String(), errors.New("no client certificate"))
		return
	}
	far, err := net.DialTimeout("tcp", application, dialTimeout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "application:", err)
		return
	}
	defer far.Close()
	join(secure, far)
}

func (m *mesh) outbound(near net.Conn, address, name string) {
	near.SetDeadline(time.Now().Add(30 * time.Second))
	secure, err := m.dial(address, name)
	if err != nil {
		m.refused("outbound", name, err)
		return
	}
	defer secure.Close()
	join(near, secure)
}

func (m *mesh) dial(address, name string) (*tls.Conn, error) {
	far, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	far.SetDeadline(time.Now().Add(30 * time.Second))
	secure := tls.Client(far, &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    m.anchors,
		ServerName: name,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if leaf := m.leaf.Load(); leaf != nil {
				return leaf, nil
			}
			return &tls.Certificate{}, nil
		},
	})
	if err := secure.Handshake(); err != nil {
		far.Close()
		m.unverified(name, err)
		return nil, err
	}
	return secure, nil
}

func (m *mesh) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientCAs:              m.anchors,
		ClientAuth:             tls.VerifyClientCertIfGiven,
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			leaf := m.leaf.Load()
			if leaf == nil {
				return nil, errors.New("no leaf yet")
			}
			if hello.ServerName != m.name {
				return nil, fmt.Errorf("asked for %q", hello.ServerName)
			}
			return leaf, nil
		},
	}
}

// refused tells of a handshake that failed, which is what the test reads of both proxies.
func (m *mesh) refused(where, peer string, err error) {
	out.print(map[string]any{"at": now(), "refused": where, "peer": peer, "error": err.Error()})
}

// unverified tells who signed what a server presented, where the anchors did not verify it. The server's certificate comes first in a handshake, so where
// neither end trusts the other's root it is the client that says so.
func (m *mesh) unverified(server string, err error) {
	var failure *tls.CertificateVerificationError
	if !errors.As(err, &failure) || len(failure.UnverifiedCertificates) < 2 {
		return
	}
	presents := fingerprint(failure.UnverifiedCertificates[1])
	out.print(map[string]any{"at": now(), "unverified": server, "presents": presents, "error": failure.Err.Error()})
}

func join(near, far net.Conn) {
	var both sync.WaitGroup
	half := func(to, from net.Conn) {
		io.Copy(to, from)
		if closer, ok := to.(interface{ CloseWrite() error }); ok {
			closer.CloseWrite()
		}
	}
	both.Go(func() { half(near, far) })
	both.Go(func() { half(far, near) })
	both.Wait()
}

func (m *mesh) renew() {
	for {
		end, err := m.certify()
		wait := time.Duration(float64(time.Until(end)) * renewAfter)
		if err != nil {
			out.print(map[string]any{"at": now(), "certification": err.Error()})
			wait = minRefresh
			if m.leaf.Load() == nil {
				wait = 200 * time.Millisecond
			}
		}
		if err == nil {
			wait = max(wait, minRefresh)
		}
		time.Sleep(wait)
	}
}

func (m *mesh) certify() (time.Time, error) {
	none := time.Time{}
	template := &x509.CertificateRequest{DNSNames: []string{m.name}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, m.key)
	if err != nil {
		return none, err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return none, err
	}
	connection, err := m.toIdentity()
	if err != nil {
		return none, err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	if err := json.NewEncoder(connection).Encode(signRequest{m.name, string(token), csr}); err != nil {
		return none, err
	}
	line, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		return none, err
	}
	var answer signAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		return none, err
	}
	if answer.Error != "" {
		return none, errors.New(answer.Error)
	}
	leaf, err := x509.ParseCertificate(answer.Leaf)
	if err != nil {
		return none, err
	}
	between := x509.NewCertPool()
	for _, each := range answer.Intermediates {
		if parsed, err := x509.ParseCertificate(each); err == nil {
			between.AddCert(parsed)
		}
	}
	// Held to its own anchors before it is used (linkerd2-proxy linkerd/meshtls, creds/store.rs).
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: m.anchors, Intermediates: between, DNSName: m.name}); err != nil {
		return none, err
	}
	chain := append([][]byte{answer.Leaf}, answer.Intermediates...)
	m.leaf.Store(&tls.Certificate{Certificate: chain, PrivateKey: m.key, Leaf: leaf})
	out.print(map[string]any{"at": now(), "leaf": fingerprint(leaf), "until": leaf.NotAfter.UnixMilli()})
	return leaf.NotAfter, nil
}

// toIdentity goes without TLS where identity is in the same pod, as in Linkerd.
func (m *mesh) toIdentity() (net.Conn, error) {
	address := os.Getenv("LINKERD2_PROXY_IDENTITY_SVC_ADDR")
	if strings.HasPrefix(address, "localhost:") {
		return net.DialTimeout("tcp", address, dialTimeout)
	}
	connection, err := m.dial(address, os.Getenv("LINKERD2_PROXY_IDENTITY_SVC_NAME"))
	if err != nil {
		return nil, err
	}
	return connection, nil
}

// serveAdmin tells TLS from HTTP by the first byte, as Linkerd's admin does.
func (m *mesh) serveAdmin(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	plain := &handed{connections: make(chan net.Conn)}
	serve := http.NewServeMux()
	serve.HandleFunc("/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	serve.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if m.leaf.Load() == nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	go http.Serve(plain, serve)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				fatal(err)
			}
			go func() {
				connection.SetDeadline(time.Now().Add(30 * time.Second))
				reader := bufio.NewReader(connection)
				first, err := reader.Peek(1)
				peeked := &peekedConn{connection, reader}
				if err != nil {
					connection.Close()
				} else if first[0] != 22 {
					plain.connections <- peeked
				} else {
					secure := tls.Server(peeked, m.serverConfig())
					if secure.Handshake() == nil {
						io.Copy(io.Discard, secure)
					}
					secure.Close()
				}
			}()
		}
	}()
	return nil
}

type peekedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (p *peekedConn) Read(to []byte) (int, error) { return p.reader.Read(to) }

// handed is a listener of connections that another one has accepted.
type handed struct{ connections chan net.Conn }

func (h *handed) Accept() (net.Conn, error) { return <-h.connections, nil }
func (h *handed) Close() error              { return nil }
func (h *handed) Addr() net.Addr            { return &net.TCPAddr{} }
