package compile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Where a policy on Chartgate's facts says what a decision is put together of.
const (
	allowRule    = "data.authz.allow"
	basesRule    = "data.authz.bases"
	refusalsRule = "data.authz._refusals" // every code that a refusal may carry
	endRule      = "data.authz._end"      // {} or {"valid_until": a time}
)

// The queries for them, each of which binds x.
var queries = map[string]string{
	allowRule:    allowRule + " = x",
	basesRule:    basesRule + "[x]",
	refusalsRule: refusalsRule + "[x]",
	endRule:      endRule + " = x",
}

// Policy is the formulas of a policy, for every action that it names.
type Policy struct {
	Actions map[string]*Action
	Bases   []string // from the most specific to the least (tables/order)
	Denials []string // from the first to look at to the last
	reasons map[string]reason
}

// Action is what decides one action: formulas, or why there are none.
type Action struct {
	Name     string
	On       string // the type of resource that it is asked on
	Allow    *Formula
	Bases    []*Formula // by the place of the basis in Policy.Bases
	Refusals []*Formula // by the place of the code in Policy.Denials
	Ends     []End      // until when an answer holds; where none fits: without end
	Err      error      // why OPA has to answer; an *Untranslatable
}

// End says that an answer holds until the time at a place, where Cond holds.
type End struct {
	Cond *Formula
	At   Operand
}

type reason struct{ admin, user string }

// maxBases is how many bases fit a Verdict.
const maxBases = 16

// Compile turns a policy into formulas. An action that cannot be translated
// carries its error; the error returned is one that spoils them all.
func Compile(ctx context.Context, source Source) (*Policy, error) {
	p, err := begin(ctx, source)
	if err != nil {
		return nil, err
	}
	work := make(chan *Action)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for a := range work {
				a.Err = a.compile(ctx, source, p)
			}
		})
	}
	for _, a := range p.Actions {
		work <- a
	}
	close(work)
	group.Wait()
	return p, ctx.Err()
}

// Only is Compile for one action; the policy has none where there is no such
// action.
func Only(ctx context.Context, source Source, action string) (*Policy, error) {
	p, err := begin(ctx, source)
	if err != nil {
		return nil, err
	}
	a := p.Actions[action]
	clear(p.Actions)
	if a != nil {
		p.Actions[action] = a
		a.Err = a.compile(ctx, source, p)
	}
	return p, ctx.Err()
}

// begin is a policy whose actions are still to be compiled.
func begin(ctx context.Context, source Source) (*Policy, error) {
	p := &Policy{Actions: map[string]*Action{}}
	for rule := range queries {
		if len(source.Compiler.GetRulesExact(ast.MustParseRef(rule))) == 0 {
			return nil, &Untranslatable{Rule: rule, What: "there is no such rule",
				Hint: "only a policy with the entry point of the shipped one is compiled"}
		}
	}
	return p, p.readTables(ctx, source)
}

// compile fills in the formulas of one action.
func (a *Action) compile(ctx context.Context, source Source, p *Policy) error {
	outcomes := map[string][]element{}
	for rule, query := range queries {
		left, err := partial(ctx, source, a.Name, query, roots)
		if err != nil {
			return err
		}
		if outcomes[rule], err = convert(ctx, left, formOf); err != nil {
			return err
		}
	}
	a.Allow = no
	for _, o := range outcomes[allowRule] {
		if o.key.value != nil && o.key.value.Compare(ast.Boolean(true)) == 0 {
			a.Allow = o.cond
		}
	}
	a.Bases = inOrder(p.Bases, outcomes[basesRule])
	a.Refusals = inOrder(p.Denials, outcomes[refusalsRule])
	for _, o := range outcomes[endRule] {
		end, found := o.key.fields["valid_until"]
		switch {
		case o.key.value != nil && len(elements(o.key.value)) == 0:
		case found && len(o.key.fields) == 1 && end.at != nil && end.at.Loop == 0 && shape[end.at.Path].form == formTime:
			a.Ends = append(a.Ends, End{Cond: o.cond, At: *end.at})
		default:
			return &Untranslatable{Rule: endRule, What: `its value is neither {} nor {"valid_until": a time of the facts}`}
		}
	}
	return nil
}

func inOrder(names []string, outcomes []element) []*Formula {
	out := make([]*Formula, len(names))
	for i := range out {
		out[i] = no
	}
	for _, o := range outcomes {
		if name, ok := o.key.value.(ast.String); ok {
			if i := slices.Index(names, string(name)); i >= 0 {
				out[i] = o.cond
			}
		}
	}
	return out
}

// formulas calls visit for each formula of the action, with its name.
func (a *Action) formulas(p *Policy, visit func(name string, f *Formula)) {
	visit("allow", a.Allow)
	for i, f := range a.Bases {
		visit("basis "+p.Bases[i], f)
	}
	for i, f := range a.Refusals {
		visit("refusal "+p.Denials[i], f)
	}
	for _, end := range a.Ends {
		visit("end "+end.At.String(), end.Cond)
	}
}

// readTables reads the actions, the orders and the sentences.
func (p *Policy) readTables(ctx context.Context, source Source) error {
	var actions map[string]struct {
		On string `json:"on"`
	}
	var order struct {
		Bases   []string `json:"bases"`
		Denials []string `json:"denials"`
	}
	var reasons map[string]struct {
		Admin *string `json:"admin"`
		User  *string `json:"user"`
	}
	for name, into := range map[string]any{"actions": &actions, "order": &order, "reasons": &reasons} {
		v, err := storage.ReadOne(ctx, source.Store, storage.Path{"tables", name})
		if err != nil {
			return fmt.Errorf("compile: data.tables.%s: %w", name, err)
		}
		value, err := ast.InterfaceToValue(v)
		if err == nil {
			err = ast.As(value, into)
		}
		if err != nil {
			return fmt.Errorf("compile: data.tables.%s: %w", name, err)
		}
	}
	if len(order.Bases) > maxBases {
		return errors.New("compile: data.tables.order.bases: there are too many")
	}
	p.Bases, p.Denials = order.Bases, order.Denials
	p.reasons = map[string]reason{}
	for code, r := range reasons {
		if r.Admin != nil && r.User != nil {
			p.reasons[code] = reason{*r.Admin, *r.User}
		}
	}
	for name, action := range actions {
		p.Actions[name] = &Action{Name: name, On: action.On}
	}
	return nil
}
