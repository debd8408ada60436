package sidecar

import (
	"fmt"
	"maps"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
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
	questions []question
	semantic  string
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
	b.questions = make([]question, len(items))
	for i, item := range items {
		b.questions[i] = readItem(item, body, minRevision)
	}
	return b, nil
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
	switch v {
	case executeAll, denyOnFirstDeny, permitOnFirstPermit:
		b.semantic = v.(string)
		return nil
	}
	return web.Malformed("options.evaluations_semantic must be one of "+executeAll+", "+denyOnFirstDeny+" and "+permitOnFirstPermit,
		"/options/evaluations_semantic", "is not one of the three")
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

// requests are the questions as the PDP takes them. One with a fault is asked
// as far as it could be read, so that its denial is on record; see answers.
func (b *batch) requests() []authz.Request {
	out := make([]authz.Request, len(b.questions))
	for i, q := range b.questions {
		if out[i] = q.request; q.fault != nil {
			// Nothing may be allowed on half a question.
			out[i].Subject, out[i].Context.MinRevision = authz.Subject{}, ""
		}
	}
	return out
}

// stops reports whether nothing after this answer is to be decided.
func (b *batch) stops(a pdp.Answer) bool {
	allow := a.Err == nil && a.Verdict.Shown.Allow
	switch b.semantic {
	case denyOnFirstDeny:
		return !allow
	case permitOnFirstPermit:
		return allow
	}
	return false
}

// inputs are the questions as a user's own bundle takes them. It gets no half
// questions (nil), since nobody knows what it would answer to them.
func (b *batch) inputs() []map[string]any {
	out := make([]map[string]any, len(b.questions))
	for i, q := range b.questions {
		if q.fault == nil {
			out[i] = q.input
		}
	}
	return out
}

// answers are the items of the answer, in the order of the questions. Where a
// semantic stopped the batch it ends with the item that did.
func (b *batch) answers(answers []pdp.Answer) []answer {
	out := make([]answer, len(answers))
	for i, a := range answers {
		fault := b.questions[i].fault
		switch {
		case a.Err != nil:
			out[i] = answer{Context: itemContext{Error: itemFailure(a.Err)}}
		case fault != nil:
			out[i] = answer{Context: itemContext{Error: itemFailure(fault)}}
		default:
			out[i] = answerTo(a.Verdict)
		}
	}
	return out
}
