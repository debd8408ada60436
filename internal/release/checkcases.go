package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// caseWords are the words that a case file is written in.
var caseWords = []string{"title", "cases", "matrix", "now", "practices", "members", "clients", "grants", "portal", "notes", "documents",
	"form_templates", "preset", "settings", "features", "practice", "roles", "status", "owner", "full_clinical_access", "billing_enabled",
	"assigned", "user", "client", "scope", "from", "until", "login", "contact", "relationship", "enabled", "permissions", "rule", "who",
	"does", "to", "in", "with", "when", "at", "but", "without", "answer", "because", "columns", "marks", "tables", "basis", "rows", "id", "type", "properties"}

var placed = regexp.MustCompile(`^(cases/[^:]+)(?::(\d+))?: (?s)(.*)$`)

// runCases asks the engine every case. Cases that fail in the same way are one
// finding: they have one cause.
func (in *inspection) runCases(ctx context.Context) ([]Finding, string, error) {
	var err error
	if in.cases, err = ReadCases(in.policies); err != nil {
		return []Finding{in.caseFault(err)}, "", nil
	}
	groups := map[string][]Result{}
	var order []string
	for _, c := range in.cases {
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		r := c.run(ctx, in.engine)
		if r.OK() {
			continue
		}
		key := fmt.Sprint(c.Want.Allow, c.Want.Code, c.Want.ValidUntil == "", r.Got.Allow, r.Got.Code, r.Err != nil)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], r)
	}
	var all []Finding
	failed := 0
	for _, key := range order {
		first := groups[key][0]
		failed += len(groups[key])
		where, text, _ := strings.Cut(first.Fault(), ": ")
		file, line, _ := strings.Cut(where, ":")
		number, _ := strconv.Atoi(line)
		if more := len(groups[key]) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more cases differ in the same way)", more)
		}
		all = append(all, in.onLine(file, number, 0, text,
			fmt.Sprintf("`chartgate policy explain %s` shows the facts, and which condition fails", where)))
	}
	detail := fmt.Sprintf("%d cases", len(in.cases))
	if failed > 0 {
		detail += fmt.Sprintf(", %d fail", failed)
	}
	return all, detail, nil
}

// caseFault says what keeps the cases from being read.
func (in *inspection) caseFault(err error) Finding {
	m := placed.FindStringSubmatch(err.Error())
	if m == nil {
		text, hint := yamlText(err.Error())
		return Finding{File: "cases", Text: text, Hint: hint}
	}
	line, _ := strconv.Atoi(m[2])
	said := m[3]
	if inner := yamlLine.FindStringSubmatch(said); inner != nil && line == 0 {
		line, _ = strconv.Atoi(inner[1])
	}
	text, hint := said, ""
	if strings.Contains(said, "yaml: ") || yamlLine.MatchString(said) {
		text, hint = yamlText(said[max(0, strings.Index(said, "yaml: ")):])
	}
	return in.onLine(m[1], line, 0, text, hint)
}

// testTimeout is how long one Rego test may take.
const testTimeout = 5 * time.Second

// tests runs the Rego tests that stand beside the rules.
func (in *inspection) tests(ctx context.Context) ([]Finding, string, error) {
	if len(in.testing) == 0 {
		return nil, "no *_test.rego", nil
	}
	modules := map[string]*ast.Module{}
	for name, module := range in.modules {
		modules[name] = module.Copy()
	}
	for name, module := range in.testing {
		modules[name] = module.Copy()
	}
	capabilities := ast.CapabilitiesForThisVersion()
	capabilities.AllowNet = []string{}
	capabilities.Builtins = slices.DeleteFunc(capabilities.Builtins, (*ast.Builtin).IsNondeterministic)
	compiler := ast.NewCompiler().WithCapabilities(capabilities).WithRewriteTestRules(true)
	store := inmem.NewFromObjectWithOpts(in.bundle.Data, inmem.OptRoundTripOnWrite(false))
	var all []Finding
	ran := 0
	err := storage.Txn(ctx, store, storage.WriteParams, func(txn storage.Transaction) error {
		results, err := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(modules).SetTimeout(testTimeout).RunTests(ctx, txn)
		if err != nil {
			return err
		}
		for r := range results {
			ran++
			switch {
			case r.Error != nil:
				all = append(all, in.at(r.Location, plain(fmt.Sprintf("%s cannot be run: %v", r.Name, r.Error)), ""))
			case r.Fail:
				all = append(all, in.at(r.Location, r.Name+" fails", ""))
			}
		}
		return nil
	})
	var faults ast.Errors
	switch {
	case errors.As(err, &faults):
		return []Finding{in.typeFault(faults[0])}, "", nil
	case err != nil:
		return nil, "", err
	}
	slices.SortFunc(all, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return all, fmt.Sprintf("%d tests", ran), nil
}

// decided is an action with one way in which it can be decided.
type decided struct {
	action string
	compile.Outcome
}

// situations finds what can happen and no case shows: an action, with a code
// that its answer can carry, and for an allowance whether it ends. Which ones
// can be is known from the formulas, by going through the whole abstract fact
// space; each is confirmed by the engine.
func (in *inspection) situations(ctx context.Context) ([]Finding, string, error) {
	shown := map[decided]bool{}
	unknown := false
	for _, c := range in.cases {
		name, _ := asMap(c.Document["action"])["name"].(string)
		shown[decided{name, compile.Outcome{Code: c.Want.Code, Ends: c.Want.ValidUntil != ""}}] = true
		unknown = unknown || c.Want.Code == authz.CodeUnknownAction
	}
	var all []Finding
	possible, covered := 1, 0 // an action that is in no table
	if unknown {
		covered++
	} else {
		all = append(all, Finding{File: "cases", Text: "no case asks for an action that does not exist"})
	}
	for _, name := range sortedActions(in.formulas) {
		for _, o := range in.formulas.Outcomes() {
			if shown[decided{name, o}] {
				possible, covered = possible+1, covered+1
				continue
			}
			document, err := in.finder.Outcome(name, o)
			if err != nil {
				return []Finding{{File: ".", Text: fmt.Sprintf("%s: it cannot be told how it can be decided: %v", name, err)}}, "", ctx.Err()
			}
			if document == nil {
				continue
			}
			got, err := in.engine.EvaluateDocument(ctx, document)
			if err != nil || got.Code != o.Code || (got.ValidUntil != nil) != o.Ends {
				return nil, "", fmt.Errorf("%s, %v: the formulas and the engine differ: %v, %w", name, o, got, err)
			}
			possible++
			ends := ""
			if o.Ends {
				ends = " and an end"
			}
			all = append(all, Finding{File: "cases", Text: fmt.Sprintf("no case shows %s answered with %s%s", name, o.Code, ends), Hint: "it can be: " + brief(document)})
		}
	}
	return all, fmt.Sprintf("%d of %d are shown by a case (%.1f %%)", covered, possible, 100*float64(covered)/float64(possible)), nil
}
