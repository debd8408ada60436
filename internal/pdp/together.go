package pdp

import (
	"context"
	"iter"
	"slices"

	"chartgate/internal/authz"
)

// Asked is a question of one of many who ask at the same time.
type Asked struct {
	Scope     Scope
	Request   authz.Request
	RequestID string
	Unshared  bool // see authz.Lookup
}

// DecideAtHand answers those of several questions, of different callers, whose
// facts and policies need no waiting, each as Decide would, into answers. The
// others get the zero verdict, which is no answer: they are to be asked by
// DecideTogether. All that are answered become durable in one group; an error
// leaves no answers.
func (p *PDP) DecideAtHand(ctx context.Context, asked []Asked, answers *Answers) error {
	answers.Reset()
	answers.Verdicts = slices.Grow(answers.Verdicts, len(asked))[:len(asked)]
	atHand := p.atHand()
	if atHand == nil || p.Engine().Program() == nil { // OPA takes its time
		return nil
	}
	arrival := authz.Arrive()
	for i := range asked {
		q, v := &asked[i], &answers.Verdicts[i]
		arrival.Begin(v, q.Request, q.RequestID)
		timed := p.lap()
		facts, ok := atHand(&v.Request)
		timed.done(PartFacts)
		set := p.releases.atHand() // after the facts, as in judge
		if ok = ok && set != nil; ok {
			err := p.judgeOn(ctx, set, q.Scope, facts, v, timed)
			ok = err == nil // by DecideTogether it is an error, and is told as one
		}
		if !ok {
			*v = authz.Verdict{}
		}
	}
	timed := p.lap()
	if err := p.record(ctx, answers); err != nil {
		return err
	}
	timed.done(PartRecord)
	return nil
}

// DecideTogether answers several questions of different callers that have all
// arrived, each as Decide would, into answers: their facts are read in one go.
// After each step it calls answered with the places of those that have their
// verdict or their error by then, which is each place once; all of a step become
// durable in one group.
func (p *PDP) DecideTogether(ctx context.Context, asked []Asked, answers *Answers, answered func(places []int)) {
	list := answers.Begin(asked)
	timed := p.lap()
	for places := range p.bring(ctx, list) {
		p.decideStep(ctx, nil, asked, places, answers, timed)
		answered(places)
		timed = p.lap()
	}
}

// Begin makes room for answers to questions that arrive now, and returns what has
// to be found out for them.
func (a *Answers) Begin(asked []Asked) []authz.Lookup {
	a.Reset()
	a.Verdicts = slices.Grow(a.Verdicts, len(asked))[:len(asked)]
	a.lookups = slices.Grow(a.lookups[:0], len(asked))[:len(asked)]
	arrival := authz.Arrive()
	for i := range asked {
		v := &a.Verdicts[i]
		arrival.Begin(v, asked[i].Request, asked[i].RequestID)
		a.lookups[i] = authz.Lookup{Request: &v.Request, Unshared: asked[i].Unshared}
	}
	return a.lookups
}

// DecideFound answers those of the questions of Answers.Begin that have their
// facts by now, which are those at places, without waiting for anything but the
// record, and reports whether it did. All of them become durable in one group.
func (p *PDP) DecideFound(ctx context.Context, asked []Asked, places []int, answers *Answers) bool {
	set := p.releases.atHand() // after the facts, as in judge
	if set == nil || p.Engine().Program() == nil {
		return false
	}
	p.decideStep(ctx, set, asked, places, answers, nil)
	return true
}

// decideStep answers those questions at places, of which it is known what is known
// of them, by set, or by the policies of the time where that is nil.
func (p *PDP) decideStep(ctx context.Context, set *Policies, asked []Asked, places []int, answers *Answers, timed *lap) {
	decided := answers.decided[:0]
	for _, i := range places {
		v, found := &answers.Verdicts[i], &answers.lookups[i]
		if _, err := p.judge(ctx, set, asked[i].Scope, found.Facts, found.Err, v, timed); err != nil {
			answers.fail(i, err)
			continue
		}
		decided, timed = append(decided, *v), nil
	}
	p.recordDecided(ctx, decided, places, answers)
	clear(decided) // nothing of them is held on to
	answers.decided = decided
}

// recordDecided makes a step's verdicts durable, or fails them.
func (p *PDP) recordDecided(ctx context.Context, decided []authz.Verdict, places []int, answers *Answers) {
	if len(decided) == 0 {
		return
	}
	timed := p.lap()
	err := p.recorder.Record(ctx, decided...)
	if err == nil {
		timed.done(PartRecord)
		return
	}
	for _, i := range places {
		if answers.Errs[i] == nil {
			answers.Verdicts[i] = authz.Verdict{}
			answers.fail(i, err)
		}
	}
}

// atHand returns what looks facts up without waiting, nil where that is not to be had.
func (p *PDP) atHand() func(*authz.Request) (authz.Facts, bool) {
	if source, ok := p.facts.(AtHand); ok {
		return source.AtHand()
	}
	return nil
}

// bring finds the facts of many questions, by a source that cannot one by one.
func (p *PDP) bring(ctx context.Context, list []authz.Lookup) iter.Seq[[]int] {
	if source, ok := p.facts.(Together); ok {
		return source.Together(ctx, list)
	}
	return func(yield func([]int) bool) {
		for i := range list {
			list[i].Facts, list[i].Err = p.facts.Facts(ctx, *list[i].Request)
			if !yield([]int{i}) {
				return
			}
		}
	}
}

// ahead finds the facts of questions in order. Where those of one have to be
// read, it reads those of the next ones too.
type ahead struct {
	p        *PDP
	ctx      context.Context
	requests []authz.Request
	atHand   func(*authz.Request) (authz.Facts, bool)
	brought  map[int]*authz.Lookup
}

// farAhead is how many questions have their facts read together. A batch that
// stops early has asked for so many in vain.
const farAhead = 64

func (p *PDP) lookAhead(ctx context.Context, requests []authz.Request) *ahead {
	return &ahead{p: p, ctx: ctx, requests: requests, atHand: p.atHand(), brought: map[int]*authz.Lookup{}}
}

// facts returns what is known for r, which is question i.
func (a *ahead) facts(i int, r *authz.Request) (authz.Facts, error) {
	if l := a.brought[i]; l != nil {
		return l.Facts, l.Err
	}
	if a.atHand != nil {
		if f, ok := a.atHand(r); ok {
			return f, nil
		}
	}
	list, places := []authz.Lookup{{Request: r}}, []int{i}
	for j := i + 1; j < len(a.requests) && len(list) < farAhead; j++ {
		if a.brought[j] != nil {
			continue
		}
		next := a.requests[j].Clean()
		if a.atHand != nil {
			if _, ok := a.atHand(&next); ok {
				continue
			}
		}
		list, places = append(list, authz.Lookup{Request: &next}), append(places, j)
	}
	for range a.p.bring(a.ctx, list) {
	}
	for n, j := range places {
		a.brought[j] = &list[n]
	}
	a.atHand = a.p.atHand() // that took its time
	return list[0].Facts, list[0].Err
}
