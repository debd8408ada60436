package pdp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// narrowed is the shipped policy but that the assigned practitioner may do less,
// and nobody may list clients by a grant.
func narrowed(t *testing.T) map[string][]byte {
	t.Helper()
	files := shippedFiles(t)
	var tables map[string]map[string][]string
	if err := json.Unmarshal(files["tables/roles/data.json"], &tables); err != nil {
		t.Fatal(err)
	}
	tables["assigned"]["always"] = []string{authz.ActionClientList, "note.read"}
	tables["client_grant"]["view"] = []string{"chart.open"}
	files["tables/roles/data.json"], _ = json.Marshal(tables)
	files[pdp.ChecksFile] = []byte(`{"cases": [{"input": {}, "code": "unknown_action"}]}`)
	return files
}

// kept is what a source keeps of one question: facts that differ only with the
// clock, and the room beside them.
type kept struct {
	facts  authz.Facts
	grants []authz.Grant // by end
	room   *authz.Precedents
}

// clockwork is a source that gives the same facts out again and again, at a time
// that the test sets, with the room beside them or without.
type clockwork struct {
	now, latest time.Time
	kept        map[string]*kept // by client
	roomless    bool
	store
}

func (c *clockwork) Facts(_ context.Context, r authz.Request) (authz.Facts, error) {
	k := c.kept[r.Resource.Client()]
	if k == nil {
		return authz.Facts{Now: c.now, Latest: c.latest}, nil
	}
	f := k.facts
	f.Now, f.Latest = c.now, c.latest
	if i := slices.IndexFunc(k.grants, func(g authz.Grant) bool { return c.latest.Before(g.ExpiresAt) }); i >= 0 {
		f.Grant = &k.grants[i]
	}
	if !c.roomless {
		f.Precedents = k.room
	}
	return f, nil
}

// Whoever follows precedents answers as who has none, to the last word, while the
// clock runs, facts change, programs are switched off and on, releases come and
// go, and decide for a share of the practices (promises P1, P7, P8).
func TestPrecedentsChangeNoAnswer(t *testing.T) {
	d := newDesk(t)
	d.o.Shipped = shipped(t)
	d.o.Certify = func(_ context.Context, e *pdp.Engine) { e.Attach(programOf(t, e)) }
	d.Releases = pdp.NewReleases(d.o)
	stop := d.runs(t)
	defer stop()
	revision := int64(0)
	release := func(files map[string][]byte) feed.Release {
		revision++
		name := fmt.Sprint("release-", revision)
		d.control.put(name, d.signer.sign(t, files, sealed(name, revision), pdp.SignatureScope))
		return feed.Release{Name: name, Content: pdp.Content(files), Revision: revision}
	}
	variants := []map[string][]byte{shippedFiles(t), narrowed(t)}
	preset, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	programs := map[*pdp.Engine]*compile.Program{}
	followed, shared, allowed, differed := 0, 0, 0, 0
	serial := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, name) }
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		minutes := func(name string) time.Time { return noon.Add(time.Duration(draw(name, 9)) * time.Minute) }
		c := &clockwork{now: noon, latest: noon, kept: map[string]*kept{}}
		fill := func(client string) {
			k := &kept{room: &authz.Precedents{}, facts: authz.Facts{Practice: "practice-" + client, Settings: preset, Revision: client,
				Client: &authz.Client{ID: client, Practice: "practice-" + client, Status: "active"}}}
			if draw("assigned", 3) == 0 {
				k.facts.Client.Assigned = "practitioner-1"
			}
			if draw("archived", 4) == 0 {
				k.facts.Client.Status = "archived"
			}
			if draw("member", 5) > 0 {
				k.facts.Member = &authz.Member{ID: "m", User: "practitioner-1", Practice: k.facts.Practice, Roles: []string{"practitioner"}, Status: "active"}
			}
			for at := minutes("first grant"); len(k.grants) < draw("grants", 3); {
				end := at.Add(time.Duration(1+draw("length", 3)) * time.Minute)
				k.grants = append(k.grants, authz.Grant{Scope: []string{"view", "collaborate"}[draw("scope", 2)], NotBefore: at, ExpiresAt: end})
				at = end
			}
			c.kept[client] = k
		}
		for _, client := range []string{"a", "b", "c", "d"} {
			fill(client)
		}
		source := pdp.Follow(d.Releases, c, c)
		for range rapid.IntRange(10, 80).Draw(rt, "steps") {
			switch draw("step", 40) {
			case 0, 1, 2, 3, 4, 5, 6, 7:
				c.now = minutes("now")
				c.latest = c.now.Add(time.Duration(draw("how well known", 3)-1) * time.Second)
			case 8:
				fill([]string{"a", "b", "c", "d"}[draw("which", 4)])
			case 9: // another activation, of which a part may be a share
				serial++
				a := feed.Activation{Serial: serial, Active: release(variants[draw("active", 2)])}
				if draw("staged", 2) == 0 {
					a.Candidate, a.Stage, a.Share = release(variants[draw("candidate", 2)]), feed.StageShare, 50
				}
				d.activate(a)
				until(t, "the release decides", func() bool { return d.hear(t) == nil }) // a poll waits a second for it
			case 10: // a program is switched off, or another takes its place
				set, _ := source.Policies(t.Context(), 0)
				e := set.Deciding()[draw("engine", len(set.Deciding()))]
				if p := e.Program(); p != nil {
					programs[e] = p
					e.Attach(nil)
				}
			case 11, 12, 13:
				for e, p := range programs {
					e.Attach(p)
				}
				clear(programs)
			default:
				r := authz.Request{Subject: authz.Subject{Type: "user", ID: "practitioner-1"}, Resource: authz.Resource{Type: "client"}}
				r.Action = []string{"chart.open", "client.list", "demographics.write"}[draw("action", 3)]
				if draw("unknown action", 40) == 0 {
					r.Action = "no.such"
				}
				r.Resource.ID = []string{"a", "b", "c", "d", "none"}[draw("client", 5)]
				scope := pdp.Scope{All: draw("scope of the caller", 8) > 0, Practices: []string{"practice-a"}}
				if c.roomless = true; draw("another purpose", 6) == 0 {
					r.Context.Purpose = "treatment"
				}
				want, err1 := source.Decide(t.Context(), scope, r, "")
				c.roomless = false
				got, err2 := source.Decide(t.Context(), scope, r, "")
				ignored := cmp.Options{cmpopts.IgnoreFields(authz.Verdict{}, "ID", "At", "Precedent"), cmpopts.IgnoreFields(authz.Facts{}, "Precedents"), cmp.AllowUnexported(authz.Settings{})}
				if diff := cmp.Diff(want, got, ignored); diff != "" || err1 != nil || err2 != nil {
					rt.Fatalf("%v, %v (-on its own +following)\n%s", err1, err2, diff)
				}
				if got.Precedent != nil {
					followed++
				}
				if got.Named != got.Release {
					shared++
				}
				if got.Shown.Allow {
					allowed++
				} else if got.Shown.Code != got.Exact.Code {
					differed++
				}
			}
		}
	})
	t.Logf("%d followed, %d in another's name, %d allowed, %d hidden", followed, shared, allowed, differed)
	if followed < 100 || shared == 0 || allowed == 0 || differed == 0 {
		t.Errorf("%d followed, %d in another's name, %d allowed, %d hidden: too little was tested", followed, shared, allowed, differed)
	}
}
