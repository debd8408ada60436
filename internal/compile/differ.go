package compile

import (
	"cmp"
	"context"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"

	"chartgate/internal/authz"
)

// ShiftKind says what becomes of an answer.
type ShiftKind string

// The kinds of changes. The first four change who may do what; the others
// change what is said beside it.
const (
	NowAllowed   ShiftKind = "allowed"       // not allowed before, allowed now, through Reason
	NowDenied    ShiftKind = "denied"        // allowed before, through Reason, not allowed now
	AnswerLost   ShiftKind = "answer_lost"   // no answer any more: a 503
	AnswerGained ShiftKind = "answer_gained" // no answer before

	BasisGained   ShiftKind = "basis_gained" // allowed before and now; Reason is one more basis
	BasisLost     ShiftKind = "basis_lost"   // allowed before and now; Reason is no basis any more
	FirstChanged  ShiftKind = "first_basis"  // allowed before and now, on the same bases; another one is named first
	DenialChanged ShiftKind = "denial"       // refused before and now, with another code
	EndGained     ShiftKind = "end_gained"   // allowed before and now; the answer ends now, with Reason
	EndLost       ShiftKind = "end_lost"     // allowed before and now; the answer ended before, with Reason
)

// Grave reports that the change is one of who may do what.
func (k ShiftKind) Grave() bool {
	return k == NowAllowed || k == NowDenied || k == AnswerLost || k == AnswerGained
}

// Shift is situations of one action in which two policies answer differently,
// all of one kind and one reason.
type Shift struct {
	Kind    ShiftKind
	Action  string
	Reason  string
	Before  string      // of FirstChanged and DenialChanged: the code before
	When    []Literal   // all of which hold
	Either  [][]Literal // and, of each of these, one
	Denied  []Condition // and these
	Count   *big.Int    // in how many ways the atoms of the action can come out so
	Where   *Formula    // the same as one formula
	Example *Example    // one of them, in which the answer turns
}

// Literal is an atom or its negation.
type Literal struct {
	Atom  *Formula
	Not   bool
	There bool // the tables that it reads are there, by what else is said
}

// Condition is that a denial of both policies applies, or does not.
type Condition struct {
	Code    string
	Applies bool
}

// Undecided is an action of which nothing is said, and why.
type Undecided struct {
	Action string
	Second bool // the second policy is at fault
	Err    error
}

// Comparison is all that two policies answer differently.
type Comparison struct {
	Changes   []Shift
	Undecided []Undecided
	Compared  int // actions
}

// Compare finds every situation of every action in which two policies answer
// differently. Both must know the same actions (see Policy.Also).
func Compare(ctx context.Context, a, b *Policy) (*Comparison, error) {
	out := &Comparison{}
	var mu sync.Mutex
	var group sync.WaitGroup
	known := &sync.Map{}
	work := make(chan string)
	for range 2 {
		group.Go(func() {
			for name := range work {
				changes, undecided := differences(ctx, known, a, b, name)
				mu.Lock()
				out.Changes = append(out.Changes, changes...)
				out.Undecided = append(out.Undecided, undecided...)
				out.Compared++
				mu.Unlock()
			}
		})
	}
	for name := range a.Actions {
		if b.Actions[name] != nil {
			work <- name
		}
	}
	close(work)
	group.Wait()
	slices.SortStableFunc(out.Changes, func(x, y Shift) int { return cmp.Compare(x.Action, y.Action) })
	slices.SortStableFunc(out.Undecided, func(x, y Undecided) int { return cmp.Compare(x.Action, y.Action) })
	return out, ctx.Err()
}

// differences is Compare for one action.
func differences(ctx context.Context, known wayCache, a, b *Policy, name string) ([]Shift, []Undecided) {
	x, y := a.Actions[name], b.Actions[name]
	for i, side := range []*Action{x, y} {
		if side.Err != nil {
			return nil, []Undecided{{Action: name, Second: i == 1, Err: side.Err}}
		}
	}
	if sameFormulas(a, b, x, y) {
		return nil, nil
	}
	var all []*Formula
	collect := func(_ string, f *Formula) { all = append(all, f) }
	x.formulas(a, collect)
	y.formulas(b, collect)
	t, err := newTheory(ctx, known, all...)
	if err != nil {
		return nil, []Undecided{{Action: name, Second: infiniteIn(b, y, err), Err: err}}
	}
	d := &differ{theory: t, action: y}
	if y.On == "" {
		d.action = x
	}
	if err := d.decide(a, b, x, y); err != nil {
		return nil, []Undecided{{Action: name, Second: true, Err: err}}
	}
	return d.changes, nil
}

func (d *differ) decide(a, b *Policy, x, y *Action) error {
	if err := within(func() { d.run(a, b, x, y) }); err != nil {
		return err
	}
	return d.failed
}

// infiniteIn reports that the atom at fault is one of the action's.
func infiniteIn(p *Policy, a *Action, err error) bool {
	in := false
	if i, ok := err.(*Infinite); ok {
		a.formulas(p, func(_ string, f *Formula) {
			f.questions(func(atom *Formula) { in = in || atom.key == i.Atom.key })
		})
	}
	return in
}

// sameFormulas reports that two actions are one to the letter.
func sameFormulas(a, b *Policy, x, y *Action) bool {
	if !slices.Equal(a.Bases, b.Bases) || !slices.Equal(a.Denials, b.Denials) || len(x.Ends) != len(y.Ends) {
		return false
	}
	write := func(p *Policy, a *Action) string {
		var out strings.Builder
		a.formulas(p, func(name string, f *Formula) { out.WriteString(name + " " + f.key + "\n") })
		return out.String()
	}
	return write(a, x) == write(b, y)
}

// differ compares one action.
type differ struct {
	*theory
	action  *Action
	failed  error // an example that could not be made
	macros  []macro
	changes []Shift
}

// macro is a condition that people know as one: a denial that is the same in
// both policies, or a choice of a few atoms that stands so in a rule.
type macro struct {
	code string    // of a denial
	kids []Literal // of a choice
	f    *Formula
	is   vertex
}

// aspects are all that makes an answer, as diagrams.
type aspects struct {
	allow, deny, none vertex
	bases             map[string]vertex // allowed, and the basis is listed
	first             map[string]vertex // allowed, and it is the code
	codes             map[string]vertex // refused with this code
	ends              map[string]vertex // allowed until the time at this place
	refusals          map[string]vertex // the denial applies, whatever else does
}

func (t *theory) aspects(p *Policy, a *Action) aspects {
	out := aspects{bases: map[string]vertex{}, first: map[string]vertex{}, codes: map[string]vertex{}, ends: map[string]vertex{}, refusals: map[string]vertex{}}
	allow := t.and(t.of(a.Allow), t.atoms)
	refuse := t.without(t.atoms, allow)
	for i, f := range a.Bases {
		holds := t.and(allow, t.of(f))
		out.bases[p.Bases[i]] = holds
		out.first[p.Bases[i]] = t.without(holds, out.allow)
		out.allow = t.or(out.allow, holds)
	}
	for i, f := range a.Refusals {
		applies := t.of(f)
		out.refusals[p.Denials[i]] = t.and(applies, t.atoms)
		out.codes[p.Denials[i]] = t.without(t.and(refuse, applies), out.deny)
		out.deny = t.or(out.deny, t.and(refuse, applies))
	}
	for _, end := range a.Ends {
		at := end.At.String()
		out.ends[at] = t.or(out.ends[at], t.and(out.allow, t.of(end.Cond)))
	}
	out.none = t.without(t.atoms, t.or(out.allow, out.deny))
	return out
}

func (d *differ) run(a, b *Policy, x, y *Action) {
	before, after := d.aspects(a, x), d.aspects(b, y)
	var denials []macro
	switch {
	case x.On == "": // the denials of the only policy that knows the action
		denials = after.named(b, y, d.atoms)
	case y.On == "":
		denials = before.named(a, x, d.atoms)
	default:
		denials = slices.DeleteFunc(after.named(b, y, d.atoms), func(m macro) bool { return before.refusals[m.code] != m.is })
	}
	d.name(denials, func(visit func(string, *Formula)) {
		x.formulas(a, visit)
		y.formulas(b, visit)
	})
	d.bases(before, after)
	d.others(before, after)
}

// named makes macros of the denials of a policy.
func (s aspects) named(p *Policy, a *Action, possible vertex) []macro {
	var out []macro
	for i, code := range p.Denials {
		if r := s.refusals[code]; r != never && r != possible {
			out = append(out, macro{code: code, f: a.Refusals[i], is: r})
		}
	}
	return out
}

// name makes macros of denials, and of the choices in formulas.
func (d *differ) name(denials []macro, formulas func(func(string, *Formula))) {
	var choices []macro
	seen := map[string]bool{}
	formulas(func(_ string, f *Formula) {
		f.choices(func(f *Formula, kids []Literal) {
			if !seen[f.key] {
				seen[f.key] = true
				choices = append(choices, macro{kids: kids, f: f, is: d.of(f)})
			}
		})
	})
	slices.SortStableFunc(denials, func(a, b macro) int { return cmp.Compare(plainness(a.code), plainness(b.code)) })
	plain := 0
	for plain < len(denials) && plainness(denials[plain].code) < 2 {
		plain++
	}
	d.macros = slices.Concat(denials[:plain], choices, denials[plain:])
}

// plainness orders denials: first those that people take for granted, then what
// is one word to them, then those that are better said by what they ask.
func plainness(code string) int {
	switch code {
	case authz.CodeBadInput:
		return 0
	case authz.CodeOtherPractice:
		return 1
	}
	return 2
}

// choices calls visit for every "or" of a few atoms in f.
func (f *Formula) choices(visit func(*Formula, []Literal)) {
	if f.Kind == KindOr && len(f.Kids) <= 3 {
		var kids []Literal
		for _, k := range f.Kids {
			a, negated := k, k.Kind == KindNot
			if negated {
				a = k.Kids[0]
			}
			if a.Kind == KindAtom || a.Kind == KindExists {
				kids = append(kids, Literal{Atom: a, Not: negated})
			}
		}
		if len(kids) == len(f.Kids) {
			visit(f, kids)
		}
	}
	if f.Kind != KindExists {
		for _, k := range f.Kids {
			k.choices(visit)
		}
	}
}

// bases tells what every basis gives that it did not give before, and what it
// gives no longer.
//
// What must be told are the situations in which the answer turns; what may be
// told are all in which the basis is new. Only so is a text both exact and
// short: "unless he is an administrator, who was allowed before" is left out,
// and that he is allowed through this basis, too, is new all the same.
func (d *differ) bases(before, after aspects) {
	both := d.and(before.allow, after.allow)
	d.turns(NowAllowed, BasisGained, after.allow, before.allow, both, after.bases, before.bases)
	d.turns(NowDenied, BasisLost, before.allow, after.allow, both, before.bases, after.bases)
	lost, gained := d.without(after.none, before.none), d.without(before.none, after.none)
	d.tell(AnswerLost, "", "", lost, lost)
	d.tell(AnswerGained, "", "", gained, gained)
}

func (d *differ) turns(grave, lesser ShiftKind, with, without, both vertex, bases, others map[string]vertex) {
	turned := d.without(with, without)
	for _, name := range slices.Sorted(maps.Keys(bases)) {
		is := d.without(bases[name], others[name])
		told := d.tell(grave, name, "", d.and(is, turned), is)
		d.tell(lesser, name, "", d.without(d.and(is, both), told), d.and(is, both))
	}
}

// others tells what is said otherwise of the same answer.
func (d *differ) others(before, after aspects) {
	denied, allowed := d.and(before.deny, after.deny), d.and(before.allow, after.allow)
	codes := func(kind ShiftKind, was, is map[string]vertex, here vertex) {
		for _, old := range slices.Sorted(maps.Keys(was)) {
			for _, new := range slices.Sorted(maps.Keys(is)) {
				if old != new {
					changed := d.and(d.and(was[old], is[new]), here)
					d.tell(kind, new, old, changed, changed)
				}
			}
		}
	}
	codes(DenialChanged, before.codes, after.codes, denied)
	same := allowed // where a basis came or went, the code follows
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(before.bases)), slices.Sorted(maps.Keys(after.bases))) {
		same = d.without(same, d.ite(before.bases[name], d.not(after.bases[name]), after.bases[name]))
	}
	codes(FirstChanged, before.first, after.first, same)
	for at, is := range after.ends {
		gained := d.and(d.without(is, before.ends[at]), allowed)
		d.tell(EndGained, at, "", gained, gained)
	}
	for at, was := range before.ends {
		lost := d.and(d.without(was, after.ends[at]), allowed)
		d.tell(EndLost, at, "", lost, lost)
	}
}
