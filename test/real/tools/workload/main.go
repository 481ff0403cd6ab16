// Command workload is what the pods of the rig run: an echo server, and a client that asks its peers all the time over fresh connections.
//
//	workload            serves and asks, by the environment below
//	workload relay N    joins standard input and output to port N on the loopback of its network namespace
//	workload ready N    succeeds where something listens on port N of the loopback
//
// Environment: NAME of this workload (default: HOSTNAME), PORT to serve on 127.0.0.1 (none: no server; ADDRESS for another address), PEERS
// "name=host:port,…" to ask every INTERVAL milliseconds (default 200) each, patience TIMEOUT milliseconds (default 3000), WARMUP milliseconds
// (default 10000) in which failures before a peer's first answer are counted apart, LINGER milliseconds (default 5000): after SIGTERM the
// server goes on until nobody has come for that long, as a server should until every client knows that it leaves. How long that takes is a
// matter of the control plane, on a busy machine of many seconds; the pod's grace bounds it.
//
// Standard output, one JSON object per line. A failed request:
//
//	{"at":"2026-01-01T00:00:00.000Z","from":"a","pod":"a-1","to":"b","ok":false,"ms":3,"error":"…"}
//
// and for every second and peer the counts, with the slowest request and the pods that answered:
//
//	{"at":"…","from":"a","pod":"a-1","to":"b","sent":5,"failed":0,"early":0,"slowest":2,"by":["b-1"]}
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "relay":
		err = relay(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "ready":
		err = ready(os.Args[2])
	default:
		err = work()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

// relay ends when the server has said everything; the end of standard input alone only ends that direction.
func relay(port string) error {
	connection, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		io.Copy(connection, os.Stdin)
		connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, connection)
	return err
}

func ready(port string) error {
	connection, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	return connection.Close()
}

func work() error {
	pod, _ := os.Hostname()
	pod = text("HOSTNAME", pod)
	name := text("NAME", pod)
	peers, err := parsePeers(os.Getenv("PEERS"))
	if err != nil {
		return err
	}
	interval, timeout := milliseconds("INTERVAL", 200), milliseconds("TIMEOUT", 3000)
	warmup, linger := milliseconds("WARMUP", 10_000), milliseconds("LINGER", 5000)

	var came atomic.Int64
	if port := os.Getenv("PORT"); port != "" {
		listener, err := net.Listen("tcp", net.JoinHostPort(text("ADDRESS", "127.0.0.1"), port))
		if err != nil {
			return err
		}
		go serve(listener, name+" "+pod, &came)
	}
	leaving := make(chan os.Signal, 1)
	signal.Notify(leaving, syscall.SIGTERM, syscall.SIGINT)
	stop := make(chan struct{})
	out := &lines{encoder: json.NewEncoder(os.Stdout)}
	var clients sync.WaitGroup
	for _, peer := range peers {
		client := &client{from: name, pod: pod, peer: peer, timeout: timeout, warmUntil: time.Now().Add(warmup), out: out}
		clients.Go(func() { client.run(interval, stop) })
	}
	<-leaving
	left := time.Now().UnixMilli()
	close(stop)
	clients.Wait()
	if os.Getenv("PORT") != "" {
		came.Store(max(came.Load(), left))
		for quiet := time.Duration(0); quiet < linger; quiet = time.Since(time.UnixMilli(came.Load())) {
			time.Sleep(min(linger-quiet, 100*time.Millisecond))
		}
	}
	return nil
}

type peer struct{ name, address string }

func parsePeers(list string) ([]peer, error) {
	var peers []peer
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		name, address, found := strings.Cut(entry, "=")
		if !found {
			return nil, fmt.Errorf("PEERS: %q is not name=host:port", entry)
		}
		peers = append(peers, peer{name, address})
	}
	return peers, nil
}

// serve answers every line with its name and the line. In came stands when somebody came last, in milliseconds since 1970.
func serve(listener net.Listener, name string, came *atomic.Int64) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "workload: accept:", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		came.Store(time.Now().UnixMilli())
		go func() {
			defer connection.Close()
			asked := bufio.NewScanner(connection)
			for asked.Scan() {
				if _, err := fmt.Fprintf(connection, "%s %s\n", name, asked.Text()); err != nil {
					return
				}
			}
		}()
	}
}

type client struct {
	from, pod string
	peer      peer
	timeout   time.Duration
	warmUntil time.Time
	out       *lines

	mutex  sync.Mutex
	warm   bool
	counts counts
}

type counts struct {
	At      string   `json:"at"`
	From    string   `json:"from"`
	Pod     string   `json:"pod"`
	To      string   `json:"to"`
	Sent    int      `json:"sent"`
	Failed  int      `json:"failed"`
	Early   int      `json:"early"`
	Slowest int64    `json:"slowest"`
	By      []string `json:"by"`
}

type failure struct {
	At    string `json:"at"`
	From  string `json:"from"`
	Pod   string `json:"pod"`
	To    string `json:"to"`
	OK    bool   `json:"ok"`
	Ms    int64  `json:"ms"`
	Error string `json:"error"`
}

// run asks at every tick even while an answer is outstanding: a peer that hangs must not hide how long it hung.
func (c *client) run(interval time.Duration, stop <-chan struct{}) {
	tick, second := time.NewTicker(interval), time.NewTicker(time.Second)
	defer tick.Stop()
	defer second.Stop()
	var asking sync.WaitGroup
	for {
		select {
		case <-stop:
			asking.Wait()
			c.report()
			return
		case <-second.C:
			c.report()
		case <-tick.C:
			asking.Go(c.ask)
		}
	}
}

func (c *client) ask() {
	began := time.Now()
	by, err := request(c.peer, c.from, c.timeout)
	took := time.Since(began).Milliseconds()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.counts.Sent++
	c.counts.Slowest = max(c.counts.Slowest, took)
	if err == nil {
		c.warm = true
		if !slices.Contains(c.counts.By, by) {
			c.counts.By = append(c.counts.By, by)
		}
		return
	}
	if !c.warm && began.Before(c.warmUntil) {
		c.counts.Early++
		return
	}
	c.counts.Failed++
	c.out.print(failure{stamp(began), c.from, c.pod, c.peer.name, false, took, err.Error()})
}

func (c *client) report() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.counts.Sent == 0 {
		return
	}
	c.counts.At, c.counts.From, c.counts.Pod, c.counts.To = stamp(time.Now()), c.from, c.pod, c.peer.name
	if c.counts.By == nil {
		c.counts.By = []string{}
	}
	c.out.print(c.counts)
	c.counts = counts{}
}

// request opens a connection, sends a line and reads the echo. It returns the pod that answered.
func request(to peer, from string, timeout time.Duration) (string, error) {
	connection, err := net.DialTimeout("tcp", to.address, timeout)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprintf(connection, "from %s\n", from); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if errors.Is(err, io.EOF) {
		return "", errors.New("connection closed before an answer")
	}
	if err != nil {
		return "", err
	}
	words := strings.Fields(answer)
	if len(words) != 4 || words[0] != to.name || words[3] != from {
		return "", fmt.Errorf("wrong answer %q", answer)
	}
	return words[1], nil
}

type lines struct {
	mutex   sync.Mutex
	encoder *json.Encoder
}

func (l *lines) print(value any) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.encoder.Encode(value)
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

func text(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func milliseconds(name string, otherwise int) time.Duration {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return time.Duration(value) * time.Millisecond
	}
	return time.Duration(otherwise) * time.Millisecond
}
