package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
	core "chartgate/policies/properties"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Proof is what became of one property of a policy.
type Proof struct {
	ID          string               `json:"id"`
	Title       string               `json:"title"`
	Description string               `json:"description"`
	Kind        compile.PropertyKind `json:"kind"`
	Of          string               `json:"of,omitempty"`
	File        string               `json:"file"`
	Line        int                  `json:"line"`
	Core        bool                 `json:"core"`   // the product's own: no policy can be without it
	Proved      bool                 `json:"proved"` // for all situations
	Refuted     []Counterexample     `json:"refuted"`
	Undecided   []Open               `json:"undecided"`

	rule string
}

// Counterexample is a situation in which a property does not hold; OPA was asked.
type Counterexample struct {
	Actions  []string       `json:"actions"`
	When     []string       `json:"when"`
	Document map[string]any `json:"document"` // of the first action
	Answer   string         `json:"answer"`
	Without  string         `json:"without,omitempty"` // of a property of two situations: what is taken away in the other
	Other    string         `json:"other,omitempty"`   // the answer there
}

// String says the example in plain English.
func (c Counterexample) String() string {
	s := fmt.Sprintf("%s: %s, when: %s", strings.Join(c.Actions, ", "), c.Answer, strings.Join(c.When, ", "))
	if c.Without != "" {
		s += fmt.Sprintf("; without %s: %s", c.Without, c.Other)
	}
	return s
}

// coreFile is where the product's own properties stand in a folder of policies.
const coreFile = pdp.PropertiesFolder + "core.rego"

// Prove proves every property of a policy for all situations, or finds one in
// which it does not hold: those in properties/ beside it, and, whatever stands
// there, the product's own (DOMAIN 3.2, "not settable"). The error says that the
// policy or its properties do not compile, or are not such as can be proved.
func Prove(ctx context.Context, b *pdp.Bundle) ([]Proof, error) {
	modules, err := propertyModules(b)
	if err != nil {
		return nil, fmt.Errorf("properties: %w", err)
	}
	proofs, err := propertiesOf(modules)
	if err != nil {
		return nil, fmt.Errorf("properties: %w", err)
	}
	whole := *b
	whole.Modules = maps.Clone(b.Modules)
	maps.Copy(whole.Modules, modules)
	s, err := newSide(ctx, "policy", &whole)
	if err != nil {
		return nil, fmt.Errorf("properties: %w", err)
	}
	loose := s.assembly(ctx)
	if err := s.policy.Also(ctx, s.engine.Source(), append(spoken(&whole), freshAction)...); err != nil {
		return nil, err
	}
	properties := make([]compile.Property, len(proofs))
	for i, p := range proofs {
		properties[i] = compile.Property{Rule: p.rule, Kind: p.Kind, Of: p.Of}
	}
	findings, err := s.policy.Prove(ctx, s.engine.Source(), properties)
	if err != nil {
		return nil, err
	}
	for i := range proofs {
		p := &proofs[i]
		p.Undecided = append(p.Undecided, loose...)
		for _, u := range findings[i].Undecided {
			p.Undecided = addOpen(p.Undecided, s.open(u))
		}
		for _, r := range findings[i].Refuted {
			c, err := s.counterexample(ctx, p, r)
			if err != nil {
				return nil, err
			}
			p.refute(c)
		}
		p.Proved = len(p.Refuted)+len(p.Undecided) == 0
	}
	return proofs, nil
}

// properties is the step of a check that proves them.
func (in *inspection) properties(ctx context.Context) ([]Finding, string, error) {
	proofs, err := Prove(ctx, in.bundle)
	var faults ast.Errors
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case errors.As(err, &faults):
		var all []Finding
		for _, fault := range faults {
			all = append(all, in.at(fault.Location, fault.Message, ""))
		}
		return firstOfEach(all), "", nil
	case err != nil:
		return []Finding{{File: strings.TrimSuffix(pdp.PropertiesFolder, "/"), Text: err.Error()}}, "", nil
	}
	var all []Finding
	for _, p := range proofs {
		add := func(text, hint string) {
			f := in.onLine(p.File, p.Line, 0, text, hint)
			f.Rule = p.ID
			all = append(all, f)
		}
		for _, c := range p.Refuted {
			add(p.Title+": this does not hold. "+c.String(), "change the rules that allow it")
		}
		for _, o := range p.Undecided {
			add(p.Title+": it cannot be said whether this holds. "+o.String(), "compare with ==, in, and times with <, so that it can be proved")
		}
	}
	return all, fmt.Sprintf("%d proved for all situations", len(proofs)), nil
}

// refute adds a counterexample, or its action to one like it.
func (p *Proof) refute(c Counterexample) {
	for i := range p.Refuted {
		if o := &p.Refuted[i]; slices.Equal(o.When, c.When) && o.Answer == c.Answer && o.Without == c.Without && o.Other == c.Other {
			o.Actions = append(o.Actions, c.Actions...)
			return
		}
	}
	p.Refuted = append(p.Refuted, c)
}

// propertyModules returns the modules of properties, the product's own among
// them. None can be in another's place, and no rule of the policy among them.
func propertyModules(b *pdp.Bundle) (map[string]*ast.Module, error) {
	own, err := ast.ParseModuleWithOpts(coreFile, string(core.Core), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	root := ast.MustParseRef("data.properties")
	for name, m := range b.Modules {
		if m.Package.Path.HasPrefix(root) {
			return nil, fmt.Errorf("%s: package %s is for properties, which stand in %s", name, strings.TrimPrefix(m.Package.Path.String(), "data."), pdp.PropertiesFolder)
		}
	}
	if _, taken := b.Data["properties"]; taken {
		return nil, errors.New("data.properties is for properties, not for tables")
	}
	out := map[string]*ast.Module{coreFile: own}
	for name, m := range b.Properties {
		switch {
		case name == coreFile:
			continue // the product's is proved in its stead
		case !m.Package.Path.HasPrefix(root):
			return nil, fmt.Errorf("%s: want a package such as properties.mine, not %s", name, strings.TrimPrefix(m.Package.Path.String(), "data."))
		case m.Package.Path.HasPrefix(own.Package.Path):
			return nil, fmt.Errorf("%s: package properties.core is the product's own", name)
		}
		out[name] = m
	}
	return out, nil
}

// propertiesOf lists the rules that are properties: those with custom.kind.
func propertiesOf(modules map[string]*ast.Module) ([]Proof, error) {
	var all []Proof
	names := slices.Sorted(maps.Keys(modules))
	taken := map[string]string{}
	for _, name := range names {
		before := len(all)
		for _, rule := range modules[name].Rules {
			p, is, err := propertyOf(name, rule)
			if err != nil {
				return nil, err
			}
			if !is || slices.ContainsFunc(all, func(q Proof) bool { return q.rule == p.rule && q.ID == p.ID }) {
				continue
			}
			if taken[p.ID] != "" {
				return nil, fmt.Errorf("%s:%d: id %s is taken by %s", name, p.Line, p.ID, taken[p.ID])
			}
			taken[p.ID] = fmt.Sprintf("%s:%d", name, p.Line)
			all = append(all, p)
		}
		if len(all) == before {
			return nil, fmt.Errorf("%s: no rule in it is a property: METADATA with custom.kind says which are", name)
		}
	}
	return all, nil
}

func propertyOf(file string, rule *ast.Rule) (p Proof, is bool, err error) {
	fault := func(text string) error { return fmt.Errorf("%s:%d: %s", file, rule.Loc().Row, text) }
	for _, a := range rule.Annotations {
		kind, stated := a.Custom["kind"]
		if !stated {
			continue
		}
		id, _ := a.Custom["id"].(string)
		word, _ := kind.(string)
		of, _ := a.Custom["of"].(string)
		p = Proof{ID: id, Title: a.Title, Description: a.Description, Kind: compile.PropertyKind(word), Of: of,
			File: file, Line: rule.Loc().Row, Core: file == coreFile, Refuted: []Counterexample{}, Undecided: []Open{}, rule: rule.Ref().GroundPrefix().String()}
		p.rule = rule.Module.Package.Path.Extend(rule.Head.Ref()).String()
		switch {
		case id == "" || a.Title == "":
			return p, false, fault("a property needs a title and custom.id")
		case p.Kind != compile.Never && p.Kind != compile.GivesNothing && p.Kind != compile.TakesNothing:
			return p, false, fault(fmt.Sprintf("custom.kind %q: want %s, %s or %s", word, compile.Never, compile.GivesNothing, compile.TakesNothing))
		case (p.Kind == compile.Never) != (of == ""):
			return p, false, fault("custom.of goes with gives_nothing and takes_nothing, and names a table of the facts or a list, such as grant or member.roles")
		case len(rule.Head.Args) > 0 || rule.Head.RuleKind() == ast.MultiValue:
			return p, false, fault("a property is a rule that is true or not")
		}
		return p, true, nil
	}
	return p, false, nil
}

// counterexample asks OPA whether the property is broken where the formulas say
// so. If it is not, the property is undecided, and the compiler is at fault.
func (s *side) counterexample(ctx context.Context, p *Proof, r compile.Refutation) (Counterexample, error) {
	document := r.Example.Document()
	c := Counterexample{Actions: []string{r.Action}, When: phrases(r.When), Document: document, Without: r.Without}
	if r.Action == freshAction {
		c.Actions[0] = "an action that nobody names"
	}
	broken, _, err := s.engine.Query(ctx, p.rule, document)
	if err != nil {
		return c, err
	}
	answer := func(document map[string]any) (string, bool) {
		d, err := s.engine.EvaluateDocument(ctx, document)
		if err != nil {
			return "without an answer", false
		}
		return answered(d), d.Allow
	}
	var with, without bool
	c.Answer, with = answer(document)
	confirmed := broken == true
	if p.Kind != compile.Never {
		c.Other, without = answer(less(r.Example, p.Of, r.Without))
		confirmed = confirmed && with == (p.Kind == compile.GivesNothing) && without == (p.Kind == compile.TakesNothing)
	}
	if !confirmed && ctx.Err() == nil {
		p.Undecided = append(p.Undecided, Open{Actions: []string{r.Action}, Which: s.which, File: p.File, Line: p.Line, Why: "OPA does not confirm the example: " + c.String()})
	}
	return c, ctx.Err()
}

// less is the document of an example without a table, or without a word of a list.
func less(e *compile.Example, of, without string) map[string]any {
	document := authz.Document(e.Request, e.Facts)
	table, name, isList := strings.Cut(of, ".")
	if of == "resource.properties" {
		delete(document["resource"].(map[string]any), "properties")
		return document
	}
	if !isList {
		delete(document, of)
		return document
	}
	if member, ok := document[table].(map[string]any); ok {
		if list, ok := member[name].([]any); ok {
			member[name] = slices.DeleteFunc(slices.Clone(list), func(word any) bool {
				return strings.HasPrefix(without, fmt.Sprintf("%q in ", word))
			})
		}
	}
	return document
}
