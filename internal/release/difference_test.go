package release

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
)

// diffOf compares the shipped policy, in few actions, with a copy in which one
// file has new in the place of old.
func diffOf(t *testing.T, file, old, new string) *Difference {
	t.Helper()
	d, err := Diff(t.Context(), few(shippedBundle(t)), few(bundleOf(t, edited(t, file, old, new))))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAPolicySaidOtherwiseIsEqual proves two policies equal that differ in every
// rule of a file, but in no answer.
func TestAPolicySaidOtherwiseIsEqual(t *testing.T) {
	d := diffOf(t, "rules/practice/practice.rego", `_active if input.member.status == "active"`,
		"_active if {\n\tinput.member.status == \"active\"\n\tnot input.subject.type == \"portal_user\"\n}\n\n_active if {\n\tinput.member.status == \"active\"\n\tinput.subject.type == \"portal_user\"\n}")
	if !d.Equal || d.From == d.To {
		t.Errorf("%+v", d)
	}
	var out strings.Builder
	d.Write(&out, false)
	if !strings.Contains(out.String(), "proved equal: no situation changes") {
		t.Error(out.String())
	}
}

func TestWhatIsBeyondTheComparisonIsUndecided(t *testing.T) {
	for _, c := range []struct{ what, new, why string }{
		{"a rule that is not translated", "count(input.member.roles) > 1", "count"},
		{"a test without end", `startswith(input.subject.id, "admin-")`, "there is no end of values"},
		{"an order of texts", `input.client.status < "b"`, "there is no end of values"},
	} {
		const file = "rules/scheduler/scheduler.rego"
		d := diffOf(t, file, "\tmember.scheduler\n", "\tmember.scheduler\n\t"+c.new+"\n")
		raw, err := os.ReadFile(policies + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(raw), "\tmember.scheduler\n")
		line := strings.Count(before, "\n") + 2
		if d.Equal || len(d.Undecided) == 0 {
			t.Errorf("%s: decided: %v", c.what, texts(d.Access))
			continue
		}
		for _, o := range d.Undecided {
			if !strings.Contains(o.Why, c.why) || o.File != file || o.Line != line || o.Which != "to" || !slices.Contains(o.Actions, "client.list") {
				t.Errorf("%s: %+v", c.what, o)
			}
		}
		for _, s := range d.Access {
			if slices.Contains(s.Actions, "client.list") {
				t.Errorf("%s: something is said all the same: %s", c.what, s.Text)
			}
		}
	}
}

// TestActionsOfOneSide takes an action away, which another policy has.
func TestActionsOfOneSide(t *testing.T) {
	d := diffOf(t, "tables/actions/data.yaml", "chart.open: {on: client}\n", "")
	if !slices.Equal(d.OnlyFrom, []string{"chart.open"}) || len(d.OnlyTo) != 0 {
		t.Errorf("only from: %v, only to: %v", d.OnlyFrom, d.OnlyTo)
	}
	want := "now DENIED, allowed before through assignment: chart.open, when: same practice, practitioner, assigned to this client, active member, client active or archived"
	if !slices.Contains(texts(d.Access), want) {
		t.Errorf("no %q in\n%s", want, strings.Join(texts(d.Access), "\n"))
	}
}

func TestSentencesOfCodesAreCompared(t *testing.T) {
	d := diffOf(t, "tables/reasons/data.yaml", "You do not have access.", "Ask an administrator.")
	if d.Equal || len(d.Access)+len(d.Wording)+len(d.Undecided) > 0 || len(d.Texts) != 1 || d.Texts[0].Code != "no_basis" {
		t.Errorf("%+v", d.Texts)
	}
}

// TestADecisionThatIsPutTogetherOtherwise has a decision that shows fewer bases
// than hold: the rules are the same, the answer is not.
func TestADecisionThatIsPutTogetherOtherwise(t *testing.T) {
	d := diffOf(t, "authz/answer.rego", "_shown_bases := _held if allow", "_shown_bases := [\"assigned\"] if allow")
	if d.Equal || len(d.Undecided) == 0 || !strings.Contains(d.Undecided[0].Why, "not put together") {
		t.Errorf("%+v", d.Undecided)
	}
}

// TestADifferenceIsEvidence is the same bytes each time.
func TestADifferenceIsEvidence(t *testing.T) {
	var texts [2]string
	for i := range texts {
		raw, err := json.Marshal(diffOf(t, "lib/practice.rego", "\tinput.client.practice == input.member.practice\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(raw)
	}
	if texts[0] != texts[1] {
		t.Error("compared twice, the difference differs")
	}
}

// TestAPresetShowsItsDifference compares a practice's settings, before and after.
func TestAPresetShowsItsDifference(t *testing.T) {
	b := few(shippedBundle(t))
	settings := func(preset string) *authz.Settings {
		s, err := authz.NewSettings(preset, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	d, err := DiffUnder(t.Context(), b, b, settings("seed"), settings("help-centre"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"now DENIED, allowed before through the role administrator: note.read, when: same practice, administrator, not a practitioner, active member, client active or archived, kind is assessment, progress or treatment plan, or own note"}
	if !slices.Equal(texts(d.Access), want) || len(d.Undecided) > 0 || d.Access[0].Example.Before == d.Access[0].Example.After {
		t.Errorf("%s\n%v", strings.Join(texts(d.Access), "\n"), d.Undecided)
	}
	changed := 0
	for _, row := range d.Matrices[0].Rows {
		for _, cell := range row.Cells {
			if cell.Changed {
				changed++
			}
		}
	}
	if changed == 0 || len(d.Matrices) != 1 {
		t.Errorf("%d cells change in %d matrices", changed, len(d.Matrices))
	}
	same, err := DiffUnder(t.Context(), b, b, settings("seed"), settings("seed"))
	if err != nil || !same.Equal {
		t.Errorf("%v, %v", same, err)
	}
	d.Write(io.Discard, true)
}

// TestEveryAtomHasWords asks for the words of every test that the shipped policy
// makes: none is shown as code.
func TestEveryAtomHasWords(t *testing.T) {
	s, err := newSide(t.Context(), "from", shippedBundle(t))
	if err != nil {
		t.Fatal(err)
	}
	var walk func(*compile.Formula)
	walk = func(f *compile.Formula) {
		for _, k := range f.Kids {
			walk(k)
		}
		if f.Kind != compile.KindAtom {
			return
		}
		for _, l := range []compile.Literal{{Atom: f}, {Atom: f, Not: true}, {Atom: f, Not: true, There: true}} {
			if said := say(l); strings.Contains(said, "input.") || strings.Contains(said, "_string") || said == "" {
				t.Errorf("%s: %s", f, said)
			}
		}
	}
	for _, a := range s.policy.Actions {
		for _, f := range slices.Concat([]*compile.Formula{a.Allow}, a.Bases, a.Refusals) {
			walk(f)
		}
		for _, end := range a.Ends {
			walk(end.Cond)
		}
	}
	for _, code := range slices.Concat(s.policy.Bases, s.policy.Denials) {
		if _, ok := denialWords[code]; !ok && throughWords[code] == "" && code != authz.CodeUnknownAction {
			t.Errorf("there are no words for %s", code)
		}
	}
}

// TestTheMatrixKnowsItsPeople holds a few cells to what people expect.
func TestTheMatrixKnowsItsPeople(t *testing.T) {
	b := few(shippedBundle(t))
	d, err := Diff(t.Context(), b, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ action, on, column, cell string }{
		{"chart.open", "", "PA", "Y assigned"}, {"chart.open", "", "PG", "Y client_grant"}, {"chart.open", "", "PGE", "- no_basis"},
		{"chart.open", "", "XPR", "- other_practice"}, {"chart.open", "", "REM", "- not_active"}, {"note.write", "own", "PGV", "- scope"},
		{"note.read", "psychotherapy note of somebody else", "PA", "- protected_note"}, {"note.write", "own", "PAA", "- archived"},
		{"portal.documents.view", "", "CON", "Y portal_access"}, {"portal.documents.view", "", "OFF", "- portal_off"}, {"portal.documents.view", "", "OWN", "Y portal_own"},
		{"client.create", "", "PN", "Y practitioner"},
	} {
		m := d.Matrices[1] // preset seed
		column := slices.IndexFunc(m.Columns, func(c Column) bool { return c.Name == want.column })
		row := slices.IndexFunc(m.Rows, func(r Row) bool { return r.Action == want.action && r.On == want.on })
		if m.Preset != "seed" || column < 0 || row < 0 || m.Rows[row].Cells[column].After != want.cell {
			t.Errorf("%+v: %s %d %d", want, m.Preset, row, column)
		}
	}
}

// TestPropertiesCannotBeWeakened leaves the core properties out of the folder,
// and says less in them: the product proves its own.
func TestPropertiesCannotBeWeakened(t *testing.T) {
	wrong := few(bundleOf(t, edited(t, "lib/practice.rego", "\tinput.client.practice == input.member.practice\n", "")))
	refuted := func(b *pdp.Bundle) bool {
		proofs, err := Prove(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(proofs, func(p Proof) bool { return p.ID == "other_practice_never" && p.Core && len(p.Refuted) > 0 })
	}
	weak := *wrong
	weak.Properties = few(bundleOf(t, edited(t, "properties/core.rego", "\tnot _in_own_practice\n", "\tnot _in_own_practice\n\tinput.subject.id == \"nobody\"\n"))).Properties
	without := *wrong
	without.Properties = nil
	for name, b := range map[string]*pdp.Bundle{"as shipped": wrong, "said weaker": &weak, "left out": &without} {
		if !refuted(b) {
			t.Errorf("%s: not refuted", name)
		}
	}
}

func TestPropertiesAreHandledStrictly(t *testing.T) {
	const file = "properties/roles.rego"
	for _, c := range []struct{ what, file, old, new, want string }{
		{"a misspelt fact", file, "some role in input.member.roles", "some role in input.member.rolls", "undefined ref: input.member.rolls"},
		{"an unused import", file, "import data.authz", "import data.authz\nimport data.lib.member", "unused"},
		{"an unknown kind", file, "#   kind: never", "#   kind: hardly", `custom.kind "hardly"`},
		{"nothing that is taken", file, "#   of: settings\n", "", "custom.of goes with"},
		{"an id twice", file, "id: role_needed", "id: merge_never", "id merge_never is taken"},
		{"another package", file, "package properties.roles", "package roles", "want a package such as properties.mine"},
		{"the core's package", file, "package properties.roles", "package properties.core", "is the product's own"},
		{"a rule of the policy in it", "rules/practitioner/practitioner.rego", "package rules.practitioner", "package properties.core", "is for properties"},
	} {
		_, err := Prove(t.Context(), bundleOf(t, edited(t, c.file, c.old, c.new)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestAPropertyThatCannotBeProvedIsUndecided has a function of what is not known.
func TestAPropertyThatCannotBeProvedIsUndecided(t *testing.T) {
	proofs, err := Prove(t.Context(), few(bundleOf(t, edited(t, "properties/roles.rego", "\tnot _some_role\n", "\tnot _some_role\n\tcount(input.member.roles) > 1\n"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proofs {
		open := p.ID == "role_needed"
		if p.Proved == open || open && (len(p.Undecided) != 1 || p.Undecided[0].File != "properties/roles.rego" || !strings.Contains(p.Undecided[0].Why, "count")) {
			t.Errorf("%s: %v", p.ID, p.Undecided)
		}
	}
}
