package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/record"
	"chartgate/internal/web"

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

// by sends a request to handler and returns what came of it; what is new each
// time is left out.
func (b bench) by(handler fasthttp.RequestHandler, request *fasthttp.Request) way {
	before := b.counted()
	var ctx fasthttp.RequestCtx
	copied := fasthttp.AcquireRequest()
	request.CopyTo(copied)
	ctx.Init(copied, nil, nil)
	handler(&ctx)
	w := way{Status: ctx.Response.StatusCode(), Body: string(ctx.Response.Body()), Recorded: b.store.taken(), Asked: b.store.asked}
	b.store.asked = nil
	ctx.Response.Header.VisitAll(func(name, value []byte) {
		text := string(value)
		if string(name) == HeaderDecisionID {
			text = fmt.Sprint(len(w.Recorded) == 1 && text == w.Recorded[0].ID.String())
		}
		if _, err := uuid.Parse(text); err == nil && string(name) == "X-Request-Id" {
			text = "made" // where the caller's own cannot be taken
		}
		w.Header += string(name) + ": " + text + "\n"
	})
	for name, n := range b.counted() {
		if n != before[name] {
			w.Counted += fmt.Sprintf("%s %d\n", name, n-before[name])
		}
	}
	return w
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

// The short way and the ordinary one give the same answer to every request, and
// leave the same behind.
func TestTheShortcutAnswersAsTheOrdinaryWay(t *testing.T) {
	for name, caller := range map[string]web.Caller{
		"all practices": {Scopes: web.Scopes, AllPractices: true},
		"one practice":  {Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}},
		"may not ask":   {Scopes: []string{web.ScopeRecords}, AllPractices: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := benchOf(t, shippedEngine(t), caller)
			b.store.down = func(r authz.Request) error {
				switch r.Subject.ID {
				case "down":
					return errDown
				case "panics":
					panic("the fact source is broken")
				}
				return nil
			}
			ordinary, short := b.App.Handler(), b.App.Server().Handler
			rapid.Check(t, func(rt *rapid.T) {
				request := requests(rt)
				want, got := b.by(ordinary, request), b.by(short, request)
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(authz.Verdict{}, "ID", "At"), cmp.AllowUnexported(authz.Settings{})); diff != "" {
					rt.Fatalf("the ordinary way, and the short one:\n%s", diff)
				}
			})
		})
	}
}

// Plain questions take the short way, and nothing else does: else the property
// above says nothing.
func TestPlainQuestionsTakeTheShortcut(t *testing.T) {
	b := shipped(t)
	ordinary := b.App.Server().Handler
	took := 0
	b.App.Server().Handler = func(*fasthttp.RequestCtx) { took++ }
	b.routeShortcut(web.Options{}, b.callers)
	short := b.App.Server().Handler
	b.App.Server().Handler = ordinary
	for _, list := range []struct {
		bodies []string
		want   int
	}{{plainQuestions, 0}, {oddQuestions, len(oddQuestions)}} {
		took = 0
		for _, body := range list.bodies {
			b.by(short, plainRequest(body))
		}
		if took != list.want {
			t.Errorf("%d of %d took the ordinary way, want %d", took, len(list.bodies), list.want)
		}
	}
}

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

// recording is the product's way of a decision without the network and without
// looking up its facts.
func recording(b *testing.B) bench {
	engine := shippedEngine(b)
	policy, err := compile.Compile(b.Context(), engine.Source())
	if err != nil {
		b.Fatal(err)
	}
	engine.Attach(compile.Assemble(policy))
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

// BenchmarkShortcut is a decision by the shortcut, with its record.
func BenchmarkShortcut(b *testing.B) {
	server := recording(b)
	for name, handler := range map[string]fasthttp.RequestHandler{"ordinary": server.App.Handler(), "short": server.App.Server().Handler} {
		b.Run(name, func(b *testing.B) {
			drive(b, handler, plainRequest(questionText("practitioner-1", "chart.open", "client-1")), 1)
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
