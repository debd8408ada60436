package control

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/bundles"
	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/release"
	"chartgate/internal/search"
	"chartgate/internal/web"
)

// pastDesk is a policyDesk whose lists are made by the policy of then. Programs
// are not certified here: package compile does that.
func pastDesk(t *testing.T, edit func(*release.Options)) *desk {
	t.Helper()
	d, _ := policyDesk(t, func(o *Options) {
		policy, err := policytest.Shipped()
		if err != nil {
			t.Fatal(err)
		}
		source, err := release.ReadSourceFolder(os.DirFS("../../policies"))
		if err != nil {
			t.Fatal(err)
		}
		found := func(context.Context, release.Examination) (release.Found, error) {
			return release.Found{Outcome: release.Passed, Summary: "looked"}, nil
		}
		options := release.Options{Pool: o.Pool, Deployment: o.Deployment.ID.String(), Settle: o.Settle, Certify: attach,
			Shipped: release.Shipped{Bundle: bundles.Default, Source: source, Engine: policy},
			Steps:   []release.Gate{{Name: "check", For: release.StateVerified, About: "it", Run: found}, {Name: "diff", For: release.StateReviewed, About: "it", Run: found}}}
		edit(&options)
		if o.Releases, err = release.NewService(t.Context(), options); err != nil {
			t.Fatal(err)
		}
		follow(t, o)
	})
	return d
}

// follow wires o to its releases and runs them.
func follow(t *testing.T, o *Options) {
	releases := o.Releases
	o.Policies = func(ctx context.Context, q Querier, hold bool) (Policy, error) {
		return releases.Engines().In(ctx, q, hold)
	}
	o.PolicyAt = func(ctx context.Context, practice string, at time.Time) (search.Policy, error) {
		e, err := releases.PolicyAt(ctx, practice, at)
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- releases.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
}

func attach(ctx context.Context, e *pdp.Engine) {
	if formulas, err := compile.Compile(ctx, e.Source()); err == nil {
		e.Attach(compile.Assemble(formulas))
	}
}

// rules are policies that differ in who may open a chart, by their remark.
var rules = map[string]func(table string) string{
	"assigned only":  func(table string) string { return without(without(table, "administrator"), "client_grant") },
	"no assignment":  func(table string) string { return without(table, "assigned") },
	"no full access": func(table string) string { return without(table, "full_clinical_access") },
}

// without takes chart.open from a basis.
func without(table, basis string) string {
	before, after, _ := strings.Cut("\n"+table, "\n"+basis+":\n")
	return strings.TrimPrefix(before, "\n") + "\n" + basis + ":\n" + strings.Replace(after, "    - chart.open\n", "", 1)
}

// policyOf is a small policy of these rules, and OPA's evaluator of it.
func policyOf(t *testing.T, remark string) (string, *pdp.Engine) {
	t.Helper()
	var texts map[string]string
	if err := json.Unmarshal([]byte(files(t, remark)), &texts); err != nil {
		t.Fatal(err)
	}
	const table = "tables/roles/data.yaml"
	if edit := rules[remark]; edit != nil {
		if edited := edit(texts[table]); edited == texts[table] {
			t.Fatalf("%s changes nothing", remark)
		} else {
			texts[table] = edited
		}
	}
	source, err := release.ReadSource(texts)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := source.Folder()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := release.Build(folder)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pdp.ReadArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := pdp.NewEngine(t.Context(), bundle, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), reference
}

// officers are two people over HTTP.
type officers struct{ author, approver *desk }

func newOfficers(d *desk) officers {
	return officers{d.person("author-1", web.ScopePolicyDraft), d.person("approver-1", web.ScopePolicyApprove)}
}

// approve makes an approved release of a policy, and returns its id.
func (o officers) approve(texts string) string {
	made := o.author.ok(o.author.call("POST", drafts, `{"title": "A change", "files": `+texts+`}`), 201)
	id := str(made, "id")
	for _, step := range []string{"check", "diff"} {
		o.author.step(drafts+"/"+id, step, `{}`)
	}
	shown := o.approver.ok(o.approver.call("GET", released+"/"+id, ""), 200)
	o.approver.ok(o.approver.call("POST", released+"/"+id+"/approve", `{"evidence": "`+str(shown, "evidence_digest")+`"}`), 200)
	return id
}

func (o officers) activate(id, turn string) answer {
	return o.approver.ok(o.approver.call("POST", released+"/"+id+"/activate", turn), 200)
}

// now is Postgres' clock.
func (d *desk) now() (at time.Time) {
	d.t.Helper()
	if err := d.db.QueryRow(d.t.Context(), `SELECT clock_timestamp()`).Scan(&at); err != nil {
		d.t.Fatal(err)
	}
	return at
}

// lists are who may open which chart of the first practice, as of a moment: by
// member, and by client with the bases.
func (d *desk) lists(at time.Time) map[string]string {
	d.t.Helper()
	asOf := ""
	if !at.IsZero() {
		asOf = "&as_of=" + url.QueryEscape(at.UTC().Format(time.RFC3339Nano))
	}
	got := map[string]string{}
	for _, who := range staffOfOne {
		a := d.ok(d.call("GET", p1+"/members/"+who+"/clients?action=chart.open"+asOf, ""), 200)
		for _, c := range a.body["clients"].([]any) {
			got[who] += fmt.Sprint(c.(map[string]any)["client"], " ")
		}
	}
	for _, client := range clientsOfOne {
		a := d.ok(d.call("GET", p1+"/clients/"+client+"/members?action=chart.open"+asOf, ""), 200)
		for _, m := range a.body["members"].([]any) {
			m := m.(map[string]any)
			got[client] += fmt.Sprint(m["user"])
			for _, b := range m["bases"].([]any) {
				got[client] += fmt.Sprint(" ", b.(map[string]any)["basis"])
			}
			got[client] += ", "
		}
	}
	return got
}

var (
	staffOfOne   = []string{"admin-1", "admin-3", "practitioner-1", "practitioner-2", "practitioner-full", "scheduler-1"}
	clientsOfOne = []string{"client-1", "client-2", "client-3"}
)

// decided is what OPA says of the same, on the facts as they are.
func (d *desk) decided(reference *pdp.Engine) map[string]string {
	d.t.Helper()
	want := map[string]string{}
	for _, who := range staffOfOne {
		for _, client := range append([]string{"client / 5%"}, clientsOfOne...) {
			r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: who}, Action: "chart.open", Resource: authz.Resource{Type: authz.ResourceClient, ID: client}}
			f, err := facts.Load(d.t.Context(), d.db, d.o.Deployment, r)
			if err != nil {
				d.t.Fatal(err)
			}
			decision, err := reference.Evaluate(d.t.Context(), r, f)
			if err != nil {
				d.t.Fatal(err)
			}
			if !decision.Allow {
				continue
			}
			want[who] += client + " "
			if client != "client / 5%" {
				want[client] += who + " " + strings.Join(decision.Bases, " ") + ", "
			}
		}
	}
	return want
}

// The lists as of any moment are what OPA decided then, by the policy of then on
// the facts of then: before there was a release, between activations, after
// roll-backs, and while a candidate decides for some of the practices.
func TestRule117ListsByThePolicyOfThen(t *testing.T) {
	signer, err := release.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	d := pastDesk(t, func(o *release.Options) { o.Signer = signer })
	staff := d.as("admin-1")
	builtIn, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := pdp.ReadArchive(bundles.Default)
	if err != nil {
		t.Fatal(err)
	}
	references := map[string]*pdp.Engine{shipped.Revision: builtIn}
	type moment struct {
		at   time.Time
		want map[string]string
		by   string
	}
	var past []moment
	remember := func() {
		a, err := feed.ReadActivation(t.Context(), d.db)
		if err != nil {
			t.Fatal(err)
		}
		content := shipped.Revision
		if a.Serial > 0 {
			content = pdp.ReleaseFor(a, "practice-1").Content
		}
		reference := references[content]
		if reference == nil {
			t.Fatalf("%s decides, and is not known here", content)
		}
		past = append(past, moment{d.now(), d.decided(reference), content})
	}
	remember()
	if err := d.o.Releases.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	remember()
	a, err := feed.ReadActivation(t.Context(), d.db)
	if err != nil {
		t.Fatal(err)
	}
	o := newOfficers(d)
	ids := []string{a.Active.Name}
	for remark := range rules {
		texts, reference := policyOf(t, remark)
		references[reference.Revision()] = reference
		id := o.approve(texts)
		o.activate(id, `{}`) // one after the other: an approval is against what is active
		ids = append(ids, id)
		remember()
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		a, err := feed.ReadActivation(t.Context(), d.db)
		if err != nil {
			t.Fatal(err)
		}
		id := ids[draw.IntN(len(ids))]
		switch turn := draw.IntN(6); {
		case turn < 2 && a.Candidate.Name != "":
			o.approver.ok(o.approver.call("POST", released+"/"+a.Candidate.Name+"/withdraw", ""), 200)
		case turn < 3 && a.Candidate.Name == "" && id != a.Active.Name:
			o.activate(id, fmt.Sprintf(`{"stage": "share", "share": %d}`, 1+draw.IntN(99)))
		case turn < 4 && (a.Candidate.Name == "" || a.Candidate.Name == id):
			o.activate(id, `{}`)
		default:
			d.exec([]string{
				`UPDATE clients SET assigned = CASE assigned WHEN 'practitioner-1' THEN 'practitioner-2' ELSE 'practitioner-1' END WHERE id = 'client-1'`,
				`UPDATE members SET full_clinical_access = NOT full_clinical_access WHERE user_id = 'practitioner-full'`,
				`UPDATE members SET roles = CASE WHEN 'administrator' = ANY (roles) THEN '{scheduler}' ELSE '{administrator}' END::text[] WHERE user_id = 'admin-3'`,
				`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-3', 'practitioner-2', 'admin-1') ON CONFLICT DO NOTHING`,
				`DELETE FROM grants`,
			}[draw.IntN(4+draw.IntN(2))])
		}
		remember()
	}
	different := map[string]bool{}
	for _, m := range past {
		different[m.by] = true
		got := staff.lists(m.at)
		for of, want := range m.want {
			if got[of] != want {
				t.Errorf("%s as of %v, when %s decided: %q, OPA said %q", of, m.at, m.by, got[of], want)
			}
		}
		if len(got) != len(m.want) {
			t.Errorf("as of %v: %v, OPA said %v", m.at, got, m.want)
		}
	}
	if len(different) != len(references) {
		t.Errorf("%d policies decided at some moment, of %d", len(different), len(references))
	}
	// The lists of now are by who decides for the practice now: a candidate, too.
	last := past[len(past)-1]
	if got := staff.lists(time.Time{}); !slices.Equal(sorted(got), sorted(last.want)) {
		t.Errorf("now %v, by single checks %v", got, last.want)
	}
	// Half-open: from the very moment of the change record on.
	var turns []time.Time
	rows, err := d.db.Query(t.Context(), `SELECT at FROM changes WHERE action = 'policy.activate' ORDER BY id LIMIT 4`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var at time.Time
		if err := rows.Scan(&at); err != nil {
			t.Fatal(err)
		}
		turns = append(turns, at)
	}
	for _, at := range turns[1:] {
		before, err := d.o.Releases.PolicyAt(t.Context(), "practice-2", at.Add(-time.Microsecond))
		if err != nil {
			t.Fatal(err)
		}
		after, err := d.o.Releases.PolicyAt(t.Context(), "practice-2", at)
		if err != nil || before.Revision() == after.Revision() {
			t.Errorf("at %v decides %s, just before it %s: %v", at, after.Revision(), before.Revision(), err)
		}
	}
}

func sorted(m map[string]string) (all []string) {
	for k, v := range m {
		all = append(all, k+": "+v)
	}
	slices.Sort(all)
	return all
}

// refusedThen asserts that lists as of a moment are refused, and why.
func (d *desk) refusedThen(at time.Time, why string) {
	d.t.Helper()
	for _, path := range []string{"/members/practitioner-1/clients", "/clients/client-1/members"} {
		a := d.refused(d.call("GET", p1+path+"?action=chart.open&as_of="+url.QueryEscape(at.UTC().Format(time.RFC3339Nano)), ""), 503, "cannot-decide")
		if !strings.Contains(str(a, "detail"), why) {
			d.t.Errorf("%s as of %v does not say %q: %s", path, at, why, a.text)
		}
	}
}

// compiled waits until the policy of now makes lists.
func (d *desk) compiled() *desk {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); d.call("GET", p1+"/members/admin-1/clients?action=chart.open", "").StatusCode != 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatal("the active policy is not compiled")
		}
	}
	return d
}

// A policy of then that cannot be had, or not be trusted, is refused with the
// reason, and no other policy answers for it.
func TestRule117RefusesWhatCannotBeHad(t *testing.T) {
	signer, err := release.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	d := pastDesk(t, func(o *release.Options) { o.Signer = signer })
	staff, o := d.as("admin-1"), newOfficers(d)
	before := d.now()
	if err := d.o.Releases.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	texts, _ := policyOf(t, "assigned only")
	lost := o.approve(texts)
	o.activate(lost, `{}`)
	then := d.now()
	texts, _ = policyOf(t, "no assignment")
	o.activate(o.approve(texts), `{}`)
	now := d.now()
	want := staff.lists(then)

	// Another control on the same database, which has nothing compiled yet.
	control := func(edit func(*release.Options)) *desk {
		t.Helper()
		policy, err := policytest.Shipped()
		if err != nil {
			t.Fatal(err)
		}
		ro := release.Options{Pool: d.o.Pool, Deployment: d.o.Deployment.ID.String(), Settle: d.o.Settle, Certify: attach, Shipped: release.Shipped{Bundle: bundles.Default, Engine: policy}}
		edit(&ro)
		options := d.o
		if options.Releases, err = release.NewService(t.Context(), ro); err != nil {
			t.Fatal(err)
		}
		options.Metrics = nil
		follow(t, &options)
		server, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		return &desk{Server: server, t: t, db: d.db, key: staticKey, actor: "admin-1"}
	}
	other, err := release.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	public := func(s *release.Signer) []byte {
		text, err := s.Public()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	rotated, err := pdp.ReadKeys(public(other), public(signer))
	if err != nil {
		t.Fatal(err)
	}
	control(func(o *release.Options) { o.Signer = other }).refusedThen(then, "--policy-key")
	control(func(*release.Options) {}).refusedThen(then, "cannot be trusted")
	if got := control(func(o *release.Options) { o.Signer, o.Keys = other, rotated }).compiled().lists(then); !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("with the key of then: %v, want %v", got, want)
	}

	d.exec(`UPDATE releases SET bundle = (SELECT bundle FROM releases WHERE state = 'active') WHERE id = $1`, lost)
	again := control(func(o *release.Options) { o.Signer = signer })
	again.refusedThen(then, "cannot be trusted")
	d.exec(`UPDATE releases SET bundle = 'no bundle' WHERE id = $1`, lost)
	again.refusedThen(then, "cannot be trusted")
	d.exec(`UPDATE releases SET content = 'sha256:00' WHERE id = $1`, lost)
	again.refusedThen(then, "not among the releases")
	again.compiled().lists(now)
	again.lists(before)

	// What was never activated here, and came with another version of the program.
	decidedBy := func(content, at string) {
		d.exec(`INSERT INTO decisions (id, at, subject_type, subject_id, action, resource_type, resource_id, allow, code, bases, release, body)
			VALUES (gen_random_uuid(), $2::timestamptz, 'user', 'practitioner-1', 'chart.open', 'client', 'client-1', true, 'assigned', '{assigned}', $1, '')`, content, at)
	}
	decidedBy("sha256:older", "2021-01-01Z")
	day := func(text string) time.Time { at, _ := time.Parse(time.DateOnly, text); return at }
	again.refusedThen(day("2021-01-02"), "was replaced about then")
	again.refusedThen(day("2020-01-01"), "came with another version of the program")
	decidedBy("sha256:older", "2021-03-01Z")
	again.refusedThen(day("2021-02-01"), "kept nowhere")

	// A change of the activation that left no record.
	d.exec(`UPDATE activation SET serial = serial + 1, revision = revision + 1`)
	again.refusedThen(now, "left no change record")
}
