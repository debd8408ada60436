package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
)

// odd are the values that something in the input may turn into. None of them is
// another legal value of anything that widens access.
var odd = []any{removed, nil, "", []any{}, map[string]any{}, 7, "?", []any{"?"}, map[string]any{"?": "?"}}

// TestDamageNeverOpens damages the input of the cases: each member in turn is
// removed, null, empty, of another type or an unknown value. No denial may turn
// into an allowance, no allowance may gain a basis or hold for longer (promise
// P1; DOMAIN rules 11, 46 and 118).
func TestDamageNeverOpens(t *testing.T) {
	engine := engine(t)
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	cases = slices.DeleteFunc(cases, func(c Case) bool {
		like := likeness(c)
		if asked[like] || c.Odd || strings.HasPrefix(c.File, "cases/matrix") {
			return true
		}
		asked[like] = true
		return false
	})
	read := settingsRead(t)
	t.Logf("%d cases", len(cases))
	work := make(chan Case)
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for c := range work {
				damage(t, engine, c, read)
			}
		}()
	}
	for _, c := range cases {
		work <- c
	}
	close(work)
	wg.Wait()
}

// settingsRead lists the settings that some rule reads; damaging another one
// has no effect, and there are many.
func settingsRead(t *testing.T) map[string]bool {
	bundle, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, module := range bundle.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if name, ok := strings.CutPrefix(ref.String(), "input.settings."); ok {
				read[name] = true
			}
			return false
		})
	}
	if len(read) < 5 {
		t.Fatalf("only %v", read)
	}
	return read
}

// likeness is equal for cases that differ in names only.
func likeness(c Case) string {
	raw, _ := json.Marshal(c.Document)
	return digits.ReplaceAllString(string(raw), "") + c.Want.String()
}

var digits = regexp.MustCompile(`-\d+`)

func damage(t *testing.T, engine *pdp.Engine, c Case, read map[string]bool) {
	before, err := engine.EvaluateDocument(t.Context(), c.Document)
	if err != nil {
		t.Error(err)
		return
	}
	for _, path := range members(c.Document, "") {
		if name, ok := strings.CutPrefix(path, "settings."); ok && !read[name] {
			continue
		}
		for _, value := range odd {
			if anotherRequest(path, value, before) {
				continue
			}
			document := damaged(c.Document, strings.Split(path, "."), value)
			if fault := widened(t, engine, before, document); fault != "" {
				t.Errorf("%s:%d: %s: with %s = %v %s", c.File, c.Line, c.Title, path, shown(value), fault)
			}
		}
	}
}

// damaged is a copy of document with another value at a path, or none.
func damaged(document map[string]any, path []string, value any) map[string]any {
	out := maps.Clone(document)
	switch {
	case len(path) > 1:
		out[path[0]] = damaged(out[path[0]].(map[string]any), path[1:], value)
	case value == removed:
		delete(out, path[0])
	default:
		out[path[0]] = value
	}
	return out
}

// anotherRequest reports whether the damage makes a sound request that asks
// something else. A practice that is named beside a client must agree with it
// (DOMAIN rule 105), and need not be named: without it there is no contradiction
// left to refuse. And where the caller left a property empty, any text fills it.
func anotherRequest(path string, value any, before authz.Decision) bool {
	_, object := value.(map[string]any)
	switch {
	case path == "resource.properties.practice" && value == removed:
		return true
	case path == "resource.properties" && (value == removed || object):
		return true
	}
	return strings.HasPrefix(path, "resource.properties.") && value == "?" && before.Code == authz.CodeBadInput
}

// widened says how a damaged document gives more than the whole one did. An
// error gives nothing: it means that the policy could not decide.
func widened(t *testing.T, engine *pdp.Engine, before authz.Decision, document map[string]any) string {
	if !before.Allow { // the whole decision would cost twice as much, and there are many
		if allow, _, err := engine.Query(t.Context(), "data.authz.allow", document); err == nil && allow != false {
			return fmt.Sprintf("a denial (%s) becomes an allowance", before.Code)
		}
		return ""
	}
	after, err := engine.EvaluateDocument(t.Context(), document)
	if err != nil || !after.Allow {
		return ""
	}
	for _, basis := range after.Bases {
		if !slices.Contains(before.Bases, basis) {
			return fmt.Sprintf("it gains the basis %s besides %v", basis, before.Bases)
		}
	}
	if before.ValidUntil != nil && (after.ValidUntil == nil || after.ValidUntil.After(*before.ValidUntil)) {
		return "it holds for longer"
	}
	return ""
}

// members lists the paths of everything in a document, branches too.
func members(value map[string]any, prefix string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(value)) {
		all = append(all, prefix+name)
		if nested, ok := value[name].(map[string]any); ok {
			all = append(all, members(nested, prefix+name+".")...)
		}
	}
	return all
}

func shown(value any) any {
	if value == removed {
		return "(removed)"
	}
	return fmt.Sprintf("%#v", value)
}
