package profiles

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/facts"

	"pgregory.net/rapid"
)

// actions of staff whose answers a link must never change.
var staffActions = []string{"client.list", "chart.open", "demographics.write", "billing.read", "access.manage"}

// world is what a random sequence has to work with.
type world struct {
	*bench
	clients []string
	known   map[string]string // what bases gave last; nil when something else has changed since
	codes   []struct{ client, contact, code string }
}

// bases are the bases of members on every client.
func (w *world) bases(r *rapid.T) map[string]string {
	all := map[string]string{}
	for _, who := range []string{"practitioner-1", "practitioner-2", "practitioner-full"} {
		for _, client := range w.clients {
			q := authz.Request{Subject: user(who), Resource: authz.Resource{Type: "client", ID: client}}
			f, err := facts.Load(w.t.Context(), w.db, w.authority.Deployment, q)
			if err != nil {
				r.Fatal(err)
			}
			for _, q.Action = range staffActions {
				d, err := w.authority.Engine.Evaluate(w.t.Context(), q, f)
				if err != nil {
					r.Fatal(err)
				}
				all[who+" "+q.Action+" "+client] = fmt.Sprint(d.Bases)
			}
		}
	}
	return all
}

// enabledLinks are, told by the tables alone, the logins that have an accepted,
// enabled link to an active client.
func (w *world) enabledLinks() map[string]bool {
	all := map[string]bool{}
	for _, line := range w.texts(`SELECT a.login || ' ' || a.client FROM portal_access a JOIN clients c ON c.id = a.client
		LEFT JOIN contact_links l ON l.client = a.client AND l.contact = a.contact
		WHERE a.login IS NOT NULL AND a.enabled AND c.status = 'active' AND (a.own OR l.contact IS NOT NULL)`) {
		all[line] = true
	}
	return all
}

// Over random sequences of create, link, unlink, invite, accept, permit,
// reassign and archive, no portal login reaches a profile without an enabled
// link to it, and no member gains a basis from a link.
func TestNoLoginWithoutALinkAndNoBasisFromOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(r *rapid.T) {
		w := &world{bench: b, clients: b.texts(`SELECT id::text FROM clients WHERE practice = 'practice-1' ORDER BY created_at DESC LIMIT 3`)}
		w.clients = append(w.clients, "client-1")
		for range rapid.IntRange(3, 8).Draw(r, "steps") {
			w.step(r)
		}
		links := w.enabledLinks()
		for _, login := range []string{"portal-1", "portal-2", "portal-3"} {
			entries, err := b.Profiles(t.Context(), portal(login), every)
			if err != nil {
				r.Fatal(err)
			}
			listed := map[string]bool{}
			for _, e := range entries {
				listed[e.Client] = true
			}
			for _, client := range w.clients {
				entered := w.decide(authz.Request{Subject: portal(login), Action: "portal.profile.enter", Resource: authz.Resource{Type: "client", ID: client}}).Allow
				if entered != links[login+" "+client] || entered != listed[client] {
					r.Fatalf("%s enters %s: %v; enabled link: %v; in the switcher: %v", login, client, entered, links[login+" "+client], listed[client])
				}
			}
		}
		if broken := w.texts(`SELECT s.client::text FROM profile_stars s JOIN profile_stars p ON p.client = s.primary_profile
			JOIN clients c ON c.id = s.client JOIN clients q ON q.id = p.client
			WHERE NOT p.is_primary OR c.practice <> q.practice OR (NOT s.is_primary AND c.email_folded IS NOT NULL) OR q.email_folded IS NULL`); len(broken) > 0 {
			r.Fatalf("no star: %v", broken)
		}
	})
}

// step does something that may be refused. If it is about links, nobody of
// staff may come to anything by it.
func (w *world) step(r *rapid.T) {
	ctx := w.t.Context()
	pick := func(label string) string { return rapid.SampledFrom(w.clients).Draw(r, label) }
	login := func() string { return rapid.SampledFrom([]string{"portal-1", "portal-2", "portal-3"}).Draw(r, "login") }
	contactOf := func(client string) string {
		all := append(w.texts(`SELECT contact::text FROM portal_access WHERE client = $1 ORDER BY contact`, client), authz.ContactOwn)
		return rapid.SampledFrom(all).Draw(r, "contact")
	}
	what := rapid.SampledFrom([]string{"create", "link", "link", "unlink", "invite", "invite", "accept", "accept", "permit", "permit", "reassign", "archive", "features"}).Draw(r, "what")
	aboutLinks := slices.Contains([]string{"link", "unlink", "invite", "accept", "permit", "features"}, what)
	if aboutLinks && w.known == nil {
		w.known = w.bases(r)
	}
	client := pick("client")
	switch what {
	case "create":
		c, err := w.Create(ctx, admin, "practice-1", NewClient{FirstName: "Client", LastName: "New", Label: "OT", Assigned: rapid.SampledFrom([]string{"", "practitioner-1", "practitioner-2"}).Draw(r, "assigned")})
		if err != nil {
			r.Fatal(err)
		}
		w.clients = append(w.clients, c.ID)
	case "link":
		n := NewContact{ExistingClient: pick("other"), Relationship: rapid.SampledFrom([]string{"self", "self", "spouse"}).Draw(r, "relationship")}
		if rapid.Bool().Draw(r, "a person") {
			n = NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"}
		}
		_, _, _ = w.AddContact(ctx, admin, "practice-1", client, n)
	case "unlink":
		_ = w.Unlink(ctx, admin, "practice-1", client, contactOf(client))
	case "invite":
		contact := contactOf(client)
		if i, err := w.Invite(ctx, admin, "practice-1", client, contact); err == nil {
			w.codes = append(w.codes, struct{ client, contact, code string }{client, contact, i.Code})
		}
	case "accept":
		if len(w.codes) > 0 {
			_, _ = w.Accept(ctx, portal(login()), rapid.SampledFrom(w.codes).Draw(r, "code").code, every)
		}
	case "permit":
		_, _ = w.Permit(ctx, admin, "practice-1", client, contactOf(client), rapid.Bool().Draw(r, "on"), rapid.SliceOfDistinct(rapid.SampledFrom(authz.PortalPermissions), rapid.ID).Draw(r, "permissions"))
	case "features":
		_, _ = w.Narrow(ctx, admin, "practice-1", client, rapid.SliceOfDistinct(rapid.SampledFrom(authz.PortalFeatures), rapid.ID).Draw(r, "features"))
	case "reassign":
		w.exec(`UPDATE clients SET assigned = $2 WHERE id = $1`, client, rapid.SampledFrom([]string{"practitioner-1", "practitioner-2"}).Draw(r, "assigned"))
	case "archive":
		if _, err := w.Archive(ctx, admin, "practice-1", client); err != nil {
			r.Fatal(err)
		}
		if rapid.Bool().Draw(r, "and back") {
			if _, err := w.Reactivate(ctx, admin, "practice-1", client, true); err != nil {
				r.Fatal(err)
			}
		}
	}
	if !aboutLinks {
		w.known = nil
	} else if after := w.bases(r); !maps.Equal(w.known, after) {
		r.Fatalf("%s on %s changed what staff may do", what, client)
	}
}
