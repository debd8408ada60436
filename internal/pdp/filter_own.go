package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	opacompile "github.com/open-policy-agent/opa/v1/rego/compile"
)

// Target is a language that a filter is written in, and its dialect, such as
// sql and postgresql.
type Target struct{ Name, Dialect string }

// OwnQuestion asks for a document of a user's own bundle as filters: OPA's
// compile API.
type OwnQuestion struct {
	Path            string   // as queryOf of the sidecar writes it: data["filters"]["include"]
	Input           any      // what is known; nil for nothing
	Unknowns        []string // such as "input.client"; none: those of the rule's METADATA
	MaskRule        string   // a path under data, or a rule of the same package; "": that of the METADATA
	Mappings        map[string]any
	DisableInlining []string
	Targets         []Target
}

// OwnFilter is the filter for one target. Query is nil where no row can fit.
type OwnFilter struct {
	Query any
	Masks map[string]any
}

// FilterOwn turns a document of a user's own bundle into filters, by OPA's own
// translator, and puts that on record. What the translator would get wrong about
// NULL is refused (see nullFaults); every refusal that the policy is the cause
// of is an *Unfilterable.
func (p *PDP) FilterOwn(ctx context.Context, q OwnQuestion, requestID string) (map[Target]OwnFilter, authz.Verdict, error) {
	engine := p.Engine()
	v := authz.NewVerdict(askedBy(q.Input), engine.Revision(), requestID)
	asked, err := json.Marshal(q)
	if err != nil {
		return nil, v, fmt.Errorf("%w: %w", authz.ErrMalformed, err)
	}
	v.Input = asked
	v.Exact = authz.Decision{Code: authz.CodeListed, Bases: []string{}}
	v.Shown = v.Exact
	filters, err := engine.filters(ctx, q)
	if err != nil {
		return nil, v, err
	}
	if err := p.recorder.Record(ctx, v); err != nil {
		return nil, v, err
	}
	return filters, v, nil
}

// filters makes the filters of a document.
func (e *Engine) filters(ctx context.Context, q OwnQuestion) (map[Target]OwnFilter, error) {
	ref, err := ast.ParseRef(q.Path)
	if err != nil {
		return nil, unreadable("path", err)
	}
	rules := e.compiler.GetRulesExact(ref)
	if len(rules) == 0 {
		return nil, unreadable("path", fmt.Errorf("the bundle has no rule %s", ref))
	}
	hints, err := e.hintsOf(rules[0])
	if err != nil {
		return nil, err
	}
	unknowns, err := unknownsOf(q.Unknowns, hints)
	if err != nil {
		return nil, err
	}
	mask := hints.mask
	if q.MaskRule != "" {
		if mask, err = maskRef(q.MaskRule, rules[0]); err != nil {
			return nil, err
		}
	}
	var input ast.Value
	if q.Input != nil {
		if input, err = ast.InterfaceToValue(q.Input); err != nil {
			return nil, unreadable("input", err)
		}
	}
	query := queryFor(ref, rules)
	options := []func(*rego.Rego){rego.Compiler(e.compiler), rego.Store(e.store), rego.DisableInlining(q.DisableInlining)}
	if err := e.checkNulls(ctx, query, input, unknowns, hints.notNull, options); err != nil {
		return nil, err
	}
	arguments := []opacompile.CompileOption{opacompile.ParsedUnknowns(unknowns...), opacompile.ParsedQuery(query),
		opacompile.Mappings(q.Mappings), opacompile.Rego(options...)}
	if mask != nil {
		arguments = append(arguments, opacompile.MaskRule(mask))
	}
	for _, t := range q.Targets {
		arguments = append(arguments, opacompile.Target(t.Name, t.Dialect))
	}
	prepared, err := opacompile.New(arguments...).Prepare(ctx)
	if err != nil {
		return nil, filterFailure(err)
	}
	made, err := prepared.Compile(ctx, rego.EvalParsedInput(input))
	if err != nil {
		return nil, filterFailure(err)
	}
	out := map[Target]OwnFilter{}
	for _, t := range q.Targets {
		f := made.For(t.Name, t.Dialect)
		out[t] = OwnFilter{f.Query, f.Masks}
	}
	return out, nil
}

// queryFor asks for the document; of a rule that is false by default, for it to
// be true, so that OPA need not translate the default.
func queryFor(ref ast.Ref, rules []*ast.Rule) ast.Body {
	byDefault, flags := false, true
	for _, r := range rules {
		if r.Default {
			byDefault = r.Head.Value.Value.Compare(ast.Boolean(false)) == 0
		} else if r.Head.Value == nil || r.Head.Value.Value.Compare(ast.Boolean(true)) != 0 {
			flags = false
		}
	}
	if byDefault && flags {
		return ast.NewBody(ast.Equality.Expr(ast.NewTerm(ref), ast.BooleanTerm(true)))
	}
	return ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))
}

// filterFailure sorts what OPA says: what the policy or the request is the
// cause of, and what failed.
func filterFailure(err error) error {
	var faults ast.Errors
	switch {
	case errors.As(err, &faults):
		u := &Unfilterable{}
		for _, f := range faults {
			fault := Fault{Code: f.Code, Message: f.Message}
			if f.Location != nil {
				fault.Location = &Location{File: f.Location.File, Row: f.Location.Row, Col: f.Location.Col}
			}
			u.Faults = append(u.Faults, fault)
		}
		return u
	case errors.Is(err, opacompile.ErrInvalidMappings):
		return unreadable("options.targetSQLTableMappings", err)
	}
	return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
}

func unreadable(what string, err error) error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: what + ": " + err.Error()}
}
