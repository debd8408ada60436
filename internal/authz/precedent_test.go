package authz_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"

	"pgregory.net/rapid"
)

// A precedent is followed by the same program, on the same question, with the
// same grant, at a time of its span, and by nobody else.
func TestWhoFollowsAPrecedent(t *testing.T) {
	texts := rapid.SampledFrom([]string{"", "a", "b", "ab"})
	grants := []*authz.Grant{nil, {Scope: "view"}, {Scope: "view"}}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	drawRequest := func(t *rapid.T) authz.Request {
		text := func(name string) string { return texts.Draw(t, name) }
		return authz.Request{Subject: authz.Subject{Type: text("subject type"), ID: text("subject")}, Action: text("action"),
			Resource: authz.Resource{Type: text("type"), ID: text("id")},
			Context:  authz.Context{Purpose: text("purpose"), PortalProfile: text("profile"), MinRevision: text("revision")}}
	}
	drawFacts := func(t *rapid.T) authz.Facts {
		minutes := func(name string) time.Time {
			return noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, name)) * time.Minute)
		}
		return authz.Facts{Now: minutes("now"), Latest: minutes("latest"), Grant: rapid.SampledFrom(grants).Draw(t, "grant")}
	}
	followed := 0
	rapid.Check(t, func(t *rapid.T) {
		var room authz.Precedents
		var asked []authz.Request
		for range rapid.IntRange(1, 12).Draw(t, "precedents") {
			r, f := drawRequest(t), drawFacts(t)
			if len(asked) > 0 && rapid.Bool().Draw(t, "again") {
				r = rapid.SampledFrom(asked).Draw(t, "which")
			}
			asked = append(asked, r)
			span := authz.Always
			span.Now.From = noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "from")) * time.Minute).UnixMicro()
			span.Latest.To = noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "to")) * time.Minute).UnixMicro()
			by := rapid.Uint64Range(1, 2).Draw(t, "by")
			if set := room.Of(by, &r, &f); set != nil {
				latest := f.Latest
				if latest.Before(f.Now) {
					latest = f.Now
				}
				at, end := f.Now.UnixMicro(), latest.UnixMicro()
				if set.By != by || set.Grant != f.Grant || set.Exact.Code != fmt.Sprintf("%q", r) || at < set.Span.Now.From || at > set.Span.Now.To || end < set.Span.Latest.From || end > set.Span.Latest.To {
					t.Fatalf("%+v by %d on %+v follows %+v", r, by, f, set)
				}
				followed++
				continue
			}
			exact := authz.Decision{Code: fmt.Sprintf("%q", r)}
			if set := room.Set(by, &r, &f, span, exact, exact); set != nil && room.Of(by, &r, &f) != set {
				t.Fatalf("%+v is not followed by its own question", set)
			}
		}
	})
	if followed == 0 {
		t.Error("nobody followed: nothing was tested")
	}
}

// Questions with properties, facts without a room or a clock, and decisions that
// hold at no time set none.
func TestWhatSetsNoPrecedent(t *testing.T) {
	f := authz.Facts{Now: time.Now(), Latest: time.Now()}
	room := &authz.Precedents{}
	long := authz.Request{Context: authz.Context{MinRevision: strings.Repeat("x", 1<<16)}}
	for name, tried := range map[string]struct {
		room *authz.Precedents
		r    authz.Request
		f    authz.Facts
		span authz.Span
	}{
		"no room":    {nil, authz.Request{}, f, authz.Always},
		"properties": {room, authz.Request{Resource: authz.Resource{Properties: authz.Properties{}}}, f, authz.Always},
		"no clock":   {room, authz.Request{}, authz.Facts{}, authz.Always},
		"no time":    {room, authz.Request{}, f, authz.Never},
		"too long":   {room, long, f, authz.Always},
	} {
		if tried.room.Set(0, &tried.r, &tried.f, tried.span, authz.Decision{}, authz.Decision{}) != nil {
			t.Errorf("%s: it is set", name)
		}
		if tried.room.Of(0, &tried.r, &tried.f) != nil {
			t.Errorf("%s: it is followed", name)
		}
	}
}

// What is shown is what was to be shown, and room that is full is left alone.
func TestPrecedentsOfTheFirstQuestionsStay(t *testing.T) {
	f := authz.Facts{Now: time.Now(), Latest: time.Now()}
	var room authz.Precedents
	asked := []authz.Request{{Action: "a"}, {Action: "b"}, {Action: "c"}}
	exact, hidden := authz.Decision{Code: "scope"}, authz.Decision{Code: authz.CodeNoBasis}
	for i := range asked {
		set := room.Set(1, &asked[i], &f, authz.Always, exact, hidden)
		if set == nil != (i == 2) {
			t.Errorf("question %d: %v", i, set)
		}
	}
	if set := room.Of(1, &asked[0], &f); set == nil || set.Exact.Code != "scope" || set.Shown.Code != authz.CodeNoBasis {
		t.Errorf("%+v", set)
	}
	if set := room.Set(2, &asked[2], &f, authz.Always, exact, exact); set == nil || room.Of(2, &asked[2], &f).Shown.Code != "scope" {
		t.Error("what another program decided takes up room")
	}
}
