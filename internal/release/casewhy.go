package release

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Why is one case looked into: what was known, what came out, the rules that
// held, and what keeps the nearest rule from holding.
type Why struct {
	Case   Case
	Result Result
	Held   []*ast.Rule // of rules/, in the order of files
	Miss   *Miss       // of a refusal: the nearest rule of a basis, or why a denial holds

	sentences []string        // why, in the words of the rules
	settings  map[string]bool // that some rule reads
}

// Miss is a rule that does not hold.
type Miss struct {
	Rule  *ast.Rule
	Fails []Condition
	Of    int // conditions that it has
}

// Condition is one that stands in the way: it does not hold, or it is one of a
// denial and holds.
type Condition struct {
	At    *ast.Location
	Text  string
	Holds bool
	Facts []string  // those that it reads, with their values
	Miss  *Miss     // what the rule misses that it asks for, where it asks for one
	By    *ast.Rule // the rule that holds and should not, where it asks that one does not
}

// FindCases returns the cases that somebody names: by number (the first is 1),
// or by words, each of which is a file, a file and line, or a part of what is
// asked.
func FindCases(cases []Case, which string) []Case {
	if n, err := strconv.Atoi(which); err == nil {
		if n < 1 || n > len(cases) {
			return nil
		}
		return cases[n-1 : n]
	}
	var found []Case
	for _, c := range cases {
		place := fmt.Sprintf("%s:%d", path.Base(c.File), c.Line)
		if !slices.ContainsFunc(strings.Fields(which), func(word string) bool {
			base := path.Base(strings.TrimSuffix(word, ":"))
			return base != place && base != path.Base(c.File) && !strings.Contains(c.Title, word)
		}) {
			found = append(found, c)
		}
	}
	return found
}

// ExplainCase looks into a case. The policies must compile.
func ExplainCase(ctx context.Context, policies fs.FS, c Case) (*Why, error) {
	bundle, err := pdp.ReadFolder(policies)
	if err != nil {
		return nil, err
	}
	engine, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath)
	if err != nil {
		return nil, err
	}
	w := &Why{Case: c, Result: c.run(ctx, engine)}
	input, err := ast.InterfaceToValue(c.Document)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	q := &questioner{ctx: ctx, bundle: bundle, engine: engine, input: input}
	w.settings = q.settings()
	if said, err := engine.ExplainDocument(ctx, c.Document); err == nil { // without a decision there is nothing to say
		w.sentences = said.Sentences(nil)
	}
	if w.Held, err = q.held(); err != nil {
		return nil, err
	}
	if w.Result.Err != nil || w.Result.Got.Allow {
		return w, nil
	}
	w.Miss = q.refusal(w.Result.Got.Code)
	return w, q.err
}

// questioner asks the conditions of rules one by one.
type questioner struct {
	ctx    context.Context
	bundle *pdp.Bundle
	engine *pdp.Engine
	input  ast.Value
	err    error
	depth  int
}

// heldTracer remembers the rules that held while OPA evaluated.
type heldTracer map[*ast.Rule]bool

// Enabled is part of topdown.QueryTracer.
func (heldTracer) Enabled() bool { return true }

// Config is part of topdown.QueryTracer.
func (heldTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is part of topdown.QueryTracer.
func (h heldTracer) TraceEvent(event topdown.Event) {
	if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.ExitOp {
		h[rule] = true
	}
}

func (q *questioner) held() ([]*ast.Rule, error) {
	source := q.engine.Source()
	held := heldTracer{}
	_, err := rego.New(rego.Query(pdp.DecisionPath), rego.Compiler(source.Compiler), rego.Store(source.Store), rego.ParsedInput(q.input),
		rego.QueryTracer(held), rego.SetRegoVersion(ast.RegoV1)).Eval(q.ctx)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	rules := slices.DeleteFunc(slices.Collect(maps.Keys(held)), func(r *ast.Rule) bool {
		return !strings.HasPrefix(r.Ref().String(), "data.rules.") || len(r.Head.Args) > 0
	})
	slices.SortFunc(rules, func(a, b *ast.Rule) int { return a.Location.Compare(b.Location) })
	return rules, nil
}

// settings lists those that some rule reads.
func (q *questioner) settings() map[string]bool {
	read := map[string]bool{}
	for _, module := range q.bundle.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if name, ok := strings.CutPrefix(ref.String(), "input.settings."); ok {
				read[name] = true
			}
			return false
		})
	}
	return read
}

// refusal finds what is nearest to an allowance: of a denial, the good case that
// it misses; else the rule of a basis that misses least.
func (q *questioner) refusal(code string) *Miss {
	var best *Miss
	for _, rule := range q.rules("data.authz.bases", "data.authz.denials") {
		key, _ := rule.Head.Key.Value.(ast.String)
		denial := strings.HasPrefix(rule.Ref().String(), "data.authz.denials")
		if denial && string(key) != code {
			continue
		}
		for _, name := range refersTo(rule) {
			for _, clause := range q.rules(name) {
				m := q.miss(clause)
				if denial {
					m.Rule = clause
					m.Fails = append(m.Fails, q.holding(clause)...)
					return m
				}
				if len(m.Fails) > 0 && (best == nil || nearer(m, best)) {
					best = m
				}
			}
		}
	}
	return best
}

// nearer reports that fewer conditions of a fail; a rule that is not about the
// action at all is far.
func nearer(a, b *Miss) bool {
	if x, y := a.aboutAction(), b.aboutAction(); x != y {
		return x
	}
	if len(a.Fails) != len(b.Fails) {
		return len(a.Fails) < len(b.Fails)
	}
	return a.Of > b.Of
}

func (m *Miss) aboutAction() bool {
	return !slices.ContainsFunc(m.Fails, func(c Condition) bool { return strings.Contains(c.Text, "input.action.name") })
}

// rules returns the rules of these names, as they are written.
func (q *questioner) rules(names ...string) []*ast.Rule {
	var all []*ast.Rule
	for _, file := range slices.Sorted(maps.Keys(q.bundle.Modules)) {
		for _, rule := range q.bundle.Modules[file].Rules {
			if slices.Contains(names, rule.Ref().GroundPrefix().String()) ||
				rule.Head.RuleKind() == ast.MultiValue && slices.Contains(names, rule.Module.Package.Path.String()+"."+rule.Head.Name.String()) {
				all = append(all, rule)
			}
		}
	}
	return all
}

// refersTo lists the rules that a rule refers to.
func refersTo(rule *ast.Rule) []string {
	var names []string
	imported := importsOf(rule.Module)
	ast.WalkRefs(rule.Body, func(ref ast.Ref) bool {
		if full := imported.expand(ref); full.HasPrefix(ast.DefaultRootRef) {
			names = append(names, full.String())
		}
		return false
	})
	return names
}

// maxDepth bounds how far a condition is followed into the rules that it asks
// for.
const maxDepth = 6

// miss asks each condition of a rule.
func (q *questioner) miss(rule *ast.Rule) *Miss {
	m := &Miss{Rule: rule, Of: len(rule.Body)}
	if len(rule.Head.Args) > 0 {
		return m
	}
	var before ast.Body // what held: it gives names their values
	for _, e := range rule.Body {
		with := append(slices.Clone(before), e)
		if q.holds(rule.Module, with) {
			before = with
			continue
		}
		m.Fails = append(m.Fails, q.condition(rule, e))
	}
	return m
}

// holding is the conditions of a denial that make it hold, each that negates
// with what the good case misses.
func (q *questioner) holding(rule *ast.Rule) []Condition {
	var out []Condition
	for _, e := range rule.Body {
		if e.Negated && q.holds(rule.Module, ast.NewBody(e)) {
			c := Condition{At: e.Location, Text: string(e.Location.Text), Holds: true, Facts: q.facts(e)}
			positive := e.Copy()
			positive.Negated = false
			c.Miss = q.asked(rule, positive)
			out = append(out, c)
		}
	}
	return out
}

func (q *questioner) condition(rule *ast.Rule, e *ast.Expr) Condition {
	c := Condition{At: e.Location, Text: string(e.Location.Text), Facts: q.facts(e)}
	if e.Negated {
		positive := e.Copy()
		positive.Negated = false
		for _, r := range q.ruleAsked(rule, positive) {
			if len(q.miss(r).Fails) == 0 {
				c.By = r
			}
		}
		return c
	}
	c.Miss = q.asked(rule, e)
	return c
}

// ruleAsked is the rules that a condition asks for, where it is no more than
// that.
func (q *questioner) ruleAsked(rule *ast.Rule, e *ast.Expr) []*ast.Rule {
	term, ok := e.Terms.(*ast.Term)
	if !ok {
		return nil
	}
	switch v := term.Value.(type) {
	case ast.Var:
		return q.rules(rule.Module.Package.Path.String() + "." + string(v))
	case ast.Ref:
		return q.rules(importsOf(rule.Module).expand(v).String())
	}
	return nil
}

// asked is what the nearest of the rules misses that a condition asks for.
func (q *questioner) asked(rule *ast.Rule, e *ast.Expr) *Miss {
	if q.depth >= maxDepth {
		return nil
	}
	q.depth++
	defer func() { q.depth-- }()
	var best *Miss
	for _, r := range q.ruleAsked(rule, e) {
		if m := q.miss(r); len(m.Fails) > 0 && (best == nil || nearer(m, best)) {
			best = m
		}
	}
	return best
}

// holds asks whether conditions hold together, as they stand in a module.
func (q *questioner) holds(module *ast.Module, body ast.Body) bool {
	source := q.engine.Source()
	var imports []*ast.Import
	for _, i := range module.Imports { // an import that the conditions do not use would be refused
		used := false
		ast.WalkVars(body, func(v ast.Var) bool { used = used || v == i.Name(); return false })
		if used {
			imports = append(imports, i)
		}
	}
	results, err := rego.New(rego.ParsedQuery(body.Copy()), rego.ParsedPackage(module.Package), rego.ParsedImports(imports),
		rego.Compiler(source.Compiler), rego.Store(source.Store), rego.ParsedInput(q.input), rego.SetRegoVersion(ast.RegoV1)).Eval(q.ctx)
	if err != nil {
		q.err = fmt.Errorf("explain: %s: %w", body, err)
		return false
	}
	return slices.ContainsFunc(results, func(r rego.Result) bool { // a query gives what its conditions are, also false
		return !slices.ContainsFunc(r.Expressions, func(e *rego.ExpressionValue) bool { return e.Value == false })
	})
}

// facts lists the facts that an expression reads, with their values.
func (q *questioner) facts(e *ast.Expr) []string {
	var out []string
	ast.WalkRefs(e, func(ref ast.Ref) bool {
		if !ref[0].Equal(ast.InputRootDocument) {
			return false
		}
		ground := ref.GroundPrefix()
		text := fmt.Sprintf("%s is not known", ground)
		if v, err := q.input.Find(ground[1:]); err == nil {
			text = fmt.Sprintf("%s is %s", ground, v)
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
		return false
	})
	return out
}

// Write writes everything for people to read.
func (w *Why) Write(out io.Writer) {
	c := w.Case
	fmt.Fprintf(out, "%s:%d: %s\n\nknown:\n", c.File, c.Line, c.Title)
	for _, table := range []string{"subject", "member", "action", "resource", "client", "grant", "portal", "context", "settings"} {
		members := asMap(c.Document[table])
		if members == nil {
			fmt.Fprintf(out, "  %-9s none\n", table)
			continue
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if table == "settings" && !w.settings[name] {
				continue
			}
			parts = append(parts, name+" "+short(members[name]))
		}
		fmt.Fprintf(out, "  %-9s %s\n", table, strings.Join(parts, ", "))
	}
	if w.Result.Err != nil {
		fmt.Fprintf(out, "\nno decision: %v\n", w.Result.Err)
		return
	}
	fmt.Fprintf(out, "\ndecided: %s\nwanted:  %s\n", expected(w.Result.Got), c.Want)
	for _, sentence := range w.sentences {
		fmt.Fprintf(out, "         %s\n", sentence)
	}
	fmt.Fprintln(out, "\nrules that held:")
	for _, rule := range w.Held {
		fmt.Fprintf(out, "  %s\n", label(rule))
	}
	if len(w.Held) == 0 {
		fmt.Fprintln(out, "  none")
	}
	if w.Miss != nil {
		fmt.Fprintln(out, "\nnearest to an allowance:")
		w.Miss.write(out, "  ")
	}
}

func (m *Miss) write(out io.Writer, indent string) {
	fmt.Fprintf(out, "%s%s\n", indent, label(m.Rule))
	for _, c := range m.Fails {
		state := "fails"
		if c.Holds {
			state = "holds"
		}
		fmt.Fprintf(out, "%s  %s: %s  (line %d)\n", indent, state, c.Text, c.At.Row)
		for _, fact := range c.Facts {
			fmt.Fprintf(out, "%s    %s\n", indent, fact)
		}
		if c.By != nil {
			fmt.Fprintf(out, "%s    since this holds: %s\n", indent, label(c.By))
		}
		if c.Miss != nil {
			c.Miss.write(out, indent+"    ")
		}
	}
}

// label names a rule with its place.
func label(rule *ast.Rule) string {
	place := strings.TrimPrefix(fmt.Sprintf("%s:%d", rule.Location.File, rule.Location.Row), "/")
	if a := ownAnnotation(rule); a != nil {
		return fmt.Sprintf("%s  %s (%v)", place, a.Title, a.Custom["id"])
	}
	return fmt.Sprintf("%s  %s", place, rule.Ref())
}
