package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestMain lets the test binary be the servers that scenarios start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "serve-") {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestHTTPScenario runs the scenario small: its answers are right, its figures
// are there, and its servers are gone afterwards.
func TestHTTPScenario(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures.json")
	c := &httpCommand{practice: practice{Clients: 30, Practitioners: 5, Grants: 50}, Questions: 60,
		Connections: []int{2, 3}, Rounds: 2, Seconds: 0.01, JSON: path}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, row := range r.Results {
		seen = append(seen, row.Target)
		if len(row.Rounds) != 2 || row.Median.Throughput <= 0 || row.Median.P99 < row.Median.P50 || row.OfFloor.Throughput <= 0 {
			t.Errorf("%d connections, %s: %+v", row.Connections, row.Target, row)
		}
		if row.Target == "floor" && row.OfFloor.Throughput != 1 {
			t.Errorf("the floor is %v of itself", row.OfFloor.Throughput)
		}
	}
	if got := strings.Join(seen, " "); got != "floor sidecar floor sidecar" {
		t.Errorf("targets: %s", got)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	good := httpCommand{practice: practice{Clients: 10, Practitioners: 5, Grants: 30}, Questions: 1, Connections: []int{8}, Rounds: 1, Seconds: 1}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*httpCommand){
		"--clients":       func(c *httpCommand) { c.Clients = 0 },
		"--practitioners": func(c *httpCommand) { c.Practitioners = 2 },
		"--grants":        func(c *httpCommand) { c.Grants = 31 },
		"--questions":     func(c *httpCommand) { c.Questions = 0 },
		"--connections":   func(c *httpCommand) { c.Connections = []int{8, 0} },
		"--rounds":        func(c *httpCommand) { c.Rounds = 0 },
		"--seconds":       func(c *httpCommand) { c.Seconds = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.check(); err == nil || !strings.HasPrefix(err.Error(), flag+":") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestQuestionsAreOfThePractice: every answer that is expected is what the
// files say.
func TestQuestionsAreOfThePractice(t *testing.T) {
	for _, p := range []practice{{Clients: 7, Practitioners: 3, Grants: 7}, {Clients: 10, Practitioners: 20, Grants: 45}, {Clients: 5, Practitioners: 4, Grants: 0}} {
		folder := t.TempDir()
		if err := p.write(folder); err != nil {
			t.Fatal(err)
		}
		rows := func(name string) []string {
			text, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			return strings.Split(strings.TrimSpace(string(text)), "\n")[1:]
		}
		basis := map[[2]string]string{}
		for _, row := range rows("grants.csv") {
			cells := strings.Split(row, ",")
			if basis[[2]string{cells[0], cells[1]}] != "" {
				t.Errorf("%+v: the grant %s stands twice", p, row)
			}
			basis[[2]string{cells[0], cells[1]}] = "client_grant"
		}
		if len(basis) != p.Grants {
			t.Errorf("%+v: %d grants", p, len(basis))
		}
		for _, row := range rows("clients.csv") {
			cells := strings.Split(row, ",")
			if basis[[2]string{cells[0], cells[5]}] != "" {
				t.Errorf("%+v: %s has a grant for who is assigned", p, cells[0])
			}
			basis[[2]string{cells[0], cells[5]}] = "assigned"
		}
		codes := map[string]int{}
		for _, q := range p.questions(300) {
			want := basis[[2]string{q.client, q.user}]
			if want == "" {
				want = "no_basis"
			}
			if q.code != want || q.allow != (want != "no_basis") {
				t.Fatalf("%+v: %+v, the files say %s", p, q, want)
			}
			codes[q.code]++
		}
		if codes["assigned"] == 0 || codes["no_basis"] == 0 || (p.Grants > 0) != (codes["client_grant"] > 0) {
			t.Errorf("%+v: %v", p, codes)
		}
	}
}

// TestWrongAnswersEndTheRun: a server that is quick and wrong measures nothing.
func TestWrongAnswersEndTheRun(t *testing.T) {
	var status atomic.Int32
	status.Store(fasthttp.StatusOK)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) {
		c.SetStatusCode(int(status.Load()))
		c.SetBody(c.PostBody())
	}}
	go server.Serve(listener)
	defer server.Shutdown()
	target := &target{name: "echo", address: listener.Addr().String(), path: "/", bodies: [][]byte{[]byte("a"), []byte("b"), []byte("c")},
		cpu: []cost{{name: "server", pid: os.Getpid()}}}
	asked := map[int]bool{}
	target.check = func(i int, answer []byte) error {
		asked[i] = true
		if !bytes.Equal(answer, target.bodies[i]) {
			return errors.New("not what was sent")
		}
		return nil
	}
	s, err := drive(t.Context(), target, 1, 0, true)
	if err != nil || len(asked) != 3 || s.Throughput <= 0 || s.P50 <= 0 {
		t.Errorf("right answers: %+v, %v, asked %v", s, err, asked)
	}
	wrong := errors.New("wrong")
	target.check = func(i int, _ []byte) error {
		if i == 2 {
			return wrong
		}
		return nil
	}
	if _, err := drive(t.Context(), target, 3, time.Hour, false); !errors.Is(err, wrong) {
		t.Errorf("one wrong answer: %v", err)
	}
	target.check = func(int, []byte) error { return nil }
	status.Store(fasthttp.StatusServiceUnavailable)
	if _, err := drive(t.Context(), target, 1, time.Hour, false); err == nil {
		t.Error("a 503 was counted as an answer")
	}
}

// TestServersEndWithTheirInput, which closes when the parent is gone, however
// it ended.
func TestServersEndWithTheirInput(t *testing.T) {
	p, err := startSelf(t.Context(), "serve-floor", floorAnswer+"=constant")
	if err != nil {
		t.Fatal(err)
	}
	status, body, err := fasthttp.Post(nil, "http://"+p.address+"/", nil)
	if err != nil || status != fasthttp.StatusOK || string(body) != "constant" {
		t.Errorf("the floor answers %d %q, %v", status, body, err)
	}
	p.stdin.Close()
	<-p.exited
	if err := p.stop(); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	if _, err := startSelf(t.Context(), "serve-nothing"); err == nil {
		t.Error("a server that does not start is not an error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := startSelf(ended, "serve-floor"); err == nil {
		t.Errorf("started after the end: %+v", p)
	}
}

func TestMedians(t *testing.T) {
	floor := []sample{{Throughput: 100, P50: 1, P99: 2}, {Throughput: 200, P50: 1, P99: 2}, {Throughput: 400, P50: 1, P99: 2}}
	r := result{Rounds: []sample{{Throughput: 90, P50: 2, P99: 8, CPU: map[string]float64{"server": 3}},
		{Throughput: 100, P50: 2, P99: 6, CPU: map[string]float64{"server": 9}}, {Throughput: 80, P50: 2, P99: 4, CPU: map[string]float64{"server": 6}}}}
	r.sum(floor)
	if r.Median.Throughput != 90 || r.OfFloor.Throughput != 0.5 || r.OfFloor.P99 != 3 || r.Median.CPU["server"] != 6 || r.OfFloor.CPU != 0 {
		t.Errorf("%+v", r)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of an even number: %v", got)
	}
}
