package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chartgate/bundles"
	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
	"chartgate/internal/record"
	"chartgate/internal/web"
	"chartgate/internal/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"
)

// way is what one way made of a request.
type way struct {
	Status   int
	Header   string
	Body     string
	Asked    []authz.Request
	Recorded []authz.Verdict
	Counted  string
}

// by sends a request over c and returns what came of it; what is new each time
// is left out.
func (b bench) by(t testing.TB, c net.Conn, request *fasthttp.Request) way {
	t.Helper()
	before := b.counted()
	var response fasthttp.Response
	response.SkipBody = string(request.Header.Method()) == "HEAD"
	w := bufio.NewWriter(c)
	request.SetHost("pdp")
	if err := errors.Join(request.Write(w), w.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := response.Read(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	got := way{Status: response.StatusCode(), Body: string(response.Body()), Recorded: b.store.taken(), Asked: b.store.questions()}
	var lines []string
	response.Header.VisitAll(func(name, value []byte) {
		text := string(value)
		switch string(name) {
		case HeaderDecisionID:
			text = fmt.Sprint(len(got.Recorded) == 1 && text == got.Recorded[0].ID.String())
		case "Date":
			_, err := http.ParseTime(text)
			text = fmt.Sprint(err)
		case "X-Request-Id":
			if _, err := uuid.Parse(text); err == nil {
				text = "made" // where the caller's own cannot be taken
			}
		}
		lines = append(lines, string(name)+": "+text)
	})
	slices.Sort(lines)
	got.Header = strings.Join(lines, "\n")
	counted := func() string {
		var said []string
		for name, n := range b.counted() {
			if n != before[name] {
				said = append(said, fmt.Sprintf("%s %d", name, n-before[name]))
			}
		}
		slices.Sort(said)
		return strings.Join(said, "\n")
	}
	for range 100 { // it is counted after the answer has left
		if got.Counted = counted(); got.Counted != "" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return got
}

// open serves b and returns connections to it: one on which the app answers
// everything, and one with what Listen puts before it. The count is of requests
// that the app answered.
func (b bench) open(t testing.TB) (ordinary, plain net.Conn, app *atomic.Int64) {
	t.Helper()
	app = new(atomic.Int64)
	handler := b.App.Handler()
	b.App.Server().Handler = func(c *fasthttp.RequestCtx) {
		app.Add(1)
		handler(c)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	bare := listen()
	fronted, err := b.Listen(listen())
	if err != nil {
		t.Fatal(err)
	}
	var both []net.Conn
	for _, l := range []net.Listener{bare, fronted} {
		go b.App.Server().Serve(l)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { c.Close(); l.Close() })
		both = append(both, c)
	}
	return both[0], both[1], app
}

// counted returns how many requests of each kind were counted.
func (b bench) counted() map[string]uint64 {
	n := map[string]uint64{}
	families, err := b.metrics.Registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		if family.GetName() != "http_request_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			n[fmt.Sprint(m.GetLabel())] = m.GetHistogram().GetSampleCount()
		}
	}
	return n
}

// requests draws requests that are plain, and such as are odd in one way or
// several.
func requests(t *rapid.T) *fasthttp.Request {
	pick := func(name string, plain string, odd ...string) string {
		if rapid.IntRange(0, 5).Draw(t, name+" is odd") > 0 {
			return plain
		}
		return rapid.SampledFrom(odd).Draw(t, name)
	}
	body := rapid.SampledFrom(append(plainQuestions, append(oddQuestions,
		questionText("practitioner-1", "chart.open", "client-2"), questionText("practitioner-1", "chart.open", "client-4"),
		questionText("admin-1", "access.manage", "client-1"), questionText("nobody", "chart.open", "client-9"),
		questionText("practitioner-1", "no.such", "client-1"), questionText("down", "chart.open", "client-1"),
		questionText("panics", "chart.open", "client-1"),
		strings.Replace(questionText("admin-1", "chart.open", "client-1"), `}}`, `},"context":{"min_revision":"bad"}}`, 1))...)).Draw(t, "body")
	r := &fasthttp.Request{}
	r.Header.SetMethod(pick("method", "POST", "GET", "PUT", "HEAD", "OPTIONS"))
	r.SetRequestURI(pick("path", "/access/v1/evaluation", "/access/v1/evaluation/", "/access/v1/evaluation?x=1", "/Access/v1/evaluation", "/access/v1/evaluations", "/access//v1/evaluation", "/"))
	r.Header.SetContentType(pick("type", "application/json", "application/json; charset=utf-8", "text/plain", ""))
	for _, h := range [][2]string{
		{"Authorization", pick("key", "Bearer "+testKey, "bearer  "+testKey, "Bearer wrong", "Basic x", "Bearer cg_aaaaaaaaaaaaaaaa_x", "Bearer a.b.c")},
		{"X-Request-Id", pick("id", "request-1", "", "\x7f", strings.Repeat("x", 200), "ü")},
		{"Content-Encoding", pick("coding", "", "gzip", "identity")},
		{HeaderMinRevision, pick("revision", "", "facts-1", "bad")},
	} {
		if h[1] != "" {
			r.Header.Set(h[0], h[1])
		}
	}
	if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
		body += strings.Repeat(" ", 64<<10)
	}
	r.SetBodyString(body)
	return r
}

// What stands before the app gives the same answer to every request as the app,
// and leaves the same behind: with facts at hand and a compiled policy, and
// without.
func TestPlainQuestionsAreAnsweredAsByTheApp(t *testing.T) {
	for _, compiled := range []bool{false, true} {
		for name, caller := range map[string]web.Caller{
			"all practices": {Scopes: web.Scopes, AllPractices: true},
			"one practice":  {Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}},
			"may not ask":   {Scopes: []string{web.ScopeRecords}, AllPractices: true},
		} {
			t.Run(fmt.Sprintf("%s, compiled: %t", name, compiled), func(t *testing.T) {
				engine := shippedEngine(t)
				if compiled {
					engine = compiledEngine(t)
				}
				b := benchOf(t, engine, caller)
				b.store.down = func(r authz.Request) error {
					switch r.Subject.ID {
					case "down":
						return errDown
					case "panics":
						panic("the fact source is broken")
					}
					return nil
				}
				ordinary, plain, _ := b.open(t)
				rapid.Check(t, func(rt *rapid.T) {
					request := requests(rt)
					want, got := b.by(t, ordinary, request), b.by(t, plain, request)
					if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(authz.Verdict{}, "ID", "At"), cmp.AllowUnexported(authz.Settings{})); diff != "" {
						rt.Fatalf("the app, and what stands before it:\n%s", diff)
					}
				})
			})
		}
	}
}

// Plain questions never come to the app, and all others do: else the property
// above says nothing.
func TestPlainQuestionsDoNotComeToTheApp(t *testing.T) {
	b := shipped(t)
	_, plain, app := b.open(t)
	for _, body := range plainQuestions {
		b.by(t, plain, plainRequest(body))
	}
	if n := app.Load(); n != 0 {
		t.Errorf("%d of %d plain questions came to the app", n, len(plainQuestions))
	}
	for i, body := range oddQuestions {
		b.by(t, plain, plainRequest(body))
		if n := app.Load(); n != int64(i+1) {
			t.Fatalf("after %d others, %d came to the app: %s", i+1, n, body)
		}
	}
}

// Where one of those that are answered together fails, the others are answered.
func TestAPanicOverOneQuestionFailsThatOne(t *testing.T) {
	b := benchOf(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
	b.store.down = func(r authz.Request) error {
		if r.Subject.ID == "panics" {
			panic("the fact source is broken")
		}
		return nil
	}
	outs := b.together(t, questionText("practitioner-1", "chart.open", "client-1"), questionText("panics", "chart.open", "client-1"), questionText("admin-1", "chart.open", "client-2"))
	for i, want := range []string{`"decision":true`, "HTTP/1.1 500 ", `"decision":true`} {
		if !strings.Contains(outs[i], want) {
			t.Errorf("answer %d is %q, want %s", i, outs[i], want)
		}
	}
	if n := len(b.store.taken()); n != 2 {
		t.Errorf("%d decisions are on record, want 2", n)
	}
}

// A fault outside of deciding ends the connections, and neither the process nor
// what is counted.
func TestAFaultEndsItsConnectionsOnly(t *testing.T) {
	b := benchOf(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
	a, calls := b.plainAnswers(nil), make([]wire.Call, 3)
	for i := range calls {
		calls[i] = wire.Call{Token: []byte(testKey), Body: []byte(questionText("practitioner-1", "chart.open", "client-1"))}
	}
	a.counted = nil // whatever it may be
	answerAll(a, calls)
	for i := range calls {
		if out := calls[i].Answered(); len(out) > 0 {
			t.Errorf("answer %d: %q", i, out)
		}
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
	if out := b.together(t, questionText("practitioner-1", "chart.open", "client-1")); !strings.Contains(out[0], `"decision":true`) {
		t.Error(out)
	}
}

// What was to be answered later is, and ends, also where such a fault follows.
func TestAFaultSparesWhatIsAnsweredLater(t *testing.T) {
	b := benchOf(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
	a, ask := b.plainAnswers(nil), questionText("practitioner-1", "chart.open", "client-1")
	later := ask[:len(ask)-1] + `,"context":{"min_revision":"facts-1"}}`
	calls := []wire.Call{{Token: []byte(testKey), Body: []byte(later)}, {Token: []byte(testKey), Body: []byte(ask)}}
	a.counted = nil
	answerAll(a, calls)
	if out := string(calls[0].Answered()); !strings.Contains(out, `"decision":true`) {
		t.Errorf("later: %q", out)
	}
	if out := calls[1].Answered(); len(out) > 0 {
		t.Errorf("now: %q", out)
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
}

// No answer without record also where many are answered together (promise P3),
// and no more at a time than there is room for.
func TestTogetherIsRecordedAndBounded(t *testing.T) {
	b := benchOf(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
	ask := questionText("practitioner-1", "chart.open", "client-1")
	b.store.refuse = errDown
	for i, out := range b.together(t, ask, ask) {
		if !strings.HasPrefix(out, "HTTP/1.1 503 ") || strings.Contains(out, "decision\"") {
			t.Errorf("answer %d without a record: %q", i, out)
		}
	}
	b.store.refuse = nil
	b.work.Checks = 2
	answered, refused := 0, 0
	for _, out := range b.together(t, ask, ask, ask, ask, ask) {
		switch {
		case strings.HasPrefix(out, "HTTP/1.1 200 "):
			answered++
		case strings.HasPrefix(out, "HTTP/1.1 503 ") && strings.Contains(out, "Retry-After: 1\r\n"):
			refused++
		default:
			t.Error(out)
		}
	}
	if answered != 2 || refused != 3 || len(b.store.taken()) != 2 {
		t.Errorf("%d answered, %d refused, with room for 2", answered, refused)
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
}

// together asks questions that were read together, and returns the answers.
func (b bench) together(t testing.TB, bodies ...string) []string {
	t.Helper()
	calls := make([]wire.Call, len(bodies))
	for i, body := range bodies {
		calls[i] = wire.Call{Token: []byte(testKey), Body: []byte(body)}
	}
	answerAll(b.plainAnswers(nil), calls)
	outs := make([]string, len(calls))
	for i := range calls {
		outs[i] = string(calls[i].Answered())
	}
	return outs
}

// compiledEngine decides by its program.
func compiledEngine(t testing.TB) *pdp.Engine {
	t.Helper()
	engine, err := theCompiledEngine()
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

var theCompiledEngine = sync.OnceValues(func() (*pdp.Engine, error) {
	b, err := pdp.ReadArchive(bundles.Default)
	if err != nil {
		return nil, err
	}
	engine, err := pdp.NewEngine(context.Background(), b, pdp.DecisionPath)
	if err != nil {
		return nil, err
	}
	policy, err := compile.Compile(context.Background(), engine.Source())
	if err != nil {
		return nil, err
	}
	engine.Attach(compile.Assemble(policy))
	return engine, nil
})

func plainRequest(body string) *fasthttp.Request {
	r := &fasthttp.Request{}
	r.Header.SetMethod("POST")
	r.SetRequestURI("/access/v1/evaluation")
	r.Header.SetContentType("application/json")
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.SetBodyString(body)
	return r
}

// The texts that are kept are those that encoding/json writes.
func TestBodiesAreWhatJSONWrites(t *testing.T) {
	var kept bodies
	rapid.Check(t, func(t *rapid.T) {
		d := authz.Decision{Allow: rapid.Bool().Draw(t, "allow"), Code: rapid.String().Draw(t, "code"),
			ReasonAdmin: rapid.String().Draw(t, "admin"), ReasonUser: rapid.String().Draw(t, "user"),
			Bases: rapid.SliceOfN(rapid.SampledFrom(append([]string{"other", `"<`}, authz.BasisOrder...)), 0, 4).Draw(t, "bases")}
		if rapid.Bool().Draw(t, "ends") {
			end := time.UnixMicro(rapid.Int64Range(0, 253402300799999999).Draw(t, "end")).UTC()
			d.ValidUntil = &end
		}
		want, err := json.Marshal(answerTo(authz.Verdict{Shown: d}))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := kept.body(&d); !bytes.Equal(got, want) {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
		}
	})
}

func TestIDsAreWrittenAsUUIDs(t *testing.T) {
	id := uuid.New()
	if got := string(appendID(nil, id)); got != id.String() {
		t.Errorf("%s is written %s", id, got)
	}
}

// warm is a fact source that has everything at hand.
type warm struct{ facts authz.Facts }

func (w warm) Facts(context.Context, authz.Request) (authz.Facts, error) { return w.facts, nil }

func (w warm) AtHand() func(*authz.Request) (authz.Facts, bool) {
	return func(*authz.Request) (authz.Facts, bool) { return w.facts, true }
}

// recording is the product's way of a decision without the network and without
// looking up its facts.
func recording(b *testing.B) bench {
	engine := compiledEngine(b)
	spool, err := record.OpenSpool(b.TempDir(), record.Options{SyncInterval: 100 * time.Millisecond, MaxBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { spool.Close() })
	facts, err := (&store{}).Facts(b.Context(), authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: "practitioner-1"},
		Resource: authz.Resource{Type: authz.ResourceClient, ID: "client-1"}})
	if err != nil {
		b.Fatal(err)
	}
	return benchWith(b, engine, web.Caller{Scopes: web.Scopes, AllPractices: true}, warm{facts}, spool)
}

// drive sends request to handler from all processors, and shows what CPU each
// of the decisions in it took.
func drive(b *testing.B, handler fasthttp.RequestHandler, request *fasthttp.Request, decisions int) {
	b.ReportAllocs()
	before := cpuTime(b)
	b.RunParallel(func(p *testing.PB) {
		own := &fasthttp.Request{}
		request.CopyTo(own)
		var ctx fasthttp.RequestCtx
		ctx.Init(own, nil, nil)
		for p.Next() {
			ctx.Response.Reset()
			handler(&ctx)
			if ctx.Response.StatusCode() != 200 {
				b.Fatalf("%s", ctx.Response.Body())
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*decisions), "cpu-ns/decision")
}

// BenchmarkPlain is a decision with its record and its answer, without the
// network: by the app, and before it, one at a time and several together.
func BenchmarkPlain(b *testing.B) {
	server := recording(b)
	question := questionText("practitioner-1", "chart.open", "client-1")
	b.Run("app", func(b *testing.B) { drive(b, server.App.Handler(), plainRequest(question), 1) })
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("together ", n), func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime(b)
			b.RunParallel(func(p *testing.PB) {
				answers, calls := server.plainAnswers(nil), make([]wire.Call, n)
				for i := range calls {
					calls[i] = wire.Call{Token: []byte(testKey), Body: []byte(question)}
				}
				for p.Next() {
					answers.Answer(calls)
					for i := range calls {
						if !strings.HasPrefix(string(calls[i].Out[:16]), "HTTP/1.1 200 ") {
							b.Fatalf("%s", calls[i].Out)
						}
						calls[i].Out = calls[i].Out[:0]
					}
				}
			})
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*n), "cpu-ns/decision")
		})
	}
}

// BenchmarkBatch is a batch of 1,000, in the plain form and in another.
func BenchmarkBatch(b *testing.B) {
	handler := recording(b).App.Handler()
	const item = `,{"resource":{"type":"client","id":"client-1"}}`
	body := `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"evaluations":[` + strings.Repeat(item, maxEvaluations)[1:] + `]`
	for name, end := range map[string]string{"ordinary": `,"other":1}`, "plain": `}`} {
		b.Run(name, func(b *testing.B) {
			request := plainRequest(body + end)
			request.SetRequestURI("/access/v1/evaluations")
			drive(b, handler, request, maxEvaluations)
		})
	}
}

// cpuTime is what this process has used of the CPU.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
