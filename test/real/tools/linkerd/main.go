// Command linkerd-rig stands in for the parts of Linkerd, none of which can be had as a Go module. What each does is written after linkerd2's own
// source, as far as trust goes: which file is read when, what is refused, what is renewed.
//
//	linkerd-rig identity     signs leaves for proxies, by the issuer Secret that is mounted (identity.go)
//	linkerd-rig injector     writes a proxy into pods, as the API server's webhook (injector.go)
//	linkerd-rig destination  does nothing: proxies know their peers by an annotation of the rig
//	linkerd-rig proxy        a proxy on Go's TLS: mutual TLS to peers, by anchors that it reads once (proxy.go)
//	linkerd-rig await N      succeeds once the proxy with its admin on port N is ready, as linkerd-await does
//	linkerd-rig anchors      reads PEM from standard input as identity reads anchors, and tells what it would start with, or why not
package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal(errors.New("which part?"))
	}
	var err error
	switch os.Args[1] {
	case "identity":
		drain()
		err = identity(os.Args[2:])
	case "injector":
		drain()
		err = injector()
	case "destination":
		drain()
		select {}
	case "proxy":
		err = proxy()
	case "await":
		err = await(os.Args[2])
	case "anchors":
		err = anchors()
	default:
		err = fmt.Errorf("no part %q", os.Args[1])
	}
	if err != nil {
		fatal(err)
	}
}

// drain ends the process some seconds after it is told to: until then clients still come that do not know it yet.
func drain() {
	leaving := make(chan os.Signal, 1)
	signal.Notify(leaving, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-leaving
		time.Sleep(linger)
		os.Exit(0)
	}()
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "linkerd-rig:", err)
	os.Exit(1)
}

func await(port string) error {
	client := http.Client{Timeout: time.Second}
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		answer, err := client.Get("http://127.0.0.1:" + port + "/ready")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("the proxy is not ready after two minutes")
}

// anchors reads texts that a zero byte ends, and answers each with one line.
func anchors() error {
	texts, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	for text := range strings.SplitSeq(strings.TrimSuffix(string(texts), "\x00"), "\x00") {
		_, found, err := pool(text)
		if err != nil {
			out.print(map[string]any{"error": err.Error()})
			continue
		}
		out.print(map[string]any{"anchors": fingerprints(found)})
	}
	return nil
}

func fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

func fingerprints(list []*x509.Certificate) []string {
	found := make([]string, len(list))
	for place, each := range list {
		found[place] = fingerprint(each)
	}
	return found
}

// lines writes one JSON object per line to standard output.
type lines struct{ mutex sync.Mutex }

func (l *lines) print(value any) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	json.NewEncoder(os.Stdout).Encode(value)
}

var out lines

// now is in milliseconds since 1970.
func now() int64 { return time.Now().UnixMilli() }
