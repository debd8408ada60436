package control

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"chartgate/bundles"
	"chartgate/internal/feed"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/release"
	"chartgate/internal/web"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/open-policy-agent/opa/v1/bundle"
)

func init() { openapi3filter.RegisterBodyDecoder("application/gzip", openapi3filter.FileBodyDecoder) }

const (
	drafts   = policyPath + "/drafts"
	released = policyPath + "/releases"
)

// policyDesk is a desk whose control can sign, and decides by the release that
// is active; looking takes no time there.
func policyDesk(t *testing.T, edits ...func(*Options)) (*desk, *release.Signer) {
	t.Helper()
	signer, err := release.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	found := func(context.Context, release.Examination) (release.Found, error) {
		return release.Found{Outcome: release.Passed, Summary: "looked"}, nil
	}
	d := setup(t, append([]func(*Options){func(o *Options) {
		policy, err := policytest.Shipped()
		if err != nil {
			t.Fatal(err)
		}
		source, err := release.ReadSourceFolder(os.DirFS("../../policies"))
		if err != nil {
			t.Fatal(err)
		}
		deployment, err := feed.ReadDeployment(t.Context(), o.Pool)
		if err != nil {
			t.Fatal(err)
		}
		o.Releases, err = release.NewService(t.Context(), release.Options{Pool: o.Pool, Deployment: deployment.ID.String(), Signer: signer, Settle: o.Settle,
			Shipped: release.Shipped{Bundle: bundles.Default, Source: source, Engine: policy},
			Steps:   []release.Gate{{Name: "check", For: release.StateVerified, About: "it", Run: found}, {Name: "diff", For: release.StateReviewed, About: "it", Run: found}}})
		if err != nil {
			t.Fatal(err)
		}
		releases := o.Releases
		o.Policies = func(ctx context.Context, q Querier, hold bool) (Policy, error) {
			return releases.Engines().In(ctx, q, hold)
		}
	}}, edits...)...)
	d.actor = ""
	return d, signer
}

// person returns the same desk, asked with a key that was made for one person,
// or for nobody.
func (d *desk) person(name string, scopes ...string) *desk {
	d.t.Helper()
	_, key, err := d.o.Callers.Keys.Make(d.t.Context(), web.NewKey{Scopes: scopes, AllPractices: true, Person: name})
	if err != nil {
		d.t.Fatal(err)
	}
	return &desk{Server: d.Server, t: d.t, db: d.db, key: key}
}

// files is a small policy: the shipped one without its cases, and a remark.
func files(t *testing.T, remark string) string {
	t.Helper()
	source, err := release.ReadSourceFolder(os.DirFS("../../policies"))
	if err != nil {
		t.Fatal(err)
	}
	texts := source.Texts()
	for name := range texts {
		if strings.HasPrefix(name, "cases/") {
			delete(texts, name)
		}
	}
	texts["lib/member.rego"] += "\n# " + remark + "\n"
	text, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func str(a answer, name string) string { s, _ := a.body[name].(string); return s }

// A draft becomes the policy that decides, by two people, and gives way to the
// one before it again (promise P7).
func TestP7_ReleaseLifeOverHTTP(t *testing.T) {
	d, signer := policyDesk(t)
	if err := d.o.Releases.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	author := d.person("author-1", web.ScopePolicyDraft, web.ScopePolicyApprove)
	same := d.person("author-1", web.ScopePolicyApprove)
	approver := d.person("approver-1", web.ScopePolicyApprove)

	made := author.ok(author.call("POST", drafts, `{"title": "A change", "files": `+files(t, "one")+`}`), 201)
	at, tag := made.Header.Get("Location"), made.Header.Get("ETag")
	id := str(made, "id")
	if at != drafts+"/"+id || str(made, "author") != "author-1" || str(made, "state") != "draft" {
		t.Fatalf("%s %.300s", at, made.text)
	}
	if a := author.call("GET", at, "", "If-None-Match", tag); a.StatusCode != 304 {
		t.Errorf("unchanged: %d", a.StatusCode)
	}
	author.refused(author.call("PUT", at, `{"title": "B", "files": {"a.rego": "package a\n"}}`), 428, "if-match-missing")
	author.refused(author.call("PUT", at, `{"title": "B"}`, "If-Match", tag), 400, "malformed")
	edited := author.ok(author.call("PUT", at, `{"title": "Another change", "files": `+files(t, "two")+`}`, "If-Match", tag), 200)
	author.refused(author.call("PUT", at, `{"title": "B", "files": {"a.rego": "package a\n"}}`, "If-Match", tag), 412, "changed-meanwhile")
	if str(edited, "content") == str(made, "content") || edited.Header.Get("ETag") == tag {
		t.Error("the edit shows nowhere")
	}
	author.refused(author.call("GET", at+"/check", ""), 404, "not-found")
	author.refused(author.call("POST", at+"/nothing", ""), 404, "not-found")
	if a := author.step(at, "check", `{}`); str(a, "outcome") != "passed" || str(a, "state") != "verified" {
		t.Errorf("%s", a.text)
	}
	approver.refused(approver.call("POST", released+"/"+id+"/approve", `{"evidence": "sha256:00"}`), 409, "release-state")
	author.step(at, "diff", "")

	shown := approver.ok(approver.call("GET", released+"/"+id, ""), 200)
	if str(shown, "state") != "reviewed" || shown.body["evidence"].(map[string]any)["diff"] == nil {
		t.Fatalf("%s", shown.text)
	}
	digest := `{"evidence": "` + str(shown, "evidence_digest") + `"}`
	author.refused(author.call("POST", released+"/"+id+"/approve", digest), 403, "not-allowed")
	same.refused(same.call("POST", released+"/"+id+"/approve", digest), 403, "not-allowed")
	approver.refused(approver.call("POST", released+"/"+id+"/approve", `{"evidence": "sha256:00"}`), 412, "changed-meanwhile")
	approver.refused(approver.call("POST", released+"/"+id+"/activate", ""), 409, "release-state")
	approved := approver.ok(approver.call("POST", released+"/"+id+"/approve", digest), 200)
	if str(approved, "approver") != "approver-1" || str(approved, "state") != "approved" {
		t.Errorf("%s", approved.text)
	}
	author.refused(author.call("PUT", at, `{"title": "B", "files": {"a.rego": "package a\n"}}`, "If-Match", approved.Header.Get("ETag")), 409, "release-state")

	shadow := approver.ok(approver.call("POST", released+"/"+id+"/activate", `{"stage": "shadow"}`), 200)
	if str(shadow, "candidate") != id || str(shadow, "stage") != "shadow" {
		t.Errorf("%s", shadow.text)
	}
	approver.ok(approver.call("POST", released+"/"+id+"/withdraw", ""), 200)
	approver.refused(approver.call("POST", released+"/"+id+"/withdraw", ""), 409, "no-candidate")
	before := str(shadow, "release")
	settled := d.settled.Load()
	active := approver.ok(approver.call("POST", released+"/"+id+"/activate", `{}`), 200)
	if str(active, "release") != id || active.Header.Get("Chartgate-Revision") == "" || d.settled.Load() != settled+1 {
		t.Errorf("%s", active.text)
	}

	// Control's own decisions name the release from then on.
	staff := &desk{Server: d.Server, t: t, db: d.db, key: staticKey, actor: "admin-1"}
	if a := staff.ok(staff.call("GET", p1+"/members", ""), 200); a.Header.Get("Chartgate-Policy-Revision") != str(active, "content") {
		t.Errorf("decided by %s, active is %s", a.Header.Get("Chartgate-Policy-Revision"), str(active, "content"))
	}
	back := approver.ok(approver.call("POST", released+"/"+before+"/activate", ""), 200)
	if str(back, "release") != before || back.body["revision"].(float64) <= active.body["revision"].(float64) {
		t.Errorf("%s", back.text)
	}
	if a := staff.ok(staff.call("GET", p1+"/members", ""), 200); a.Header.Get("Chartgate-Policy-Revision") != str(back, "content") {
		t.Errorf("after the roll-back: %s", a.Header.Get("Chartgate-Policy-Revision"))
	}

	list := approver.ok(approver.call("GET", released+"?limit=1", ""), 200)
	more := approver.ok(approver.call("GET", released+"?limit=1&cursor="+str(list, "next"), ""), 200)
	if len(list.body["releases"].([]any)) != 1 || len(more.body["releases"].([]any)) != 1 || string(list.text) == string(more.text) {
		t.Errorf("%s %s", list.text, more.text)
	}
	approver.refused(approver.call("GET", drafts+"?cursor="+str(list, "next"), ""), 400, "bad-cursor")
	approver.refused(approver.call("GET", released+"?state=lost", ""), 400, "malformed")
	approver.refused(approver.call("GET", released+"/r-nothing", ""), 404, "not-found")
	if a := approver.ok(approver.call("GET", drafts, ""), 200); len(a.body["releases"].([]any)) != 0 {
		t.Errorf("%s", a.text)
	}

	// Who did what is on record, from the draft to the roll-back.
	rows, err := d.db.Query(t.Context(), `SELECT actor || ' ' || action FROM changes WHERE action LIKE 'policy.%' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			t.Fatal(err)
		}
		got = append(got, one)
	}
	want := []string{"chartgate policy.activate", "author-1 policy.create", "author-1 policy.edit", "author-1 policy.check", "author-1 policy.diff",
		"approver-1 policy.approve", "approver-1 policy.stage", "approver-1 policy.stage", "approver-1 policy.withdraw",
		"approver-1 policy.stage", "approver-1 policy.activate", "approver-1 policy.stage", "approver-1 policy.activate"}
	if !slices.Equal(got, want) {
		t.Errorf("on record: %q\nwant       %q", got, want)
	}
	d.takenByOPA(signer, before)
}

// takenByOPA fetches the active bundle as OPA's bundle protocol says, and gives
// it to OPA's own reader with the public key.
func (d *desk) takenByOPA(signer *release.Signer, want string) {
	d.t.Helper()
	service := d.person("", web.ScopeOperate)
	first := service.ok(service.call("GET", "/bundles/chartgate", "", "Prefer", "modes=snapshot,delta;wait=30"), 200)
	if first.Header.Get("Content-Type") != "application/gzip" {
		d.t.Errorf("Content-Type %s", first.Header.Get("Content-Type"))
	}
	tag := first.Header.Get("ETag")
	if a := service.call("GET", "/bundles/chartgate", "", "If-None-Match", `"older", `+tag); a.StatusCode != 304 || len(a.text) != 0 {
		d.t.Errorf("unchanged: %d", a.StatusCode)
	}
	public, err := signer.Public()
	if err != nil {
		d.t.Fatal(err)
	}
	verification := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{signer.ID(): {Key: string(public), Algorithm: "EdDSA"}}, "", "chartgate", nil)
	read, err := bundle.NewReader(bytes.NewReader(first.text)).WithBundleVerificationConfig(verification).WithBundleEtag(tag).Read()
	if err != nil {
		d.t.Fatal(err)
	}
	seal, _ := read.Manifest.Metadata["chartgate"].(map[string]any)
	if seal["release"] != want || read.Manifest.Revision != first.Header.Get("Chartgate-Policy-Revision") {
		d.t.Errorf("%v, revision %s", seal, read.Manifest.Revision)
	}
	for _, name := range []string{want, read.Manifest.Revision, "chartgate.tar.gz"} {
		if a := service.ok(service.call("GET", "/bundles/"+name, ""), 200); a.Header.Get("ETag") != tag {
			d.t.Errorf("%s is another one", name)
		}
	}
	service.refused(service.call("GET", "/bundles/r-nothing", ""), 404, "not-found")
}

// Whoever acts on policies is one person, and says so by his own credentials.
func TestP7_OneKeyIsOnePerson(t *testing.T) {
	d, _ := policyDesk(t)
	body := `{"title": "A change", "files": ` + files(t, "persons") + `}`
	everybody := []string{web.ScopePolicyDraft, web.ScopePolicyApprove}
	named := d.person("author-1", everybody...)
	named.refused(named.call("POST", drafts, body, "Chartgate-Actor", "author-2"), 403, "not-allowed")
	named.refused(named.call("POST", drafts, body, "Chartgate-Actor", "author-1"), 403, "not-allowed")
	nobody := d.person("", everybody...)
	nobody.refused(nobody.call("POST", drafts, body), 403, "not-allowed")
	nobody.refused(nobody.call("POST", drafts, body, "Chartgate-Actor", "author-1"), 403, "not-allowed")
	d.refused(d.call("POST", drafts, body), 403, "not-allowed") // the static key, every scope
	product := d.person("chartgate", everybody...)
	product.refused(product.call("POST", drafts, body), 403, "not-allowed")
	reader := d.person("author-1", web.ScopePolicyApprove)
	reader.refused(reader.call("POST", drafts, body), 403, "not-allowed")
	stranger := d.person("author-1", web.ScopeAdminister)
	stranger.refused(stranger.call("GET", drafts, ""), 403, "not-allowed")
	stranger.refused(stranger.call("GET", "/bundles/chartgate", ""), 403, "not-allowed")
	_, key, err := d.o.Callers.Keys.Make(t.Context(), web.NewKey{Scopes: []string{web.ScopeOperate}, Practices: []string{"practice-1"}})
	if err != nil {
		t.Fatal(err)
	}
	bound := &desk{Server: d.Server, t: t, db: d.db, key: key}
	bound.refused(bound.call("GET", drafts, ""), 403, "not-allowed")
	if n := d.count(`SELECT count(*) FROM releases`); n != 0 {
		t.Errorf("%d drafts were made", n)
	}
	named.ok(named.call("POST", drafts, body), 201)
}

// The key of `chartgate run` is author and approver both, and the evidence and
// the signature say so.
func TestRunKeyIsTwoPeopleAndSaysSo(t *testing.T) {
	d, _ := policyDesk(t, func(o *Options) { o.SingleSigner = true })
	made := d.ok(d.call("POST", drafts, `{"title": "Alone", "files": `+files(t, "alone")+`}`), 201)
	at, id := made.Header.Get("Location"), str(made, "id")
	d.refused(d.call("POST", drafts, `{"title": "Alone"}`, "Chartgate-Actor", "admin-1"), 403, "not-allowed")
	d.step(at, "check", "")
	d.step(at, "diff", "")
	shown := d.ok(d.call("GET", released+"/"+id, ""), 200)
	d.ok(d.call("POST", released+"/"+id+"/approve", `{"evidence": "`+str(shown, "evidence_digest")+`"}`), 200)
	d.ok(d.call("POST", released+"/"+id+"/activate", `{"force": true}`), 200)
	shown = d.ok(d.call("GET", released+"/"+id, ""), 200)
	if evidence, _ := shown.body["evidence"].(map[string]any); evidence["single_signer"] != whyRunKey || str(shown, "state") != "active" {
		t.Errorf("%s", shown.text)
	}
}

// What is no folder of policies is refused, and a folder may come as JSON or as
// a .tar.gz.
func TestSourcesAreBounded(t *testing.T) {
	d, _ := policyDesk(t)
	author := d.person("author-1", web.ScopePolicyDraft)
	var texts map[string]string
	if err := json.Unmarshal([]byte(files(t, "packed")), &texts); err != nil {
		t.Fatal(err)
	}
	source, err := release.ReadSource(texts)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := source.Archive()
	if err != nil {
		t.Fatal(err)
	}
	packed := author.ok(author.call("POST", drafts+"?title=Packed", string(archive), "Content-Type", "application/gzip"), 201)
	whole := author.ok(author.call("POST", drafts, `{"title": "Whole", "files": `+files(t, "packed")+`}`), 201)
	if str(packed, "content") != str(whole, "content") || str(packed, "title") != "Packed" {
		t.Errorf("%.300s", packed.text)
	}
	if begun := author.ok(author.call("POST", drafts, `{"title": "From what is shipped"}`), 201); str(begun, "content") == "" {
		t.Errorf("%.300s", begun.text)
	}
	copied := author.ok(author.call("POST", drafts, `{"title": "Copied", "base": "`+str(whole, "id")+`"}`), 201)
	if str(copied, "content") != str(whole, "content") {
		t.Errorf("%.300s", copied.text)
	}
	for body, typ := range map[string]string{
		`{"title": "x", "files": {}}`:                                         "malformed",
		`{"title": "", "files": {"a.rego": ""}}`:                              "malformed",
		`{"title": "x", "files": {"../a.rego": ""}}`:                          "malformed",
		`{"title": "x", "files": {"/a.rego": ""}}`:                            "malformed",
		`{"title": "x", "files": {"a/.git/b.rego": ""}}`:                      "malformed",
		`{"title": "x", "files": {"a.exe": ""}}`:                              "malformed",
		`{"title": "x", "base": "r-1", "files": {"a.rego": ""}}`:              "malformed",
		`{"title": "x", "files": {"` + strings.Repeat("a", 120) + `.md":""}}`: "malformed",
	} {
		author.refused(author.call("POST", drafts, body), 400, typ)
	}
	author.refused(author.call("POST", drafts, `{"title": "x", "base": "r-nothing"}`), 404, "not-found")
	author.refused(author.call("POST", drafts, `{"title": "x", "files": {"a.md": "`+strings.Repeat("a", 5<<20)+`"}}`), 413, "too-large")
	author.refused(author.call("POST", drafts, "no archive", "Content-Type", "application/gzip"), 400, "malformed")
	author.refused(author.call("POST", drafts+"?title=x", string(archive[:len(archive)/2]), "Content-Type", "application/gzip"), 400, "malformed")
	tag := packed.Header.Get("ETag")
	if a := author.call("DELETE", packed.Header.Get("Location"), "", "If-Match", tag); a.StatusCode != 204 {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	author.refused(author.call("GET", packed.Header.Get("Location"), ""), 404, "not-found")
}

func TestSidecarsReport(t *testing.T) {
	d, _ := policyDesk(t)
	service := d.person("", web.ScopeOperate)
	const at = policyPath + "/sidecars"
	report := `{"release": "r-1", "content": "sha256:00", "revision": 3, "serial": 2, "prepared": ["sha256:00"], "refused": [], "lease_ms": 12, "more": {"of": "a later version"}}`
	if a := service.call("PUT", at+"/host-1", report); a.StatusCode != 204 {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	list := service.ok(service.call("GET", at, ""), 200)
	one, _ := list.body["sidecars"].([]any)[0].(map[string]any)
	if shown, _ := one["report"].(map[string]any); one["id"] != "host-1" || shown["release"] != "r-1" || shown["more"] == nil || one["age_seconds"].(float64) < 0 {
		t.Errorf("%s", list.text)
	}
	service.refused(service.call("PUT", at+"/host-1", `[]`), 400, "malformed")
	service.refused(service.call("PUT", at+"/host-1", `{"revision": "three"}`), 400, "malformed")
	service.refused(service.call("PUT", at+"/host-1", `{"more": "`+strings.Repeat("a", 70000)+`"}`), 413, "too-large")
	author := d.person("author-1", web.ScopePolicyDraft)
	author.refused(author.call("PUT", at+"/host-2", report), 403, "not-allowed")
}
