package release

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"

	"pgregory.net/rapid"
)

// mistakesShown are the eight deliberate ones: where each shows in the
// difference, and which property it breaks. A duplicated id changes no answer,
// and is found by the check of the policy's form.
var mistakesShown = []struct {
	what, file, old, new string
	says                 string // "": proved equal
	refutes              []string
}{
	{"an inverted comparison", "rules/grants/grants.rego", "input.context.latest < input.grant.expires_at", "input.context.latest > input.grant.expires_at",
		"now ALLOWED through a grant: note.write, when: same practice, own note, practitioner, active member, grant begun, grant over, grant to collaborate, client active",
		[]string{"ended_grant_never"}},
	{"a forgotten expiry", "rules/grants/grants.rego", "\tinput.context.latest < input.grant.expires_at\n", "",
		"now ALLOWED through a grant: note.write, when: same practice, own note, practitioner, active member, grant begun and ended, grant to collaborate, client active",
		[]string{"ended_grant_never"}},
	{"a dropped practice check", "lib/practice.rego", "\tinput.client.practice == input.member.practice\n", "",
		"now ALLOWED through the role scheduler: appointment.read, client.list, when: his own membership, scheduler, client of another practice, active member, the client asked about, client active or archived, the request states no practice, or the request states the client's practice",
		[]string{"other_practice_never"}},
	{"a misspelt role", "lib/member.rego", `_holds("scheduler")`, `_holds("schedular")`,
		"now DENIED, allowed before through the role scheduler: appointment.manage, when: same practice, scheduler, not a schedular (there is no such role), active member, client active",
		[]string{"role_needed"}},
	{"a widened table row", "tables/roles/data.yaml", "scheduler:\n  always:\n", "scheduler:\n  always:\n    - chart.open\n",
		"now ALLOWED through the role scheduler: chart.open, when: same practice, scheduler, active member, client active or archived",
		[]string{"no_chart_by_narrow_roles"}},
	{"a deleted denial", "authz/authz.rego", `denials contains "protected_note" if rules.notes.protected_note`, `denials contains "protected_note" if false`,
		"now ALLOWED through assignment: note.read, when: same practice, somebody else's note, practitioner, assigned to this client, active member, kind is psychotherapy or sud counseling, client active or archived",
		[]string{"protected_note_author_only"}},
	{"a duplicated id", "rules/assigned/assigned.rego", "id: assigned_notes", "id: assigned_billing", "", nil},
	{"not on an unknown", "rules/practice/practice.rego", `_active if input.member.status == "active"`, `_active if not input.member.status == "removed"`,
		"now ALLOWED through a grant: note.write, when: same practice, own note, practitioner, not an active member, not a removed member, grant in force, grant to collaborate, client active",
		[]string{"removed_member_never"}},
}

func bundleOf(t testing.TB, folder fs.FS) *pdp.Bundle {
	t.Helper()
	b, err := pdp.ReadFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shippedBundle(t testing.TB) *pdp.Bundle {
	t.Helper()
	return bundleOf(t, os.DirFS(policies))
}

// few keeps some actions of a policy, of every kind, so that tests are quick.
func few(b *pdp.Bundle) *pdp.Bundle {
	keep := []string{"appointment.manage", "appointment.read", "chart.open", "client.create", "client.list", "client.merge", "note.read", "note.write", "portal.documents.view"}
	gone := func(name string) bool { return actionName.MatchString(name) && !slices.Contains(keep, name) }
	var cut func(any) any
	cut = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			maps.DeleteFunc(v, func(name string, _ any) bool { return gone(name) })
			for name := range v {
				v[name] = cut(v[name])
			}
		case []any:
			return slices.DeleteFunc(v, func(one any) bool { s, ok := one.(string); return ok && gone(s) })
		}
		return v
	}
	b.Data["tables"] = cut(b.Data["tables"])
	return b
}

// TestMistakesShowInTheDifference makes each mistake on a copy of the policy:
// the difference says it in a sentence, and the property that it breaks is
// refuted by an example that OPA confirms.
func TestMistakesShowInTheDifference(t *testing.T) {
	shipped := few(shippedBundle(t))
	for _, m := range mistakesShown {
		t.Run(m.what, func(t *testing.T) {
			wrong := few(bundleOf(t, edited(t, m.file, m.old, m.new)))
			d, err := Diff(t.Context(), shipped, wrong)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range d.Undecided {
				t.Errorf("undecided: %s", o)
			}
			switch {
			case m.says == "" && !d.Equal:
				t.Errorf("not equal: %v", texts(d.Access))
			case m.says != "" && !slices.Contains(texts(d.Access), m.says):
				t.Errorf("it is not said that %s\n%s", m.says, strings.Join(texts(d.Access), "\n"))
			}
			for _, s := range slices.Concat(d.Access, d.Wording) {
				if s.Example.Before == s.Example.After || s.Situations.Sign() <= 0 {
					t.Errorf("%s: %+v", s.Text, s.Example)
				}
			}
			if m.says != "" {
				explains(t, shipped, wrong, d)
			}
			proofs, err := Prove(t.Context(), wrong)
			if err != nil {
				t.Fatal(err)
			}
			var refuted []string
			for _, p := range proofs {
				for _, o := range p.Undecided {
					t.Errorf("%s: %s", p.ID, o)
				}
				if len(p.Refuted) > 0 {
					refuted = append(refuted, p.ID)
				}
			}
			if !slices.Equal(refuted, m.refutes) {
				t.Errorf("refuted: %v, want %v", refuted, m.refutes)
			}
		})
	}
}

func texts(all []Sentence) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Text)
	}
	return out
}

// explains asks OPA random facts by both policies: where its answers differ some
// sentence says so, and where a sentence says so they differ.
func explains(t *testing.T, a, b *pdp.Bundle, d *Difference) {
	t.Helper()
	before, err := newSide(t.Context(), "from", a)
	if err != nil {
		t.Fatal(err)
	}
	after, err := newSide(t.Context(), "to", b)
	if err != nil {
		t.Fatal(err)
	}
	byAction := map[string][]compile.Shift{}
	for _, s := range slices.Concat(d.Access, d.Wording) {
		for _, c := range s.changes {
			byAction[c.Action] = append(byAction[c.Action], c)
		}
	}
	names := slices.Sorted(maps.Keys(before.policy.Actions))
	differ := 0
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		for range 12 {
			action := rapid.SampledFrom(names).Draw(t, "action")
			r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: "user-1"}, Action: action, Resource: drawResource(t, before.policy.Actions[action].On)}
			document := authz.Document(r, f)
			was, err := before.answer(t.Context(), r, f)
			if err != nil {
				t.Fatal(err)
			}
			is, err := after.answer(t.Context(), r, f)
			if err != nil {
				t.Fatal(err)
			}
			told := slices.ContainsFunc(byAction[action], func(c compile.Shift) bool { return c.Where.Holds(document) })
			if told != (was != is) {
				t.Fatalf("%s: before %s, after %s, told: %v\n%v", action, was, is, told, document)
			}
			if told {
				differ++
			}
		}
	})
	t.Logf("%d of the answers that were drawn differ", differ)
}
