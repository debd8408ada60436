package compile

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// conditions are of every kind that can be compared exactly: equalities of
// texts and with words, orders of times, lists, loops, flags, settings, tables.
var conditions = []string{
	`input.subject.type == "user"`, `input.member.user == input.subject.id`, `input.client.assigned == input.member.user`,
	`input.client.assigned == input.subject.id`, `input.resource.properties.author == input.subject.id`, `input.member.status != "removed"`,
	`"practitioner" in input.member.roles`, `"administrator" in input.member.roles`, `"biller" in input.member.roles`,
	`input.client.status == "active"`, `input.client.status in {"active", "archived"}`, `input.client.status != "archived"`,
	`input.grant.not_before <= input.context.now`, `input.context.latest < input.grant.expires_at`, `input.context.now <= input.context.latest`, `input.context.now >= input.grant.expires_at`,
	`input.grant.expires_at == "9999-12-31T23:59:59.999999Z"`, `input.grant.scope == "view"`, `input.grant`, `input.portal.own`, `input.portal.own == false`,
	`input.resource.properties.kind in {"progress", "assessment"}`, `input.resource.properties.kind == "progress"`, `is_string(input.resource.properties.kind)`,
	`input.resource.properties.signed == false`, `input.resource.properties.signed`, `input.resource.properties`,
	`input.settings.admin_record_access == "full"`, `input.settings.admin_record_access in {"full", "list_only"}`, `input.settings.hide_unassigned`,
	`"assigned_practitioner" in input.settings.access_managers`, `every r in input.member.roles { r in {"biller", "practitioner"} }`,
	`h1`, `h2`, `h1`, `h2`,
}

// draft is a random policy: bodies of rules by their heads.
type draft map[string][]string

// drafted writes a policy, with one in a few conditions negated.
func drafted(r *rand.Rand) draft {
	body := func() string {
		var out []string
		for range 1 + r.IntN(2) {
			c := conditions[r.IntN(len(conditions))]
			if r.IntN(3) == 0 && !strings.HasPrefix(c, "every") {
				c = "not " + c
			}
			out = append(out, c)
		}
		return strings.Join(out, "\n\t")
	}
	plain := func() string { return conditions[r.IntN(len(conditions)-4)] }
	return draft{`h1`: {plain()}, `h2`: {plain(), plain()}, `bases contains "a"`: {body()}, `bases contains "b"`: {body(), body()},
		`denials contains "x"`: {plain() + "\n\t" + plain()}, `denials contains "y"`: {plain() + "\n\t" + plain()}, `lasting`: {plain()}}
}

// changed is a draft with one rule written anew, or with the same meaning.
func (d draft) changed(r *rand.Rand) draft {
	out := maps.Clone(d)
	heads := slices.Sorted(maps.Keys(d))
	head := heads[r.IntN(len(heads))]
	switch r.IntN(6) {
	case 0: // the same, said twice
		out[head] = append(slices.Clone(out[head]), out[head][0])
	case 1: // the same, with a case distinction
		body := out[head][0]
		out[head] = append(slices.Clone(out[head][1:]), body+"\n\tinput.client.status == \"active\"", body+"\n\tnot input.client.status == \"active\"")
	case 2:
		out[head] = drafted(r)[head]
	default:
		other := drafted(r)
		for _, head := range heads[:3] { // the bases and a denial
			out[head] = other[head]
		}
	}
	return out
}

const rest = `package authz
default allow := false
allow if { permitted; not denied }
permitted if some _ in bases
denied if some _ in denials
_refusals contains d if some d in denials
_refusals contains "no_basis" if not permitted
default _end := {}
_end := {"valid_until": input.grant.expires_at} if { allow; not lasting }
`

func (d draft) source(t *testing.T) Source {
	t.Helper()
	text := rest
	for _, head := range slices.Sorted(maps.Keys(d)) {
		for _, body := range d[head] {
			text += head + " if {\n\t" + body + "\n}\n"
		}
	}
	compiler, err := ast.CompileModulesWithOpt(map[string]string{"authz.rego": text}, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	reasons := map[string]any{}
	for _, code := range []string{"a", "b", "x", "y", "no_basis"} {
		reasons[code] = map[string]any{"admin": code, "user": code}
	}
	return Source{Compiler: compiler, Store: inmem.NewFromObject(map[string]any{"tables": map[string]any{
		"actions": map[string]any{"note.read": map[string]any{"on": "note"}}, "reasons": reasons,
		"order": map[string]any{"bases": []any{"a", "b"}, "denials": []any{"x", "y", "no_basis"}}}})}
}

// opinion is what OPA says of a document: the answer, and all that goes with it.
type opinion struct {
	allow bool
	bases string
	code  string
	until string
}

// asked asks OPA about a document, which may be parsed already.
func (s Source) asked(t *testing.T) func(ast.Value) opinion {
	t.Helper()
	q, err := rego.New(rego.Query(partsQuery), rego.Compiler(s.Compiler), rego.Store(s.Store)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func(document ast.Value) opinion {
		results, err := q.Eval(context.Background(), rego.EvalParsedInput(document))
		if err != nil || len(results) != 1 {
			t.Fatalf("%v, %v", results, err)
		}
		b := results[0].Bindings
		o := opinion{allow: b["allow"].(bool)}
		first := func(order []string, set any) string {
			for _, code := range order {
				if slices.Contains(set.([]any), any(code)) {
					return code
				}
			}
			return ""
		}
		if o.allow {
			o.bases, o.code = fmt.Sprint(b["bases"]), first([]string{"a", "b"}, b["bases"])
			o.until = fmt.Sprint(b["end"])
		} else {
			o.code = first([]string{"x", "y", "no_basis"}, b["refusals"])
		}
		return o
	}
}

// parsed is a document as OPA reads it.
func parsed(t *testing.T, document map[string]any) ast.Value {
	t.Helper()
	v, err := ast.InterfaceToValue(document)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// points lists documents of every way in which the atoms of formulas can come
// out, all tables there and absent; nil where these are too many.
func points(t *testing.T, formulas []*Formula, most int) []map[string]any {
	t.Helper()
	th, err := newTheory(t.Context(), &sync.Map{}, formulas...)
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	if size(th) > most {
		return nil
	}
	for there := range 1 << len(optional) {
		start := point{}
		for i, name := range optional {
			start[name] = absent
			if there&(1<<i) != 0 {
				start[name] = "present"
			}
		}
		all := []point{start}
		for _, g := range th.groups {
			key := ""
			for _, name := range g.tables {
				if start[name] != absent {
					key += name + " "
				}
			}
			var next []point
			for _, p := range all {
				for _, w := range g.ways[key] {
					next = append(next, p.with(w.points[len(next)%len(w.points)]))
				}
			}
			all = next
		}
		for _, p := range all {
			s, err := concrete("note.read", p)
			if err != nil {
				t.Fatalf("a point is lost: %v", err)
			}
			out = append(out, s.document)
		}
	}
	return out
}

// size is how many points there are.
func size(th *theory) int {
	sum := 0
	for there := range 1 << len(optional) {
		n := 1
		for _, g := range th.groups {
			key := ""
			for _, name := range g.tables {
				if there&(1<<slices.Index(optional, name)) != 0 {
					key += name + " "
				}
			}
			n = min(n*len(g.ways[key]), 1<<20)
		}
		sum += n
	}
	return sum
}

// TestADifferenceIsExactlyWhereOPADiffers compares random policies with slightly changed ones,
// and asks OPA at every point of the abstract space of both: a change is told
// where, and only where, OPA's answers differ, and nothing is told of policies
// that agree everywhere. It draws until it has enough of either kind.
func TestADifferenceIsExactlyWhereOPADiffers(t *testing.T) {
	const wantEqual, wantOther, most = 8, 16, 2000
	r := rand.New(rand.NewPCG(11, 12))
	equal, other, compared := 0, 0, 0
	for drawn := 0; equal < wantEqual || other < wantOther; drawn++ {
		if drawn == most {
			t.Fatalf("of %d pairs that were drawn %d are equal and %d are not: too few to show anything", drawn, equal, other)
		}
		before := drafted(r)
		after := before.changed(r)
		a, b := before.source(t), after.source(t)
		p, err := Compile(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Compile(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		var formulas []*Formula
		collect := func(_ string, f *Formula) { formulas = append(formulas, f) }
		p.Actions["note.read"].formulas(p, collect)
		q.Actions["note.read"].formulas(q, collect)
		documents := points(t, formulas, 3000)
		if documents == nil {
			continue
		}
		c, err := Compare(t.Context(), p, q)
		if err != nil || len(c.Undecided) > 0 {
			t.Fatalf("%v, %v", err, c.Undecided)
		}
		count, enough := &other, wantOther
		if len(c.Changes) == 0 {
			count, enough = &equal, wantEqual
		}
		if *count == enough {
			continue
		}
		*count++
		told := make([]func(map[string]any) bool, len(c.Changes))
		for i, change := range c.Changes {
			told[i] = ready(t, change.Where)
		}
		was, is := a.asked(t), b.asked(t)
		for _, document := range documents {
			compared++
			input := parsed(t, document)
			var here []Shift
			for i, holds := range told {
				if holds(document) {
					here = append(here, c.Changes[i])
				}
			}
			if fault := judge(here, was(input), is(input)); fault != "" {
				t.Fatalf("%s\n%v\nbefore %v\nafter %v", fault, document, before, after)
			}
		}
	}
	t.Logf("%d equal pairs, %d others, %d points", equal, other, compared)
}

// ready is f.Holds, made once for many documents.
func ready(t *testing.T, f *Formula) func(map[string]any) bool {
	t.Helper()
	c := newCode()
	n, err := c.add(f)
	if err != nil {
		t.Fatal(err)
	}
	return func(document map[string]any) bool { return c.eval(&frame{document: document}, n) }
}

// judge says what is wrong with what is told of one document.
func judge(changes []Shift, was, is opinion) string {
	told := map[ShiftKind]bool{}
	for _, c := range changes {
		told[c.Kind] = true
		listed := func(o opinion) bool { return strings.Contains(o.bases, c.Reason) }
		right := map[ShiftKind]bool{
			NowAllowed: is.allow && listed(is) && !listed(was), BasisGained: was.allow && is.allow && listed(is) && !listed(was),
			NowDenied: was.allow && listed(was) && !listed(is), BasisLost: was.allow && is.allow && listed(was) && !listed(is),
			DenialChanged: !was.allow && !is.allow && was.code == c.Before && is.code == c.Reason,
			FirstChanged:  was.allow && is.allow && was.bases == is.bases && was.code == c.Before && is.code == c.Reason,
			EndGained:     was.allow && is.allow && was.until != is.until, EndLost: was.allow && is.allow && was.until != is.until,
		}[c.Kind]
		if !right {
			return fmt.Sprintf("%s %s is told of %+v and %+v, when %v", c.Kind, c.Reason, was, is, c.Where)
		}
	}
	switch {
	case is.allow && !was.allow && !told[NowAllowed], was.allow && !is.allow && !told[NowDenied]:
		return fmt.Sprintf("that the answer turns is not told: %+v, %+v", was, is)
	case was != is && len(told) == 0:
		return fmt.Sprintf("nothing is told of %+v and %+v", was, is)
	case was.until != is.until && was.allow && is.allow && !told[EndGained] && !told[EndLost]:
		return fmt.Sprintf("that the end changes is not told: %+v, %+v", was, is)
	}
	return ""
}

// TestAProofIsWhatOPASaysEverywhere proves random properties of random policies, and asks OPA
// at every point of the abstract space whether they hold.
func TestAProofIsWhatOPASaysEverywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	tried, refuted := 0, 0
	for tried < 30 {
		d := drafted(r)
		of := []string{"", "grant", "client", "member.roles"}[r.IntN(4)]
		property := Property{Rule: "data.authz.broken", Kind: Never, Of: of}
		if of == "" {
			d["broken"] = []string{"allow\n\t" + conditions[r.IntN(len(conditions)-4)] + "\n\tnot " + conditions[r.IntN(20)]}
		} else {
			d["broken"] = []string{conditions[r.IntN(len(conditions)-4)]}
			property.Kind = []PropertyKind{GivesNothing, TakesNothing}[r.IntN(2)]
		}
		source := d.source(t)
		p, err := Compile(t.Context(), source)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := p.Prove(t.Context(), source, []Property{property})
		if err != nil {
			t.Fatal(err)
		}
		if len(findings[0].Undecided) > 0 {
			continue // words are taken from a list that is looped over
		}
		a := p.Actions["note.read"]
		formulas := []*Formula{a.Allow}
		rule, err := ruleOf(t.Context(), source, "note.read", property.Rule)
		if err != nil {
			t.Fatal(err)
		}
		documents := points(t, append(formulas, rule), 1500)
		if documents == nil {
			continue
		}
		tried++
		ask := source.asked(t)
		q, err := rego.New(rego.Query(property.Rule), rego.Compiler(source.Compiler), rego.Store(source.Store)).PrepareForEval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holds := func(document map[string]any) bool {
			results, err := q.Eval(t.Context(), rego.EvalInput(document))
			if err != nil {
				t.Fatal(err)
			}
			return len(results) > 0
		}
		breaks := func(document map[string]any) bool {
			if !holds(document) {
				return false
			}
			if property.Kind == Never {
				return true
			}
			with := ask(parsed(t, document)).allow
			return slices.ContainsFunc(lessOf(document, of), func(less map[string]any) bool {
				without := ask(parsed(t, less)).allow
				return with != without && with == (property.Kind == GivesNothing)
			})
		}
		broken := slices.ContainsFunc(documents, breaks)
		if got := len(findings[0].Refuted) > 0; got != broken {
			t.Fatalf("%v: refuted %v, by OPA %v\n%v", property, got, broken, d)
		}
		if broken {
			refuted++
			if e := findings[0].Refuted[0].Example.Document(); !breaks(e) {
				t.Fatalf("%v: OPA does not confirm %v\n%v", property, e, d)
			}
		}
	}
	if refuted < 5 || refuted > tried-5 {
		t.Errorf("%d of %d are refuted: too few or too many to show anything", refuted, tried)
	}
	t.Logf("%d properties, %d refuted", tried, refuted)
}

// lessOf lists a document without a table, or without each word of a list.
func lessOf(document map[string]any, of string) []map[string]any {
	less := maps.Clone(document)
	if of != "member.roles" {
		delete(less, of)
		return []map[string]any{less}
	}
	member, _ := document["member"].(map[string]any)
	roles, _ := member["roles"].([]any)
	var out []map[string]any
	for i := range roles {
		one := maps.Clone(member)
		one["roles"] = slices.Delete(slices.Clone(roles), i, i+1)
		less := maps.Clone(document)
		less["member"] = one
		out = append(out, less)
	}
	return out
}

// TestWhatCannotBeIsNoDifference compares conditions that differ only in facts
// that no loader can make, or in what follows from the rest.
func TestWhatCannotBeIsNoDifference(t *testing.T) {
	const known = `input.context.now >= "0001-01-01T00:00:00.000000Z"`
	with := func(bodies ...string) draft {
		return draft{`bases contains "a"`: bodies, `bases contains "b"`: {`input.portal.own`}, `denials contains "x"`: {`input.client.status == "archived"`},
			`denials contains "y"`: {`input.client.status == "merged"`}, `lasting`: {`input.grant.scope == "view"`}}
	}
	for _, c := range []struct{ what, one, other string }{
		{"the later clock is never before the other", known, known + "\n\tinput.context.now <= input.context.latest"},
		{"and there where the other is", known, known + "\n\tinput.context.latest >= \"0001-01-01T00:00:00.000000Z\""},
		{"a flag of a membership is there with it", `input.member`, `is_boolean(input.member.billing_enabled)`},
		{"a time of a grant is in the years 1 to 9999", `input.grant`, `input.grant.not_before >= "0001-01-01T00:00:00.000000Z"`},
		{"a setting is one of its words", `input.settings`, `input.settings.admin_record_access in {"full", "non_clinical", "list_only"}`},
		{"a list of managers always names administrators", `input.settings`, `"administrator" in input.settings.access_managers`},
		{"one status excludes another", `input.client.status == "active"`, "input.client.status == \"active\"\n\tinput.client.status != \"archived\""},
		{"equal to the same is equal", "input.client.assigned == input.member.user\n\tinput.member.user == input.subject.id",
			"input.client.assigned == input.member.user\n\tinput.member.user == input.subject.id\n\tinput.client.assigned == input.subject.id"},
		{"before what is before", "input.grant.not_before <= input.context.now\n\tinput.context.now < input.grant.expires_at",
			"input.grant.not_before <= input.context.now\n\tinput.context.now < input.grant.expires_at\n\tinput.grant.not_before < input.grant.expires_at"},
	} {
		p, err := Compile(t.Context(), with(c.one).source(t))
		if err != nil {
			t.Fatal(err)
		}
		q, err := Compile(t.Context(), with(c.other).source(t))
		if err != nil {
			t.Fatal(err)
		}
		found, err := Compare(t.Context(), p, q)
		if err != nil || len(found.Undecided) > 0 || len(found.Changes) > 0 {
			t.Errorf("%s: %v, %v", c.what, err, found)
		}
	}
}

// TestADiagramThatGrowsTooLargeIsUndecided gives a diagram few nodes.
func TestADiagramThatGrowsTooLargeIsUndecided(t *testing.T) {
	var vars []*Formula
	for _, word := range []string{"a", "b", "c", "d", "e", "f"} {
		vars = append(vars, atom(OpIn, Operand{Const: ast.String(word)}, Operand{Path: "member.roles"}))
	}
	d := newDiagram(t.Context(), vars)
	d.limit = 8
	err := within(func() {
		d.of(or(and(vars[0], vars[3]), and(vars[1], vars[4]), and(vars[2], vars[5])))
	})
	if err == nil || !strings.Contains(err.Error(), "more than 8 nodes") {
		t.Error(err)
	}
}
