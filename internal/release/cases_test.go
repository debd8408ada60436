package release

import (
	"strings"
	"testing"
	"testing/fstest"

	"chartgate/internal/pdp"
)

const policies = "../../policies"

func engine(t *testing.T) *pdp.Engine {
	t.Helper()
	bundle, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	e, err := pdp.NewEngine(t.Context(), bundle, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEveryCaseHolds(t *testing.T) {
	results, err := RunCases(t.Context(), engine(t), policies)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK() {
			t.Error(r.Fault())
		}
	}
	t.Logf("%d cases", len(results))
}

// TestCaseFilesAreHeldToTheirForm: a case about nobody would be denied, and so
// hold, for the wrong reason.
func TestCaseFilesAreHeldToTheirForm(t *testing.T) {
	const cast = `now: 2026-03-02T10:00:00Z
members: {practitioner-1: {roles: [practitioner]}}
clients: {client-1: {assigned: practitioner-1}}
`
	const good = "who: practitioner-1, does: chart.open, to: client-1, answer: allow, because: [assigned]"
	swap := func(old, new string) string {
		return cast + "cases:\n  - {" + strings.Replace(good, old, new, 1) + "}\n"
	}
	for _, test := range []struct{ what, text, want string }{
		{"good", swap("", ""), ""},
		{"nobody", swap("who: practitioner-1", "who: practitioner-2"), `cases/x.yaml:5: who: nobody in this file is called "practitioner-2"`},
		{"nothing", swap("client-1", "client-2"), `cases/x.yaml:5: to: nothing in this file is called "client-2"`},
		{"a member that is not read", swap("does", "dose"), "field dose not found"},
		{"an answer without a reason", swap(", because: [assigned]", ""), "want \"answer: allow\""},
		{"a denial with two reasons", swap("allow, because: [assigned]", "deny, because: [archived, scope]"), "because of one code"},
		{"a setting that is not there", swap("answer", "when: {hide_everybody: true}, answer"), "setting hide_everybody: no such setting"},
		{"a word that a setting cannot be", swap("answer", "when: {admin_record_access: some}, answer"), "must be one of"},
		{"a time that is none", swap("answer", "at: soon, answer"), "at: want"},
		{"a fact that is not there", swap("answer", "without: [grant], answer"), "there is no grant"},
		{"a path that leads nowhere", swap("answer", "but: {grant.scope: x}, answer"), "there is no grant.scope"},
		{"no time", "cases: []", "now: want a time"},
		{"an unknown role", "now: 2026-03-02T10:00:00Z\nmembers: {a: {roles: [practicioner]}}", `there is no role "practicioner"`},
		{"an unknown practice", "now: 2026-03-02T10:00:00Z\nmembers: {a: {practice: practice-9}}", `there is no practice "practice-9"`},
		{"an assigned stranger", "now: 2026-03-02T10:00:00Z\nclients: {c: {assigned: a}}", `there is no member "a"`},
		{"a grant to a stranger", cast + "grants: [{user: a, client: client-1}]", `there is no member "a"`},
		{"a grant on nothing", cast + "grants: [{user: practitioner-1, client: c}]", `there is no client "c"`},
		{"portal access to nothing", cast + "portal: [{login: a, client: c}]", `portal: there is no client "c"`},
		{"an unknown relationship", cast + "portal: [{login: a, client: client-1, contact: k, relationship: friend}]", `there is no relationship "friend"`},
		{"an unknown permission", cast + "portal: [{login: a, client: client-1, permissions: [everything]}]", `there is no permission "everything"`},
		{"an unknown feature", "now: 2026-03-02T10:00:00Z\nclients: {c: {features: [everything]}}", `there is no feature "everything"`},
		{"an unknown profile", swap("answer", "in: client-2, answer"), `in: there is no client "client-2"`},
		{"two things of one name", cast + "notes: {client-1: {}}\ncases:\n  - {" + good + "}\n", "is several things"},
		{"a matrix without a column", cast + "matrix:\n  columns: {PA: {who: practitioner-1, basis: assigned}}\n  tables:\n    - rows: |\n        ACTION PN\n", "cases/x.yaml:8: the head"},
		{"a matrix with a mark missing", cast + "matrix:\n  columns: {PA: {who: practitioner-1, basis: assigned}}\n  tables:\n    - rows: |\n        ACTION PA\n        on client-1\n        chart.open\n", "cases/x.yaml:10: want an action and 1 marks"},
		{"a matrix with an unknown mark", cast + "matrix:\n  columns: {PA: {who: practitioner-1, basis: assigned}}\n  tables:\n    - rows: |\n        ACTION PA\n        on client-1\n        chart.open Z\n", `there is no mark "Z"`},
	} {
		t.Run(test.what, func(t *testing.T) {
			_, err := ReadCases(fstest.MapFS{"cases/x.yaml": {Data: []byte(test.text)}})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("want %q, got %v", test.want, err)
			}
		})
	}
}

// TestAWrongAnswerIsAFault: code, bases, order and end are all pinned.
func TestAWrongAnswerIsAFault(t *testing.T) {
	folder := edited(t, "cases/time.yaml", "because: [client_grant], until: +2h}", "because: [client_grant]}")
	cases, err := ReadCases(folder)
	if err != nil {
		t.Fatal(err)
	}
	engine := engine(t)
	var faults []string
	for _, c := range cases {
		if fault := c.run(t.Context(), engine).Fault(); fault != "" {
			faults = append(faults, fault)
		}
	}
	if len(faults) != 1 || !strings.HasPrefix(faults[0], "cases/time.yaml:") || !strings.Contains(faults[0], "until") {
		t.Errorf("want one fault, got %q", faults)
	}
	right := Expectation{Allow: true, Code: "assigned", Bases: []string{"assigned", "client_grant"}}
	for _, wrong := range []Expectation{
		{Code: "assigned", Bases: right.Bases}, {Allow: true, Code: "client_grant", Bases: right.Bases},
		{Allow: true, Code: "assigned", Bases: []string{"assigned"}}, {Allow: true, Code: "assigned", Bases: []string{"client_grant", "assigned"}},
	} {
		if wrong.equal(right) {
			t.Errorf("%s passes for %s", wrong, right)
		}
	}
}
