package pdp_test

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// TestBrokenGuaranteesRaiseAnAlarm gives the engine facts that no loader can
// make, one after another: OPA decides on them, as it would without a program,
// each kind is logged once, without anybody's name, and all are counted.
func TestBrokenGuaranteesRaiseAnAlarm(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	reference, e := shipped(t), shipped(t)
	e.Attach(programOf(t, e))

	sound := func() (authz.Request, authz.Facts) {
		r, f := aChart(t)
		f.Grant = &authz.Grant{Scope: authz.ScopeView, NotBefore: noon, ExpiresAt: authz.NoEnd}
		return r, f
	}
	r, f := sound()
	if d, err := e.Evaluate(t.Context(), r, f); err != nil || !d.Allow || e.Counts().Program.Load() != 1 || log.Len() > 0 {
		t.Fatalf("sound facts: %+v, %v, %s", d, err, log.String())
	}
	breaks := map[compile.Guarantee]func(r *authz.Request, f *authz.Facts){
		compile.ClockWritable:   func(_ *authz.Request, f *authz.Facts) { f.Latest = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
		compile.GrantTimes:      func(_ *authz.Request, f *authz.Facts) { f.Grant.ExpiresAt = f.Grant.NotBefore },
		compile.GrantScope:      func(_ *authz.Request, f *authz.Facts) { f.Grant.Scope = "all" },
		compile.PropertiesJSON:  func(r *authz.Request, _ *authz.Facts) { r.Resource.Properties = authz.Properties{"kind": math.NaN()} },
		compile.MemberIsSubject: func(_ *authz.Request, f *authz.Facts) { f.Member.User = "practitioner-1" },
		compile.MemberStatus:    func(_ *authz.Request, f *authz.Facts) { f.Member.Status = "suspended" },
		compile.ClientPractice:  func(_ *authz.Request, f *authz.Facts) { f.Client.Practice = "practice-2" },
		compile.ClientStatus:    func(_ *authz.Request, f *authz.Facts) { f.Client.Status = "merged" },
	}
	for g := compile.Kept + 1; g < compile.Guarantees; g++ {
		if breaks[g] == nil {
			t.Errorf("%s is not broken", g)
			continue
		}
		for range 3 {
			r, f := sound()
			breaks[g](&r, &f)
			want, errWant := reference.Evaluate(t.Context(), r, f)
			got, err := e.Evaluate(t.Context(), r, f)
			if !compile.Same(got, want) || (err == nil) != (errWant == nil) {
				t.Errorf("%s: %+v, %v, and OPA %+v, %v", g, got, err, want, errWant)
			}
		}
		if n := e.Counts().Broken[g].Load(); n != 3 {
			t.Errorf("%s: counted %d times", g, n)
		}
		if n := strings.Count(log.String(), "guarantee="+g.String()+" "); n != 1 {
			t.Errorf("%s: logged %d times", g, n)
		}
	}
	if e.Counts().Program.Load() != 1 || strings.Contains(log.String(), "practitioner-") || strings.Contains(log.String(), "client-1") {
		t.Errorf("%d by the program; %s", e.Counts().Program.Load(), log.String())
	}
}
