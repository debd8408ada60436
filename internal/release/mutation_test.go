package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
)

// mutant is the policy with one thing taken out of it.
type mutant struct {
	name     string
	about    []string // actions, bases and denials whose cases are likely to notice
	mayBreak bool     // it need not compile
	bundle   func() *pdp.Bundle
}

// TestEveryRuleIsMissed takes out each rule in turn, each condition of each
// rule, and each entry of each table: some case must fail every time, else
// nobody would notice that it is gone.
func TestEveryRuleIsMissed(t *testing.T) {
	whole, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	mutants := slices.Concat(withoutRules(whole), withoutConditions(whole), withoutEntries(whole))
	if len(mutants) < 300 {
		t.Fatalf("only %d mutants", len(mutants))
	}
	work := make(chan mutant)
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for m := range work {
				if err := survives(t.Context(), m, cases); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			}
		}()
	}
	for _, m := range mutants {
		work <- m
	}
	close(work)
	wg.Wait()
	t.Logf("%d mutants", len(mutants))
}

// survives says how m gets by: every case holds for it. Leaving out a condition
// may leave something that does not compile, which is noticed too.
func survives(ctx context.Context, m mutant, cases []Case) error {
	engine, err := pdp.NewEngine(ctx, m.bundle(), pdp.DecisionPath)
	switch {
	case err != nil && m.mayBreak:
		return nil
	case err != nil:
		return err
	}
	rank := make(map[int]int, len(cases))
	order := make([]int, len(cases))
	for i, c := range cases {
		order[i], rank[i] = i, c.likelihood(m.about)
	}
	sort.SliceStable(order, func(i, j int) bool { return rank[order[i]] > rank[order[j]] })
	if slices.ContainsFunc(order, func(i int) bool { return !cases[i].run(ctx, engine).OK() }) {
		return nil
	}
	return errors.New("no case notices that it is gone")
}

// likelihood orders cases so that a mutant meets early the one that notices it:
// first those that are about the same things, then those written one by one.
func (c Case) likelihood(about []string) int {
	likelihood := 0
	if action, _ := c.Document["action"].(map[string]any); slices.Contains(about, fmt.Sprint(action["name"])) {
		likelihood += 4
	}
	if slices.Contains(about, c.Want.Code) {
		likelihood += 2
	}
	if !strings.HasPrefix(c.File, "cases/matrix") {
		likelihood++
	}
	return likelihood
}

// withModule is b with one module changed.
func withModule(b *pdp.Bundle, name string, change func(*ast.Module)) *pdp.Bundle {
	module := b.Modules[name].Copy()
	change(module)
	out := *b
	out.Modules = maps.Clone(b.Modules)
	out.Modules[name] = module
	return &out
}

// withoutRules makes each rule never hold. It stays in its place, so that the
// policy still compiles.
func withoutRules(b *pdp.Bundle) []mutant {
	var all []mutant
	for _, name := range slices.Sorted(maps.Keys(b.Modules)) {
		for i, rule := range b.Modules[name].Rules {
			all = append(all, mutant{name: fmt.Sprintf("%s:%d: rule %s", name, rule.Loc().Row, rule.Head.Ref()), about: topic(name, rule), bundle: func() *pdp.Bundle {
				return withModule(b, name, func(m *ast.Module) {
					if m.Rules[i].Default {
						m.Rules = slices.Delete(m.Rules, i, i+1)
						return
					}
					never := ast.NewExpr(ast.BooleanTerm(false))
					m.Rules[i].Body = ast.NewBody(append([]*ast.Expr{never}, m.Rules[i].Body...)...)
				})
			}})
		}
	}
	return all
}

// withoutConditions leaves out each condition of each rule that has several.
func withoutConditions(b *pdp.Bundle) []mutant {
	var all []mutant
	for _, name := range slices.Sorted(maps.Keys(b.Modules)) {
		for i, rule := range b.Modules[name].Rules {
			for k := range rule.Body {
				if len(rule.Body) == 1 {
					break
				}
				all = append(all, mutant{name: fmt.Sprintf("%s:%d: condition %s", name, rule.Body[k].Loc().Row, rule.Body[k]), about: topic(name, rule), mayBreak: true, bundle: func() *pdp.Bundle {
					return withModule(b, name, func(m *ast.Module) {
						m.Rules[i].Body = ast.NewBody(slices.Delete(slices.Clone(m.Rules[i].Body), k, k+1)...)
						dropUnusedImports(m)
					})
				}})
			}
		}
	}
	return all
}

// topic names the basis or the denial that a rule gives or belongs to.
func topic(file string, rule *ast.Rule) []string {
	folder := path.Base(path.Dir(file))
	if folder == "grants" {
		folder = "client_grant"
	}
	words := []string{folder, rule.Head.Name.String()}
	if key := rule.Head.Key; key != nil {
		words = append(words, strings.Trim(key.String(), `"`))
	}
	return words
}

// dropUnusedImports lets a module compile strictly after a condition went.
func dropUnusedImports(m *ast.Module) {
	used := map[ast.Var]bool{}
	for _, rule := range m.Rules {
		ast.WalkVars(rule, func(v ast.Var) bool {
			used[v] = true
			return false
		})
	}
	m.Imports = slices.DeleteFunc(m.Imports, func(i *ast.Import) bool { return !used[i.Name()] })
}

// withoutEntries leaves out each entry of each table, be it a member, an item
// or a whole branch.
func withoutEntries(b *pdp.Bundle) []mutant {
	var all []mutant
	var walk func(value any, at []string)
	add := func(at []string, key string, remove func(parent any) any) {
		at = slices.Clone(at)
		about := append(slices.Clone(at), key)
		all = append(all, mutant{name: "tables/" + strings.Join(about, "/"), about: about, bundle: func() *pdp.Bundle {
			out := *b
			out.Data = map[string]any{"tables": changed(b.Data["tables"], at, remove)}
			return &out
		}})
	}
	walk = func(value any, at []string) {
		switch v := value.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				add(at, key, func(parent any) any {
					cut := maps.Clone(parent.(map[string]any))
					delete(cut, key)
					return cut
				})
				walk(v[key], append(slices.Clone(at), key))
			}
		case []any:
			for i, item := range v {
				add(at, fmt.Sprint(item), func(parent any) any {
					return slices.Delete(slices.Clone(parent.([]any)), i, i+1)
				})
			}
		}
	}
	walk(b.Data["tables"], nil)
	return all
}

// changed is a copy of value in which what stands at a path was changed.
func changed(value any, at []string, change func(any) any) any {
	if len(at) == 0 {
		return change(value)
	}
	out := maps.Clone(value.(map[string]any))
	out[at[0]] = changed(out[at[0]], at[1:], change)
	return out
}
