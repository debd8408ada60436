package sidecar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/web"
	"chartgate/internal/wire"
)

// scripted is a line that finds what a store knows of some clients, when it is heard.
type scripted struct {
	store *store
	finds func(*authz.Request) bool
	full  bool // it takes nothing more
	asked []func()
	names []string // of the subjects that it was asked about
	ended bool
}

func (l *scripted) Ask(list []authz.Lookup, came func(places []int)) bool {
	if l.full {
		return false
	}
	for i := range list {
		l.names = append(l.names, list[i].Request.Subject.ID)
	}
	l.asked = append(l.asked, func() {
		var places []int
		for i := range list {
			one := &list[i]
			if one.Unshared = !l.finds(one.Request); one.Unshared {
				continue
			}
			one.Facts, one.Err = l.store.Facts(context.Background(), *one.Request)
			places = append(places, i)
		}
		came(places)
	})
	return true
}

func (l *scripted) Heard() {
	asked := l.asked
	l.asked = nil
	for _, reply := range asked {
		reply()
	}
}

func (l *scripted) Close() { l.ended = true }

// touchy is a recorder that panics over some verdicts, once for each.
type touchy struct {
	*store
	seen map[string]bool
}

func (r touchy) Record(ctx context.Context, verdicts ...authz.Verdict) error {
	for i := range verdicts {
		if id := verdicts[i].RequestID; strings.HasPrefix(id, "panics") && !r.seen[id] {
			r.seen[id] = true
			panic("the recorder is broken")
		}
	}
	return r.store.Record(ctx, verdicts...)
}

// lined is a sidecar of which memory holds nothing, and what answers its plain
// questions by a line.
func lined(t *testing.T) (b bench, l *scripted, a *plainAnswers) {
	t.Helper()
	source := &store{}
	b = benchWith(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, unready{source}, touchy{source, map[string]bool{}})
	b.store = source
	l = &scripted{store: source, finds: func(*authz.Request) bool { return true }}
	b.line = func(wire.Attend) Line { return l }
	return b, l, b.plainAnswers(nil)
}

func plainCall(id, question string) wire.Call {
	return wire.Call{Token: []byte(testKey), RequestID: []byte(id), Body: []byte(question)}
}

// What is found on the line is answered as any other way would answer it, once; so
// is what is not found, and what somebody panics over.
func TestWhatComesOnTheLineIsAnswered(t *testing.T) {
	b, l, a := lined(t)
	l.finds = func(r *authz.Request) bool { return r.Resource.ID != "client-2" }
	var calls []wire.Call
	var questions []string
	for i := range 3 * mostTogether {
		id := fmt.Sprint("r-", i)
		if i%50 == 7 {
			id = fmt.Sprint("panics-", i)
		}
		question := questionText([]string{"practitioner-1", "admin-1", "nobody"}[i%3], []string{"chart.open", "demographics.write"}[i/3%2], []string{"client-1", "client-2", "client-4", "client-9"}[i%4])
		if i%10 == 3 {
			question = strings.TrimSuffix(question, "}") + `,"context":{"min_revision":"facts-1"}}`
		}
		questions, calls = append(questions, question), append(calls, plainCall(id, question))
	}
	answerAll(a, calls)
	if n := len(l.names); n == 0 || n >= len(calls) {
		t.Errorf("the line was asked about %d of %d", n, len(calls))
	}
	if rest := a.Heard(); rest != nil {
		go rest()
	}
	for i := range calls {
		out := string(calls[i].Answered())
		want := b.do(t, "POST", "/access/v1/evaluation", questions[i])
		if !strings.HasPrefix(out, "HTTP/1.1 200 ") || !strings.HasSuffix(out, "\r\n\r\n"+want.body) || !strings.Contains(out, fmt.Sprintf(": %s\r\n", calls[i].RequestID)) {
			t.Errorf("%s\n%s\nwant %s", questions[i], out, want.body)
		}
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
	times := map[string]int{}
	for _, v := range b.store.taken() {
		times[v.RequestID]++
	}
	for i := range calls {
		if id := string(calls[i].RequestID); times[id] != 1 {
			t.Errorf("%s is %d times on record", id, times[id])
		}
	}
	if a.Close(); !l.ended {
		t.Error("the line is open still")
	}
}

// A question with a min_revision may be in memory after all; and where OPA decides,
// or the line is full, nothing is asked on it. All are answered.
func TestWhatIsNotForTheLine(t *testing.T) {
	for name, change := range map[string]func(*bench, *scripted) string{
		"a revision": func(*bench, *scripted) string {
			return strings.TrimSuffix(questionText("practitioner-1", "chart.open", "client-1"), "}") + `,"context":{"min_revision":"facts-1"}}`
		},
		"OPA": func(b *bench, l *scripted) string {
			own := benchWith(t, shippedEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, unready{b.store}, b.store)
			own.line, own.store = b.line, b.store
			*b = own
			return questionText("practitioner-1", "chart.open", "client-1")
		},
		"a full line": func(_ *bench, l *scripted) string {
			l.full = true
			return questionText("practitioner-1", "chart.open", "client-1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, l, _ := lined(t)
			question := change(&b, l)
			a := b.plainAnswers(nil)
			calls := []wire.Call{plainCall("r-1", question)}
			answerAll(a, calls)
			if out := string(calls[0].Answered()); !strings.Contains(out, `"decision":true`) || len(l.names) != 0 {
				t.Errorf("%s; asked about %q", out, l.names)
			}
		})
	}
}

// What is found and cannot be recorded is no answer.
func TestWhatComesOnTheLineIsOnRecordOrRefused(t *testing.T) {
	b, _, a := lined(t)
	b.store.refuse = errors.Join(authz.ErrUnavailable, errors.New("the disk is full"))
	calls := []wire.Call{plainCall("r-1", questionText("practitioner-1", "chart.open", "client-1"))}
	answerAll(a, calls)
	a.Heard()
	if out := string(calls[0].Answered()); !strings.HasPrefix(out, "HTTP/1.1 503 ") || strings.Contains(out, "decision") {
		t.Error(out)
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
}
