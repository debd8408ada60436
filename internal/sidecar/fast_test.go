package sidecar

import (
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/web"

	"github.com/google/go-cmp/cmp"
)

// ordinary reads a question as every other one is read.
func ordinary(body string) (authz.Request, bool) {
	m, err := web.StrictObject([]byte(body))
	if err != nil {
		return authz.Request{}, false
	}
	q := readQuestion(m, "")
	return q.request, q.fault == nil
}

var plainQuestions = []string{
	`{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}`,
	` { "resource" : {"id":"n1","type":"note","properties":{"client":"client-1","author":"a","kind":"progress","signed":true}} , "action":{"name":"note.read"},
	   "subject":{"id":"ü","type":"user"},"context":{"purpose":"treatment"} } `,
	`{"subject":{"type":"portal_user","id":"portal-1"},"action":{"name":"portal.profile.enter"},"resource":{"type":"client","id":"c","properties":{}},"context":{"portal_profile":"c","min_revision":""}}`,
	`{"subject":{"type":"","id":""},"action":{"name":""},"resource":{"type":"","id":"","properties":{"signed":false}},"context":{}}`,
}

// oddQuestions are left to the ordinary reader, right or wrong.
var oddQuestions = []string{
	``, `{}`, `[]`, `null`, `{"subject":null}`,
	`{"subject":{"type":"user","id":"a"},"subject":{"type":"user","id":"b"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	`{"subject":{"type":"user","id":"a","id":"b"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	`{"SUBJECT":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}} x`,
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c"},}`,
	`{"subject":{"type":"user","id":"a\u0041"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	"{\"subject\":{\"type\":\"user\",\"id\":\"a\xff\"},\"action\":{\"name\":\"x\"},\"resource\":{\"type\":\"client\",\"id\":\"c\"}}",
	"{\"subject\":{\"type\":\"user\",\"id\":\"a\tb\"},\"action\":{\"name\":\"x\"},\"resource\":{\"type\":\"client\",\"id\":\"c\"}}",
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c","properties":null}}`,
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c"},"context":{"now":"2026-01-01"}}`,
	`{"subject":{"type":"user","id":"a","properties":{"x":1}},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	`{"subject":{"type":"user"},"action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c","properties":{"signed":trueish}}}`,
	`{"subject":{"type":"user","id":"a"} "action":{"name":"x"},"resource":{"type":"client","id":"c"}}`,
}

func TestFastQuestionReadsThePlainForm(t *testing.T) {
	readsThePlainForm(t, fastQuestion, agree, plainQuestions, oddQuestions)
}

// readsThePlainForm checks that read takes the plain bodies, each of which
// agrees, and leaves the odd ones to the ordinary reader.
func readsThePlainForm[T any](t *testing.T, read func(string) (T, bool), agrees func(*testing.T, string), plain, odd []string) {
	t.Helper()
	for _, body := range plain {
		if _, ok := read(body); !ok {
			t.Errorf("left to the ordinary reader: %s", body)
		}
		agrees(t, body)
	}
	for _, body := range odd {
		if r, ok := read(body); ok {
			t.Errorf("read %.300q as %+v", body, r)
		}
	}
}

// agree checks that what the fast reader reads, the ordinary one reads the same.
func agree(t *testing.T, body string) {
	t.Helper()
	fast, ok := fastQuestion(body)
	if !ok {
		return
	}
	want, fine := ordinary(body)
	if !fine {
		t.Fatalf("%q: read as %+v, and the ordinary reader refuses it", body, fast)
	}
	if diff := cmp.Diff(want.Clean(), fast.Clean()); diff != "" {
		t.Fatalf("%q: %s", body, diff)
	}
}

func FuzzFastQuestion(f *testing.F) {
	for _, body := range append(plainQuestions, oddQuestions...) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) { agree(t, body) })
}

// plainBatches are requests for several answers in the plain form.
var plainBatches = []string{
	`{"evaluations":[` + plainQuestions[0] + `,` + plainQuestions[2] + `]}`,
	`{"evaluations":[{"resource":{"id":"client-1","type":"client"}}, {"resource":{"id":"n","type":"note","properties":{"client":"client-2"}},"context":{"purpose":"payment"}} ],
	  "subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"context":{"purpose":"treatment"},"options":{"evaluations_semantic":"deny_on_first_deny"}}`,
	`{"subject":{"type":"user","id":"a"},"action":{"name":"x"},"resource":{"type":"client","id":"c","properties":{"signed":true}},"options":{},"evaluations":[{},{"action":{"name":"y"}},{"resource":{"type":"client","id":"d"}}]}`,
}

// oddBatches are left to the ordinary reader, right or wrong.
var oddBatches = []string{
	`{}`, `{"evaluations":[]}`, `{"evaluations":null}`, `{"evaluations":{}}`, `{"evaluations":[null]}`, `{"evaluations":[{}]}`, plainQuestions[0],
	`{"evaluations":[` + plainQuestions[0] + `],"evaluations":[` + plainQuestions[0] + `]}`,
	`{"evaluations":[` + plainQuestions[0] + `,]}`,
	`{"evaluations":[` + plainQuestions[0] + `],"options":{"evaluations_semantic":"all"}}`,
	`{"evaluations":[` + plainQuestions[0] + `],"options":{"other":"execute_all"}}`,
	`{"evaluations":[` + plainQuestions[0] + `],"subject":null}`,
	`{"evaluations":[` + plainQuestions[0] + `,{"subject":{"type":"user","id":"a"}}]}`,
	`{"evaluations":[` + plainQuestions[0] + `]} x`,
	`{"evaluations":[{}` + strings.Repeat(`,{}`, maxEvaluations) + `],` + plainQuestions[0][1:],
}

func TestFastBatchReadsThePlainForm(t *testing.T) {
	readsThePlainForm(t, fastBatchAgain, agreeOnBatch, plainBatches, oddBatches)
}

var usedRoom batchRoom

// fastBatchAgain is fastBatch in a room that others have used.
func fastBatchAgain(body string) (batch, bool) { return fastBatch(body, &usedRoom) }

// agreeOnBatch checks that what the fast reader reads, the ordinary one reads
// the same.
func agreeOnBatch(t *testing.T, body string) {
	t.Helper()
	fast, ok := fastBatchAgain(body)
	if !ok {
		return
	}
	m, err := web.StrictObject([]byte(body))
	if err != nil {
		t.Fatalf("%q: read as %+v, and the ordinary reader says %v", body, fast, err)
	}
	want, err := readBatch(m, "")
	if err != nil || len(want.faults) > 0 {
		t.Fatalf("%q: read as %+v, and the ordinary reader says %v, %v", body, fast, err, want.faults)
	}
	if want.semantic != fast.semantic || len(want.requests) != len(fast.requests) {
		t.Fatalf("%q: read as %+v, want %+v", body, fast, want)
	}
	for i := range want.requests {
		if diff := cmp.Diff(want.requests[i].Clean(), fast.requests[i].Clean()); diff != "" {
			t.Fatalf("%q: question %d: %s", body, i, diff)
		}
	}
}

func FuzzFastBatch(f *testing.F) {
	for _, body := range append(plainBatches, oddBatches...) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) { agreeOnBatch(t, body) })
}

func BenchmarkReadQuestion(b *testing.B) {
	body := plainQuestions[0]
	b.Run("fast", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, ok := fastQuestion(body); !ok {
				b.Fatal("not read")
			}
		}
	})
	b.Run("ordinary", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, ok := ordinary(body); !ok {
				b.Fatal("not read")
			}
		}
	})
}
