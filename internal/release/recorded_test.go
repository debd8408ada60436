package release

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// variant is the policy with edits, decided by OPA, or by a program that is not
// certified where compiled says so.
func variant(t testing.TB, compiled bool, edits ...edit) *pdp.Engine {
	t.Helper()
	folder := policies
	if len(edits) > 0 {
		folder = t.TempDir()
		if err := os.CopyFS(folder, os.DirFS(policies)); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range edits {
		name := filepath.Join(folder, e.file)
		text, err := os.ReadFile(name)
		if err != nil || strings.Count(string(text), e.old) != 1 {
			t.Fatalf("%s: %d times %q, %v", e.file, strings.Count(string(text), e.old), e.old, err)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := pdp.LoadBundle(folder)
	if err != nil {
		t.Fatal(err)
	}
	e, err := pdp.NewEngine(t.Context(), b, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	if compiled {
		policy, err := compile.Compile(t.Context(), e.Source())
		if err != nil {
			t.Fatal(err)
		}
		e.Attach(compile.Assemble(policy))
	}
	return e
}

// history draws questions with facts, and lets a policy decide them.
type history struct {
	*rand.Rand
	engine   *pdp.Engine
	actions  []string // "client.list client"
	settings []*authz.Settings
}

func newHistory(t testing.TB, engine *pdp.Engine, seed uint64) *history {
	t.Helper()
	h := &history{Rand: rand.New(rand.NewPCG(seed, 7)), engine: engine}
	table, _, err := engine.Query(t.Context(), "data.tables.actions", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, entry := range table.(map[string]any) {
		h.actions = append(h.actions, name+" "+entry.(map[string]any)["on"].(string))
	}
	slices.Sort(h.actions)
	for _, overrides := range []map[string]any{{}, {"admin_record_access": "non_clinical"}, {"hide_unassigned": false, "grant_max_days": int64(90)},
		{"biller_sees_diagnoses": false, "access_managers": []any{"assigned_practitioner"}, "on_reassign_previous": map[string]any{"grant_days": int64(14)}}} {
		s, err := authz.NewSettings(authz.DefaultPreset, overrides)
		if err != nil {
			t.Fatal(err)
		}
		h.settings = append(h.settings, s)
	}
	return h
}

func (h *history) id(kind string, n int) string { return fmt.Sprintf("%s-%d", kind, 1+h.IntN(n)) }

// uuid is an id that is the same each time.
func (h *history) uuid() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], h.Uint64())
	binary.BigEndian.PutUint64(id[8:], h.Uint64())
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80 // version 7
	return id
}

func (h *history) seldom() bool { return h.IntN(40) == 0 }

// question is a request with facts that fit it, more often than not.
func (h *history) question() (authz.Request, authz.Facts) {
	action, on, _ := strings.Cut(h.actions[h.IntN(len(h.actions))], " ")
	if h.IntN(1000) == 0 {
		action = "made.up"
	}
	user, client, practice := h.id("practitioner", 12), h.id("client", 300), h.id("practice", 3)
	now := noon.Add(time.Duration(h.IntN(1e6)) * time.Microsecond)
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: user}, Action: action, Resource: authz.Resource{Type: on, ID: h.id(on, 300)}}
	f := authz.Facts{Now: now, Latest: now.Add(time.Duration(h.IntN(2)) * time.Second), Revision: "r1", Practice: practice, Settings: h.settings[h.IntN(len(h.settings))]}
	switch on {
	case authz.ResourceClient:
		r.Resource.ID = client
	case authz.ResourceNote:
		r.Resource.Properties = authz.Properties{"client": client, "author": h.id("practitioner", 2), "signed": h.IntN(2) == 0,
			"kind": []string{"progress", "assessment", "psychotherapy", "sud_counseling"}[h.IntN(4)]}
	case authz.ResourceDocument:
		r.Resource.Properties = authz.Properties{"client": client, "kind": "intake", "recipient": "client"}
	case authz.ResourcePractice:
		r.Resource.ID = practice
	default:
		r.Resource.Properties = authz.Properties{"practice": practice}
	}
	if h.seldom() {
		r.Resource.Properties = authz.Properties{"client": []any{}, "practice": nil, "signed": int64(0), "kind": map[string]any{}}
	}
	if strings.HasPrefix(action, "portal.") && on != authz.ResourcePractice && h.IntN(2) == 0 {
		r.Subject = authz.Subject{Type: authz.SubjectPortal, ID: h.id("portal", 40)}
		r.Context.PortalProfile = client
		f.Portal = &authz.Portal{Contact: "client", Enabled: h.IntN(3) > 0, Own: h.IntN(2) == 0, Permissions: []string{"view_appointments"}, Features: authz.PortalFeatures}
	} else if !h.seldom() {
		f.Member = &authz.Member{ID: h.uuid().String(), User: user, Practice: practice, Status: authz.MemberActive, Owner: h.seldom(),
			FullClinicalAccess: h.IntN(6) == 0, BillingEnabled: h.IntN(2) == 0}
		for _, i := range h.Perm(len(authz.Roles))[:h.IntN(3)] {
			f.Member.Roles = append(f.Member.Roles, authz.Roles[i])
		}
		if h.IntN(2) == 0 {
			f.Member.Roles = []string{authz.RolePractitioner}
		}
		if h.seldom() {
			f.Member.Status = authz.MemberRemoved
		}
	}
	if on == authz.ResourceClient || on == authz.ResourceNote || on == authz.ResourceDocument {
		h.clientFacts(&f, client, practice, user, now)
	}
	if h.seldom() {
		f = f.Hidden()
	}
	return r, f
}

func (h *history) clientFacts(f *authz.Facts, client, practice, user string, now time.Time) {
	f.Client = &authz.Client{ID: client, Practice: practice, Status: authz.ClientActive}
	if h.IntN(3) == 0 {
		f.Client.Assigned = user
	} else if h.IntN(2) == 0 {
		f.Client.Assigned = "practitioner-99"
	}
	if h.IntN(8) == 0 {
		f.Client.Status = authz.ClientArchived
	}
	if f.Member != nil && h.IntN(2) == 0 {
		f.Grant = &authz.Grant{Scope: []string{authz.ScopeView, authz.ScopeCollaborate}[h.IntN(2)], NotBefore: now.Add(time.Duration(h.IntN(4)-3) * time.Hour),
			ExpiresAt: []time.Time{authz.NoEnd, now.Add(2 * time.Hour), now}[h.IntN(3)]}
		if !f.Grant.NotBefore.Before(f.Grant.ExpiresAt) {
			f.Grant.NotBefore = f.Grant.ExpiresAt.Add(-time.Hour)
		}
	}
}

// verdict is a question, decided, as it would be recorded. Of two hundred one
// could not be decided, one is of somebody's own bundle, and one is a list.
func (h *history) verdict(t testing.TB) authz.Verdict {
	r, f := h.question()
	v := authz.NewVerdict(r, h.engine.Revision(), "")
	v.ID, v.At = h.uuid(), f.Now
	switch h.IntN(200) {
	case 0:
		return v
	case 1:
		v.Input = []byte(`{"subject": {"id": "somebody"}}`)
		v.Exact = authz.Decision{Allow: true, Code: "allowed"}
		return v
	case 2:
		v.Facts, v.Input = f, []byte(`{"listed": ["client-1"]}`)
		v.Exact = authz.Decision{Code: authz.CodeListed, Bases: []string{}}
		return v
	}
	v.Facts = f
	var err error
	if v.Exact, err = h.engine.Evaluate(t.Context(), v.Request, f); err != nil {
		t.Fatal(err)
	}
	return v
}

// stored is where decisions were recorded: the segments of a spool, and the
// database that they were shipped to.
type stored struct {
	control  *pgxpool.Pool
	segments []string
	verdicts []authz.Verdict
}

// keep records n decisions of h through a spool, and ships them.
func (h *history) keep(t testing.TB, n int) stored {
	t.Helper()
	url := pgtest.URL(t)
	s := stored{control: pgtest.PoolAs(t, url, postgres.RoleControl)}
	folder := t.TempDir()
	spool, err := record.OpenSpool(folder, record.Options{SyncInterval: time.Hour, MaxBytes: 1 << 40, SegmentBytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	for len(s.verdicts) < n {
		var group []authz.Verdict
		for range min(1+h.IntN(500), n-len(s.verdicts)) {
			group = append(group, h.verdict(t))
		}
		if err := spool.Record(t.Context(), group...); err != nil {
			t.Fatal(err)
		}
		s.verdicts = append(s.verdicts, group...)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	s.segments, _ = filepath.Glob(filepath.Join(folder, "*", "*.seg"))
	for i, name := range s.segments { // shipping takes them away
		s.segments[i] = filepath.Join(t.TempDir(), "copy.seg")
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(s.segments[i], text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if spool, err = record.OpenSpool(folder, record.Options{SyncInterval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := record.NewShipper(spool, pgtest.PoolAs(t, url, postgres.RoleSidecar)).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

var replayer = record.Read{Actor: "admin-1", Reason: "a test"}

// fromDatabase begins to read what is in the database.
func (s stored) fromDatabase(t testing.TB, q record.Query, limit int) *record.Stream {
	t.Helper()
	stream, err := record.OpenStream(t.Context(), s.control, replayer, q, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	return stream
}

func (s stored) fromFile(t testing.TB, q record.Query, limit int) *record.File {
	t.Helper()
	file, err := record.OpenFile(s.segments[0], q, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(file.Close)
	return file
}
