package compile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Report is the evidence that a program and OPA are one policy.
type Report struct {
	Actions    int            // certified
	Products   int            // parts whose whole product was tried
	Points     int            // compared, of all kinds
	Assemblies int            // ways to put a decision together that were met, each compared
	Fuzz       int            // compared points that were drawn knowing no formula
	Impossible map[string]int // points that cannot be, by what proves it
	Dropped    int            // points that were neither compared nor proved impossible
	Elapsed    time.Duration

	Uncertified   map[string]error // actions that OPA keeps, and why
	Disagreements []Disagreement   // at most maxDisagreements
}

// Disagreement is a point at which the program and OPA differ.
type Disagreement struct {
	Action   string
	What     string
	Document map[string]any
}

const maxDisagreements = 10

// Certified reports that the program may be used.
func (r *Report) Certified() bool {
	return r.Points > 0 && r.Dropped == 0 && len(r.Disagreements) == 0
}

func (r *Report) String() string {
	n := 0
	for _, k := range r.Impossible {
		n += k
	}
	return fmt.Sprintf("%d actions, %d points (%d parts whole, %d ways to put a decision together, %d random), %d impossible, dropped: %d, %d disagreements, %d actions left to OPA, %v",
		r.Actions, r.Points, r.Products, r.Assemblies, r.Fuzz, n, r.Dropped, len(r.Disagreements), len(r.Uncertified), r.Elapsed.Round(time.Millisecond))
}

// Evaluate is OPA's whole decision: Engine.Evaluate of pdp.
type Evaluate func(context.Context, authz.Request, authz.Facts) (authz.Decision, error)

// Certify compares a program with OPA on the abstract fact space, and takes out
// of the program the actions that cannot be certified.
//
// Every basis and every refusal is compared on the whole product of the classes
// of what it reads; the places that it does not read are varied beside, by
// OPA's account of what the policy reads. How a decision is put together of
// these parts is compared on every combination of them that is met, after it
// was proved that OPA puts it together of nothing else (checkAssembly). Points
// drawn without any knowledge of the formulas run beside.
//
// No relation between facts is taken for granted (that a grant has a client,
// that a member is of the client's practice): the space is larger than what
// loaders can produce.
func Certify(ctx context.Context, source Source, program *Program, decision string, evaluate Evaluate) (*Report, error) {
	began := time.Now()
	c := &certifier{program: program, evaluate: evaluate, report: &Report{Impossible: map[string]int{}, Uncertified: map[string]error{}}}
	var err error
	if c.parts, err = rego.New(rego.Query(partsQuery), rego.Compiler(source.Compiler), rego.Store(source.Store),
		rego.SetRegoVersion(ast.RegoV1)).PrepareForEval(ctx); err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	refs, err := dependencies.Base(source.Compiler, ast.MustParseRef(decision))
	if err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	if err := c.plan(source, decision, placesRead(refs)); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	c.report.Elapsed = time.Since(began)
	return c.report, nil
}

const partsQuery = "allow = " + allowRule + "; bases = " + basesRule + "; refusals = " + refusalsRule + "; end = " + endRule

type certifier struct {
	program  *Program
	evaluate Evaluate
	parts    rego.PreparedEvalQuery
	jobs     []job

	mu     sync.Mutex
	report *Report
}

// job is a point at which to compare.
type job struct {
	action string
	p      point
	whole  bool // the whole decision too
}

// plan lists the points.
func (c *certifier) plan(source Source, decision string, read []string) error {
	s, err := c.space(read)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2)) // the same points each time
	c.settings(read)
	done, tried := map[string]bool{}, map[string]bool{}
	assemblies := map[string]bool{}
	splits := map[string]parts{}
	reads := map[string]bool{}
	for name := range c.program.actions {
		splits[name] = partsOf(c.program.Policy.Actions[name], c.program.Policy)
		maps.Copy(reads, splits[name].reads)
	}
	if err := checkAssembly(source, decision, reads); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.program.actions)) {
		a, split := c.program.Policy.Actions[name], splits[name]
		var products []job
		for _, p := range split.own {
			if done[p.name+p.f.key] {
				continue
			}
			points, err := product(p.f, tried, rng)
			if err != nil {
				c.leave(name, &Untranslatable{Rule: name + ": " + p.name, What: "its points cannot be listed: " + err.Error()})
				break
			}
			done[p.name+p.f.key] = true
			c.report.Products++
			for _, q := range points {
				s.fill(q, usualFor(a), rng)
				products = append(products, job{action: name, p: q})
			}
		}
		if c.program.actions[name] == nil {
			continue
		}
		c.report.Actions++
		c.jobs = append(c.jobs, products...)
		c.assemble(a, s, reads, assemblies, rng)
	}
	c.report.Assemblies = len(assemblies)
	c.fuzz(s, rng)
	return nil
}

// leave takes an action out of the program.
func (c *certifier) leave(name string, err error) {
	c.report.Uncertified[name] = err
	delete(c.program.actions, name)
	c.program.Policy.Actions[name].Err = err
}

// settings proves that no setting can be missing, or be what the catalogue does
// not allow: authz.NewSettings makes the only ones there are.
func (c *certifier) settings(read []string) {
	for _, path := range read {
		if setting, ok := settingOf(path); ok {
			odd := []any{absent, unknownWord, []any{unknownWord}, 1.5, map[string]any{}}
			if setting.Always != "" {
				odd = append(odd, []string{})
			}
			for _, v := range odd {
				if _, err := concrete("", point{"settings": "present", path: v, "member": absent, "client": absent,
					"grant": absent, "portal": absent, propertiesPath: absent}); err != nil {
					c.lost(err)
				} else {
					c.disagree("", path+" can be made odd", nil)
				}
			}
		}
	}
}

// space describes all places that the policy reads. An action whose values
// cannot be listed is left to OPA.
func (c *certifier) space(read []string) (*space, error) {
	constants := map[string]*group{}
	for _, name := range slices.Sorted(maps.Keys(c.program.actions)) {
		groups, err := c.groups(c.program.Policy.Actions[name])
		if err != nil {
			c.leave(name, &Untranslatable{Rule: name, What: "its points cannot be listed: " + err.Error()})
			continue
		}
		for _, g := range groups {
			for _, path := range g.paths {
				if constants[path] == nil {
					constants[path] = &group{paths: []string{path}}
				}
				constants[path].constants = append(constants[path].constants, g.constants...)
			}
		}
	}
	s := &space{paths: read, domains: map[string]domain{}}
	for _, path := range read {
		g := constants[path]
		if g == nil {
			g = &group{paths: []string{path}}
		}
		d, err := g.whole(path)
		if err != nil {
			return nil, err
		}
		s.domains[path] = d
	}
	return s, nil
}

// groups returns the groups of an action's formulas, all of which can be listed.
func (c *certifier) groups(a *Action) ([]*group, error) {
	var all []*group
	var failed error
	a.formulas(c.program.Policy, func(_ string, f *Formula) {
		groups, err := groupsOf(f)
		for _, g := range groups {
			for _, path := range g.paths {
				if _, known := formOf(path); known && err == nil {
					_, err = g.whole(path)
				}
			}
		}
		if err != nil {
			failed = err
		}
		all = append(all, groups...)
	})
	return all, failed
}

// whole lists values of every class that a place can have for any formula.
func (g *group) whole(path string) (domain, error) {
	switch shape[path].form {
	case formTime:
		marks, err := g.marks()
		if err != nil {
			return nil, err
		}
		d := domain{}
		if isClock(path) {
			d = append(d, absent)
		}
		for _, slot := range slotsOf(marks, 3) {
			if !slot.at.IsZero() || !isClock(path) {
				d = append(d, slot.at)
			}
		}
		return d, nil
	case formTexts:
		return g.lists(path)
	}
	d := domainOf(path, g.constants)
	if f := shape[path].form; (f == formText || f == formAny) && tableOf(path) != "settings" {
		for _, id := range ids {
			d = append(d, id)
		}
	}
	return d, nil
}

// assemble adds points of each combination of parts that was not met before,
// and some for the action itself, in which every class of every place occurs.
func (c *certifier) assemble(a *Action, s *space, reads, met map[string]bool, rng *rand.Rand) {
	usual := usualFor(a)
	for i := range draws {
		p := point{}
		if i < sweeps { // stratified: the i-th class of every place
			path := s.paths[i%len(s.paths)]
			d := s.domains[path]
			p[path] = d[(i/len(s.paths))%len(d)]
			if t := tableOf(path); t != "" && p[path] != absent {
				p[t] = "present"
			}
		}
		s.fill(p, usual, rng)
		one, err := concrete(a.Name, p)
		if err != nil {
			c.lost(err)
			continue
		}
		key := c.signature(a.Name, one, reads)
		if i < perAction || !met[key] {
			c.jobs = append(c.jobs, job{action: a.Name, p: p, whole: true})
		}
		met[key] = true
	}
}

// How many points are drawn for an action, how many of them vary one place
// after another, and how many are compared even if they show nothing new.
const (
	draws     = 300
	sweeps    = 150
	perAction = 12
)

// signature is how the parts of a decision come out at a point.
func (c *certifier) signature(action string, s *subject, reads map[string]bool) string {
	r := c.program.actions[action]
	fr := frame{request: &s.request, facts: &s.facts}
	v := r.parts(&fr)
	key := fmt.Sprint(v.Bases, v.refusals)
	for _, path := range slices.Sorted(maps.Keys(reads)) {
		got := inDocument(s.document, path)
		key += fmt.Sprint(" ", path, got.sort, got.text == authz.FormatTime(authz.NoEnd))
	}
	return key
}

// lost counts a point that could not be made concrete.
func (c *certifier) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var i impossible
	if errors.As(err, &i) {
		c.report.Impossible[i.proof]++
		return
	}
	c.report.Dropped++
	c.disagree("", "a point was lost: "+err.Error(), nil)
}

func (c *certifier) disagree(action, what string, document map[string]any) {
	if len(c.report.Disagreements) < maxDisagreements {
		c.report.Disagreements = append(c.report.Disagreements, Disagreement{action, what, document})
	}
}

// run compares at every point, two at a time.
func (c *certifier) run(ctx context.Context) error {
	work := make(chan job)
	failures := make(chan error, 2)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for j := range work {
				if err := c.compare(ctx, j); err != nil {
					select {
					case failures <- err:
					default:
					}
				}
			}
		})
	}
	for _, j := range c.jobs {
		if ctx.Err() != nil {
			break
		}
		work <- j
	}
	close(work)
	group.Wait()
	select {
	case err := <-failures:
		return fmt.Errorf("certify: %w", err)
	default:
		return ctx.Err()
	}
}

func (c *certifier) compare(ctx context.Context, j job) error {
	s, err := concrete(j.action, j.p)
	if err != nil {
		c.lost(err)
		return nil
	}
	what, err := c.differs(ctx, j, s)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Points++
	if what != "" {
		c.disagree(j.action, what, s.document)
	}
	return nil
}

// differs says how the program and OPA differ at a point; "" if they do not.
func (c *certifier) differs(ctx context.Context, j job, s *subject) (string, error) {
	input, err := ast.InterfaceToValue(s.document)
	if err != nil {
		return "", err
	}
	results, err := c.parts.Eval(ctx, rego.EvalParsedInput(input))
	if err != nil || len(results) != 1 {
		return fmt.Sprintf("OPA gives no parts: %v", err), nil
	}
	fr := frame{request: &s.request, facts: &s.facts}
	mine := c.program.actions[j.action].parts(&fr)
	theirs := c.program.Policy.read(results[0].Bindings)
	if !reflect.DeepEqual(mine, theirs) {
		return fmt.Sprintf("program %+v, OPA %+v", mine, theirs), nil
	}
	if !j.whole {
		return "", nil
	}
	want, err := c.evaluate(ctx, s.request, s.facts)
	if err != nil {
		return "OPA gives no decision: " + err.Error(), nil
	}
	got, ok := c.program.Evaluate(&s.request, &s.facts)
	if !ok {
		return "the program leaves it to OPA", nil
	}
	if !Same(got, want) {
		return fmt.Sprintf("program %+v, OPA %+v", got, want), nil
	}
	return "", nil
}

// Same reports whether two decisions are equal, to the last sentence.
func Same(a, b authz.Decision) bool {
	if (a.ValidUntil == nil) != (b.ValidUntil == nil) || (a.ValidUntil != nil && !a.ValidUntil.Equal(*b.ValidUntil)) {
		return false
	}
	return a.Allow == b.Allow && a.Code == b.Code && slices.Equal(a.Bases, b.Bases) &&
		a.ReasonAdmin == b.ReasonAdmin && a.ReasonUser == b.ReasonUser
}
