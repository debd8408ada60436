package sidecar

import (
	"encoding/json"
	"fmt"
	"maps"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// maxEvaluations is how many questions one call may ask.
const maxEvaluations = 1000

// Semantics of a batch (AuthZEN 7.1.2): when to stop.
const (
	executeAll          = "execute_all"
	denyOnFirstDeny     = "deny_on_first_deny"
	permitOnFirstPermit = "permit_on_first_permit"
)

// batch is a request with several questions.
type batch struct {
	requests []authz.Request
	faults   map[int]*authz.Problem // of those that could not be read whole
	inputs   []map[string]any       // as they came, for a user's own bundle; nil of one with a fault
	semantic string
}

// readBatch reads the questions of an evaluations request. Whatever is wrong
// with the whole of it is an error; what is wrong with one item is that item's
// fault (AuthZEN 7.2.1). The top level's entities are defaults: an item that
// names one replaces it as a whole (AuthZEN 7.1.1).
func readBatch(body map[string]any, minRevision string) (batch, error) {
	b := batch{semantic: executeAll}
	r := reader{}
	for _, name := range entities {
		r.object(body, "", name)
	}
	options := r.object(body, "", "options")
	items := r.list(body, "evaluations")
	if r.fault != nil {
		return b, r.fault
	}
	if err := b.readSemantic(options); err != nil {
		return b, err
	}
	if len(items) > maxEvaluations {
		return b, web.Malformed(fmt.Sprintf("evaluations has %d items, at most %d are taken", len(items), maxEvaluations),
			"/evaluations", "has too many items")
	}
	b.requests, b.inputs, b.faults = make([]authz.Request, len(items)), make([]map[string]any, len(items)), map[int]*authz.Problem{}
	for i, item := range items {
		b.put(i, readItem(item, body, minRevision))
	}
	return b, nil
}

// put takes question i. One with a fault is asked as far as it could be read,
// so that its denial is on record; a user's own bundle gets no half questions,
// since nobody knows what it would answer to them. See write.
func (b *batch) put(i int, q question) {
	b.requests[i] = q.request
	if q.fault == nil {
		b.inputs[i] = q.input
		return
	}
	b.faults[i] = q.fault
	// Nothing may be allowed on half a question.
	b.requests[i].Subject, b.requests[i].Context.MinRevision = authz.Subject{}, ""
}

var entities = []string{"subject", "action", "resource", "context"}

func (r *reader) list(m map[string]any, name string) []any {
	switch v := m[name].(type) {
	case nil:
	case []any:
		return v
	default:
		r.wrong("/"+name, "must be an array")
	}
	return nil
}

func (b *batch) readSemantic(options map[string]any) error {
	v, sent := options["evaluations_semantic"]
	if !sent {
		return nil
	}
	if name, ok := v.(string); ok && knownSemantic(name) {
		b.semantic = name
		return nil
	}
	return web.Malformed("options.evaluations_semantic must be one of "+executeAll+", "+denyOnFirstDeny+" and "+permitOnFirstPermit,
		"/options/evaluations_semantic", "is not one of the three")
}

func knownSemantic(name string) bool {
	return name == executeAll || name == denyOnFirstDeny || name == permitOnFirstPermit
}

func readItem(item any, defaults map[string]any, minRevision string) question {
	members, ok := item.(map[string]any)
	if !ok {
		return question{fault: web.Malformed("an evaluation must be an object", "", "")}
	}
	whole := maps.Clone(members)
	for _, name := range entities {
		if _, own := whole[name]; !own && defaults[name] != nil {
			whole[name] = defaults[name]
		}
	}
	return readQuestion(whole, minRevision)
}

// stops reports whether nothing after this answer is to be decided.
func (b *batch) stops(v *authz.Verdict, err error) bool {
	allow := err == nil && v.Shown.Allow
	switch b.semantic {
	case denyOnFirstDeny:
		return !allow
	case permitOnFirstPermit:
		return allow
	}
	return false
}

// write writes the answer, its items in the order of the questions. Where a
// semantic stopped the batch it ends with the item that did.
func (b *batch) write(r *fasthttp.Response, answers *pdp.Answers, texts *bodies) error {
	r.AppendBodyString(`{"evaluations":[`)
	for i := range answers.Verdicts {
		if i > 0 {
			r.AppendBodyString(",")
		}
		v := &answers.Verdicts[i]
		text, failed := b.failure(i, answers.Errs[i])
		switch {
		case failed:
		case v.Input == nil:
			text = texts.body(&v.Shown)
		default:
			var err error
			if text, err = json.Marshal(ownAnswer(*v)); err != nil {
				r.ResetBody()
				return err
			}
		}
		r.AppendBody(text)
	}
	r.AppendBodyString(`]}`)
	r.Header.SetContentType(fiber.MIMEApplicationJSON)
	return nil
}

// failure is the item of a question that has no answer.
func (b *batch) failure(i int, why error) ([]byte, bool) {
	if fault := b.faults[i]; why == nil && fault != nil {
		why = fault
	}
	if why == nil {
		return nil, false
	}
	text, _ := json.Marshal(answer{Context: itemContext{Error: itemFailure(why)}}) // a number and a text: that cannot fail
	return text, true
}
