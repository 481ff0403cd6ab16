package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Where the chart mounts the issuer Secret.
const issuerFolder = "/var/run/linkerd/identity/issuer"

// authority is identity's own process (linkerd2 controller/cmd/identity/main.go, pkg/identity/service.go, pkg/tls/creds_watcher.go): anchors are read
// once, at the start; the issuer follows the mounted Secret, but only where those anchors verify it. Otherwise the old one stays in use, an event says
// so, and a restart would not come up.
type authority struct {
	anchors     *x509.CertPool
	trustDomain string
	namespace   string
	lifetime    time.Duration
	skew        time.Duration
	files       [2]string
	// old: up to 2.8 the issuer is verified for its name, its key has to be SEC1, and no metric tells of it.
	old bool
	api *api

	mutex  sync.Mutex
	issuer *issuer
}

type issuer struct {
	chain []*x509.Certificate
	key   *ecdsa.PrivateKey
	// serial of the next leaf; linkerd2 counts from 1 with each issuer that it loads.
	serial int64
}

// signRequest and signAnswer stand in for the gRPC call Certify.
type signRequest struct {
	Identity string `json:"identity"`
	Token    string `json:"token"`
	CSR      []byte `json:"csr"`
}

type signAnswer struct {
	Leaf          []byte   `json:"leaf,omitempty"`
	Intermediates [][]byte `json:"intermediates,omitempty"`
	// ValidUntil is in seconds since 1970.
	ValidUntil int64  `json:"validUntil,omitempty"`
	Error      string `json:"error,omitempty"`
}

func identity(args []string) error {
	flags := flag.NewFlagSet("identity", flag.ContinueOnError)
	scheme := flags.String("identity-scheme", "linkerd.io/tls", "form of the issuer Secret")
	trustDomain := flags.String("identity-trust-domain", "cluster.local", "")
	namespace := flags.String("controller-namespace", "linkerd", "")
	lifetime := flags.Duration("identity-issuance-lifetime", 24*time.Hour, "")
	skew := flags.Duration("identity-clock-skew-allowance", 20*time.Second, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	old, err := mountedContext()
	if err != nil {
		return err
	}
	var text string
	if old != nil {
		text = old.TrustAnchorsPem
		*scheme, *trustDomain = old.Scheme, old.TrustDomain
		if *lifetime, err = time.ParseDuration(old.IssuanceLifetime); err != nil {
			return err
		}
		if *skew, err = time.ParseDuration(old.ClockSkewAllowance); err != nil {
			return err
		}
	} else {
		mounted, err := os.ReadFile(trustRootsFile)
		if err != nil {
			return fmt.Errorf("Failed to read trust anchors: %w", err)
		}
		text = string(mounted)
	}
	roots, list, err := pool(text)
	if err != nil {
		return fmt.Errorf("Failed to read trust anchors: %w", err)
	}
	files := [2]string{"crt.pem", "key.pem"}
	if *scheme == "kubernetes.io/tls" {
		files = [2]string{"tls.crt", "tls.key"}
	}
	asked, err := openAPI()
	if err != nil {
		return err
	}
	a := &authority{
		anchors: roots, trustDomain: *trustDomain, namespace: *namespace, lifetime: *lifetime, skew: *skew, files: files,
		old: old != nil, api: asked,
	}
	if err := a.load(); err != nil {
		return fmt.Errorf("Failed to initialize identity service: %w", err)
	}
	out.print(map[string]any{"at": now(), "anchors": fingerprints(list), "issuer": fingerprint(a.issuer.chain[0])})
	changed, err := watch(issuerFolder)
	if err != nil {
		return err
	}
	go a.follow(changed)
	// Through its proxy alone: to the network it listens on no port.
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		return err
	}
	go a.admin()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go a.answer(connection)
	}
}

// load reads the issuer and holds it to the anchors of the start.
func (a *authority) load() error {
	key, err := os.ReadFile(filepath.Join(issuerFolder, a.files[1]))
	if err != nil {
		return fmt.Errorf("failed to read CA from disk: %w", err)
	}
	certificate, err := os.ReadFile(filepath.Join(issuerFolder, a.files[0]))
	if err != nil {
		return fmt.Errorf("failed to read CA from disk: %w", err)
	}
	parsed, err := privateKey(string(key), !a.old)
	if err != nil {
		return fmt.Errorf("failed to read CA from disk: %w", err)
	}
	chain, err := certificates(strings.TrimSpace(string(certificate)))
	if err != nil {
		return fmt.Errorf("failed to read CA from disk: %w", err)
	}
	if len(chain) == 0 {
		return errors.New("failed to read CA from disk: no certificates found")
	}
	if !parsed.PublicKey.Equal(chain[0].PublicKey) {
		return errors.New("tls: Public and private key do not match")
	}
	if !chain[0].IsCA {
		return errors.New("failed to verify issuer certificate: it must be an intermediate-CA, but it is not")
	}
	if err := a.verify(chain); err != nil {
		return err
	}
	a.mutex.Lock()
	a.issuer = &issuer{chain: chain, key: parsed, serial: 1}
	a.mutex.Unlock()
	return nil
}

func (a *authority) verify(chain []*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, each := range chain[1:] {
		between.AddCert(each)
	}
	options := x509.VerifyOptions{Roots: a.anchors, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	name := fmt.Sprintf("identity.%s.%s", a.namespace, a.trustDomain)
	if a.old {
		options.DNSName = name
	}
	if _, err := chain[0].Verify(options); err != nil {
		return fmt.Errorf("failed to verify issuer credentials for '%s' with trust anchors: %w", name, err)
	}
	return nil
}

func (a *authority) follow(changed <-chan struct{}) {
	for range changed {
		if err := a.load(); err != nil {
			a.event("Warning", "IssuerUpdateSkipped", "Skipping issuer update as certs could not be read from disk: "+err.Error())
			continue
		}
		a.event("Normal", "IssuerUpdated", "Updated identity issuer")
	}
}

// event is about the Deployment, whichever replica it is (recordEventFunc).
func (a *authority) event(kind, reason, message string) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", reason, message)
	now := time.Now().UTC().Format(time.RFC3339)
	event := map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata": map[string]any{"generateName": "linkerd-identity.", "namespace": a.namespace},
		"involvedObject": map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "name": "linkerd-identity", "namespace": a.namespace,
		},
		"type": kind, "reason": reason, "message": message, "source": map[string]any{"component": "linkerd-identity"},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	}
	if _, err := a.api.post("/api/v1/namespaces/"+a.namespace+"/events", event); err != nil {
		fmt.Fprintln(os.Stderr, "event:", err)
	}
}

func (a *authority) answer(connection net.Conn) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		return
	}
	signed, err := a.certify(line)
	if err != nil {
		fmt.Fprintln(os.Stderr, "certify:", err)
		signed = &signAnswer{Error: err.Error()}
	}
	json.NewEncoder(connection).Encode(signed)
}

func (a *authority) certify(line []byte) (*signAnswer, error) {
	var request signRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(request.CSR)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	if len(csr.DNSNames) != 1 || csr.DNSNames[0] != request.Identity {
		return nil, fmt.Errorf("the request is for %v, not for %s", csr.DNSNames, request.Identity)
	}
	asks, err := a.whose(request.Token)
	if err != nil {
		return nil, err
	}
	if asks != request.Identity {
		return nil, fmt.Errorf("requested identity did not match provided token: requested=%s; found=%s", request.Identity, asks)
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if err := a.verify(a.issuer.chain); err != nil {
		go a.event("Warning", "IssuerValidationFailed", err.Error())
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.issuer.serial),
		Subject:      csr.Subject,
		DNSNames:     csr.DNSNames,
		NotBefore:    now.Add(-a.skew),
		NotAfter:     now.Add(a.lifetime + a.skew),
		KeyUsage:     x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	a.issuer.serial++
	answer := &signAnswer{}
	for _, each := range a.issuer.chain {
		// No leaf outlives what signed it (pkg/tls/ca.go).
		if each.NotAfter.Before(template.NotAfter) {
			template.NotAfter = each.NotAfter
		}
		answer.Intermediates = append(answer.Intermediates, each.Raw)
	}
	answer.Leaf, err = x509.CreateCertificate(rand.Reader, template, a.issuer.chain[0], csr.PublicKey, a.issuer.key)
	answer.ValidUntil = template.NotAfter.Unix()
	return answer, err
}

// whose asks the API server whose token it is, and names that ServiceAccount's proxy.
func (a *authority) whose(token string) (string, error) {
	review := map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
		"spec": map[string]any{"token": token, "audiences": []string{"identity.l5d.io"}},
	}
	answer, err := a.api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)
	if err != nil {
		return "", err
	}
	var reviewed struct {
		Status struct {
			Authenticated bool
			Error         string
			User          struct{ Username string }
		}
	}
	if err := json.Unmarshal(answer, &reviewed); err != nil {
		return "", err
	}
	parts := strings.Split(reviewed.Status.User.Username, ":")
	if !reviewed.Status.Authenticated || len(parts) != 4 {
		return "", fmt.Errorf("authentication token could not be authenticated: %s", reviewed.Status.Error)
	}
	return fmt.Sprintf("%s.%s.serviceaccount.identity.%s.%s", parts[3], parts[2], a.namespace, a.trustDomain), nil
}

// admin has the metric of edge-25.2.1 and later, unless what is mounted is of 2.8 or earlier.
func (a *authority) admin() {
	serve := http.NewServeMux()
	serve.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	serve.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		if a.old {
			return
		}
		a.mutex.Lock()
		left := time.Until(a.issuer.chain[0].NotAfter).Seconds()
		a.mutex.Unlock()
		fmt.Fprintf(w, "# TYPE issuer_cert_ttl_seconds gauge\nissuer_cert_ttl_seconds %f\n", left)
	})
	fatal(http.ListenAndServe(":9990", serve))
}
