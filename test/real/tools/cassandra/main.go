// Command cassandra-rig is what stands around the real Cassandra nodes of the rig.
//
//	cassandra-rig sign     makes the nodes' Secret of a CA Secret as IBM's operator does: standard input {"data":{key:base64},"certificate":
//	                       "ca.crt","key":"ca.key"}, standard output {key:base64}
//	cassandra-rig query    asks a ring by CQL over TLS all the time, and writes what came of it
//	cassandra-rig whole N  succeeds where each of the nodes N (comma-separated addresses) writes and reads as coordinator with the word of all copies
//	cassandra-rig ready N  succeeds where something listens on port N of the pod's own address
//
// Environment of query and whole: HOSTS (comma-separated addresses), DC (the one that is near), FROM (its name), CA (file with the CAs to trust), CERT and KEY
// (its own certificate), INTERVAL milliseconds, COPIES "dc=n,…" of the keyspace. Standard output, one JSON object per line: a failure at once, and the
// counts of every second, as the rig's workload writes them.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gocql/gocql"
	"software.sslmate.com/src/go-pkcs12"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "sign":
		err = sign()
	case len(os.Args) == 2 && os.Args[1] == "query":
		err = query()
	case len(os.Args) == 3 && os.Args[1] == "whole":
		err = whole(strings.Split(os.Args[2], ","))
	case len(os.Args) == 3 && os.Args[1] == "ready":
		err = ready(os.Args[2])
	default:
		err = errors.New("sign, query, whole or ready")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cassandra-rig:", err)
		os.Exit(1)
	}
}

func ready(port string) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		own, ok := address.(*net.IPNet)
		if !ok || own.IP.IsLoopback() || own.IP.To4() == nil {
			continue
		}
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(own.IP.String(), port), 2*time.Second)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	return errors.New("no address")
}

type caSecret struct {
	Data        map[string][]byte `json:"data"`
	Certificate string            `json:"certificate"`
	Key         string            `json:"key"`
}

// As controllers/cassandra_tls.go has it: the dot is not escaped, and nothing ends the name.
var trustedKey = regexp.MustCompile(`^.*.crt`)

const password = "cassandra"

func sign() error {
	var secret caSecret
	if err := json.NewDecoder(os.Stdin).Decode(&secret); err != nil {
		return err
	}
	authority, err := firstCertificate(secret.Data[secret.Certificate], secret.Certificate)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(secret.Data[secret.Key])
	if block == nil {
		return fmt.Errorf("failed to decode PEM of %s", secret.Key)
	}
	signer, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return err
	}
	subject := authority.Subject
	subject.CommonName = "localhost"
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Organization: subject.Organization, CommonName: subject.CommonName},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	// A Go map: of two CAs with one Subject, and so one alias in Java, chance decides which is written last.
	var trusted []*x509.Certificate
	for name, content := range secret.Data {
		if !trustedKey.MatchString(name) {
			continue
		}
		certificate, err := firstCertificate(content, name)
		if err != nil {
			return err
		}
		trusted = append(trusted, certificate)
	}
	keystore, err := pkcs12.Encode(rand.Reader, key, leaf, trusted, password)
	if err != nil {
		return err
	}
	truststore, err := pkcs12.EncodeTrustStore(rand.Reader, trusted, password)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string][]byte{
		"tls.crt":             pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key":             pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"ca.crt":              secret.Data[secret.Certificate],
		"keystore.p12":        keystore,
		"truststore.p12":      truststore,
		"keystore.password":   []byte(password),
		"truststore.password": []byte(password),
	})
}

// firstCertificate reads the first block alone, as the operator does.
func firstCertificate(content []byte, name string) (*x509.Certificate, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("failed to decode PEM of %s", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

type line struct {
	At     string   `json:"at"`
	From   string   `json:"from"`
	Pod    string   `json:"pod"`
	To     string   `json:"to"`
	OK     *bool    `json:"ok,omitempty"`
	Ms     int64    `json:"ms,omitempty"`
	Error  string   `json:"error,omitempty"`
	Sent   int      `json:"sent,omitempty"`
	Failed int      `json:"failed"`
	By     []string `json:"by,omitempty"`
}

// clusterOf is the ring as a client with the pod's own certificate reaches it by these addresses.
func clusterOf(hosts []string) (*gocql.ClusterConfig, error) {
	pool := x509.NewCertPool()
	authorities, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, errors.New("CA holds no certificate")
	}
	certificate, err := tls.LoadX509KeyPair(os.Getenv("CERT"), os.Getenv("KEY"))
	if err != nil {
		return nil, err
	}
	cluster := gocql.NewCluster(hosts...)
	// The nodes' certificate names localhost alone, so a client verifies who signed it, and no host.
	cluster.SslOpts = &gocql.SslOptions{
		EnableHostVerification: false,
		Config: &tls.Config{
			InsecureSkipVerify: true,
			Certificates:       []tls.Certificate{certificate},
			VerifyConnection: func(state tls.ConnectionState) error {
				_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
				return err
			},
		},
	}
	cluster.Timeout, cluster.ConnectTimeout = 15*time.Second, 15*time.Second
	cluster.ReconnectInterval = 2 * time.Second
	cluster.Logger = silent{}
	return cluster, nil
}

// whole asks every node by itself, which then needs all the others that have a copy, by their mutual TLS.
func whole(nodes []string) error {
	for _, node := range nodes {
		if err := wholeBy(node); err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
	}
	return nil
}

func wholeBy(node string) error {
	cluster, err := clusterOf([]string{node})
	if err != nil {
		return err
	}
	cluster.HostFilter = gocql.WhiteListHostFilter(node)
	session, err := cluster.CreateSession()
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.Query("INSERT INTO rig.ledger (id, value) VALUES (?, ?)", "whole", 1).Consistency(gocql.All).Exec(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var read int64
	if err := session.Query("SELECT value FROM rig.ledger WHERE id = ?", "whole").Consistency(gocql.All).Scan(&read); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func query() error {
	cluster, err := clusterOf(strings.Split(os.Getenv("HOSTS"), ","))
	if err != nil {
		return err
	}
	cluster.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.DCAwareRoundRobinPolicy(os.Getenv("DC")))
	cluster.RetryPolicy = &gocql.SimpleRetryPolicy{NumRetries: 3}
	var session *gocql.Session
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		if session, err = cluster.CreateSession(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	defer session.Close()
	for _, statement := range []string{
		"CREATE KEYSPACE IF NOT EXISTS rig WITH replication = " + replication(os.Getenv("COPIES")),
		"CREATE TABLE IF NOT EXISTS rig.ledger (id text PRIMARY KEY, value bigint)",
	} {
		for tries := 0; ; tries++ {
			if err = session.Query(statement).Exec(); err == nil {
				break
			}
			if tries == 30 {
				return err
			}
			time.Sleep(time.Second)
		}
	}
	return ask(session)
}

// ask writes a value and reads it back, both at QUORUM over all regions, so that a coordinator needs nodes of the other region, by their mutual TLS.
func ask(session *gocql.Session) error {
	interval, err := strconv.Atoi(os.Getenv("INTERVAL"))
	if err != nil {
		return err
	}
	from, pod := os.Getenv("FROM"), os.Getenv("HOSTNAME")
	leaving := make(chan os.Signal, 1)
	signal.Notify(leaving, syscall.SIGTERM, syscall.SIGINT)
	out := json.NewEncoder(os.Stdout)
	second := time.Now().Truncate(time.Second)
	sent, failed := 0, 0
	by := map[string]bool{}
	tell := func() {
		hosts := make([]string, 0, len(by))
		for host := range by {
			hosts = append(hosts, host)
		}
		out.Encode(line{At: second.UTC().Format("2006-01-02T15:04:05.000Z"), From: from, Pod: pod, To: "ring", Sent: sent, Failed: failed, By: hosts})
		sent, failed, by = 0, 0, map[string]bool{}
	}
	for count := int64(0); ; count++ {
		select {
		case <-leaving:
			tell()
			return nil
		case <-time.After(time.Duration(interval) * time.Millisecond):
		}
		began := time.Now()
		host, err := roundTrip(session, fmt.Sprintf("%s-%d", from, count%97), count)
		now := time.Now().Truncate(time.Second)
		if now.After(second) {
			if sent > 0 {
				tell()
			}
			second = now
		}
		sent++
		if host != "" {
			by[host] = true
		}
		if err != nil {
			failed++
			no := false
			out.Encode(line{At: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), From: from, Pod: pod, To: "ring", OK: &no, Ms: time.Since(began).Milliseconds(), Error: err.Error()})
		}
	}
}

func roundTrip(session *gocql.Session, id string, value int64) (string, error) {
	write := session.Query("INSERT INTO rig.ledger (id, value) VALUES (?, ?)", id, value).Consistency(gocql.Quorum).Idempotent(true)
	if err := write.Exec(); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	var read int64
	iterator := session.Query("SELECT value FROM rig.ledger WHERE id = ?", id).Consistency(gocql.Quorum).Idempotent(true).Iter()
	host := ""
	if iterator.Host() != nil {
		host = iterator.Host().ConnectAddress().String()
	}
	iterator.Scan(&read)
	if err := iterator.Close(); err != nil {
		return host, fmt.Errorf("read: %w", err)
	}
	if read != value {
		return host, fmt.Errorf("read %d, and %d was written", read, value)
	}
	return host, nil
}

func replication(copies string) string {
	var text bytes.Buffer
	text.WriteString("{'class': 'NetworkTopologyStrategy'")
	for entry := range strings.SplitSeq(copies, ",") {
		dc, count, _ := strings.Cut(entry, "=")
		fmt.Fprintf(&text, ", '%s': %s", dc, count)
	}
	text.WriteString("}")
	return text.String()
}

type silent struct{}

func (silent) Print(...any)          {}
func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
