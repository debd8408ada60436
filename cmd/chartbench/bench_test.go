package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
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
	compiledWait = 0
	os.Exit(m.Run())
}

// TestScenarios runs each small: its answers are right, its figures are there,
// and its servers are gone afterwards.
func TestScenarios(t *testing.T) {
	small := practice{Clients: 30, Practitioners: 6, Grants: 50, Practices: 1}
	run := func(path string) contest {
		return contest{Connections: []int{2}, Rounds: 2, Seconds: 0.01, JSON: path}
	}
	for name, scenario := range map[string]struct {
		run     func(json string) error
		targets string
	}{
		"http": {func(json string) error {
			return (&httpCommand{practice: small, contest: run(json), Questions: 60}).Run(t.Context())
		}, "floor sidecar"},
		"cold": {func(json string) error {
			return (&coldCommand{practice: small, contest: run(json), Questions: 60}).Run(t.Context())
		}, "only redis,facts from redis,only postgres,facts from postgres"},
		"batch": {func(json string) error {
			return (&batchCommand{practice: small, contest: run(json), Questions: 60, Items: 20}).Run(t.Context())
		}, "single,batch of 20"},
		"flat": {func(json string) error {
			return (&flatCommand{contest: run(json), Few: 300, Many: 400, Practices: 3, Questions: 60}).Run(t.Context())
		}, "floor,300 clients,400 clients,3 practices"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "figures.json")
			processors := runtime.GOMAXPROCS(0)
			if err := scenario.run(path); err != nil {
				t.Fatal(err)
			}
			if n := runtime.GOMAXPROCS(0); n != processors {
				t.Errorf("%d processors afterwards, %d before", n, processors)
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
				if len(row.Rounds) != 2 || row.Median.Throughput <= 0 || row.Median.P99 < row.Median.P50 || row.Ratio.Throughput <= 0 {
					t.Errorf("%d connections, %s: %+v", row.Connections, row.Target, row)
				}
				if _, measured := row.Median.CPU[load]; !measured {
					t.Errorf("%s: what the load takes is not said: %v", row.Target, row.Median.CPU)
				}
				if row.Target == row.Against && row.Ratio.Throughput != 1 {
					t.Errorf("%s is %v of itself", row.Target, row.Ratio.Throughput)
				}
			}
			want := strings.ReplaceAll(scenario.targets, ",", " ")
			if got := strings.Join(seen, " "); got != want {
				t.Errorf("targets: %s", got)
			}
			if name == "http" && (len(r.Open) != 2 || r.Open[1].P99 < r.Open[1].P50 || r.Apart == nil) {
				t.Errorf("open loop %+v, apart %+v", r.Open, r.Apart)
			}
		})
	}
}

// TestStartScenario prints what it found, and ends.
func TestStartScenario(t *testing.T) {
	if err := (&startCommand{Clients: 30, Practitioners: 6, Grants: 50, Questions: 60, Starts: 1}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAKeptRateIsFlat: a spool that grows is told from one that does not.
func TestAKeptRateIsFlat(t *testing.T) {
	if !(kept{asked: 100, half: 500, most: 650}).flat() || (kept{asked: 100, half: 500, most: 900}).flat() {
		t.Error("flat is not told from growing")
	}
}

// TestBenchmarksAreRead as Go prints them.
func TestBenchmarksAreRead(t *testing.T) {
	b := readBenchmarks([]byte("goos: linux\nBenchmarkDecision/topdown/assigned-2 \t 100\t 2000 ns/op\t 3 B/op\n" +
		"BenchmarkDecision/topdown/assigned-2 100 4000 ns/op\nBenchmarkDecision/program/assigned-2 100 10.5 ns/op\n" +
		"BenchmarkLists/10/administrator/50-2 100 7 ns/op 5 hand-ns 6 list-ns\nPASS\n"))
	if b.of("BenchmarkLists/10/administrator/50 list-ns") != 6 || b.of("BenchmarkLists/10/administrator/50 hand-ns") != 5 {
		t.Errorf("%+v", b)
	}
	if got := b.names("BenchmarkDecision/topdown/"); len(got) != 1 || got[0] != "assigned" {
		t.Errorf("names: %v", got)
	}
	if b.of("BenchmarkDecision/topdown/assigned") != 3000 || b.of("BenchmarkDecision/program/assigned") != 10.5 || b.of("nothing") != 0 {
		t.Errorf("%+v", b)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	good := httpCommand{practice: practice{Clients: 10, Practitioners: 5, Grants: 30, Practices: 1}, Questions: 1,
		contest: contest{Connections: []int{8}, Rounds: 1, Seconds: 1}}
	check := func(c httpCommand) error {
		return errors.Join(c.contest.check(), c.practice.check(), checkQuestions(c.Questions))
	}
	if err := check(good); err != nil {
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
		if err := check(c); err == nil || !strings.HasPrefix(err.Error(), flag+":") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestQuestionsAreOfThePractice: every answer that is expected is what the
// files say.
func TestQuestionsAreOfThePractice(t *testing.T) {
	for _, p := range []practice{{Clients: 7, Practitioners: 3, Grants: 7, Practices: 1}, {Clients: 10, Practitioners: 20, Grants: 45, Practices: 1},
		{Clients: 5, Practitioners: 4, Grants: 0, Practices: 1}, {Clients: 40, Practitioners: 20, Grants: 45, Practices: 4}} {
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
	if r.Median.Throughput != 90 || r.Ratio.Throughput != 0.5 || r.Ratio.P99 != 3 || r.Median.CPU["server"] != 6 || r.Ratio.CPU != 0 {
		t.Errorf("%+v", r)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of an even number: %v", got)
	}
}
