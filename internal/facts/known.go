package facts

import (
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
)

// ask is what has to be looked up for a request: the key of its facts.
type ask struct {
	client   string // "" when the resource belongs to no client
	practice string // named by the resource itself; "" when the client leads to it
	user     string // "" when the subject is no user
	login    string // "" when the subject is no portal login
}

func askOf(r authz.Request) ask {
	a := ask{client: r.Resource.Client()}
	if a.client == "" {
		a.practice = r.Resource.Practice()
	}
	switch {
	case !authz.ValidID(r.Subject.ID):
	case r.Subject.Type == authz.SubjectUser:
		a.user = r.Subject.ID
	case r.Subject.Type == authz.SubjectPortal:
		a.login = r.Subject.ID
	}
	return a
}

// nothing reports that no fact can be known, whatever the database holds.
func (a ask) nothing() bool { return a.client == "" && a.practice == "" }

// known is what the database holds for an ask. It does not depend on the time,
// so that it stays true until one of its rows is written.
type known struct {
	Practice   string
	Client     *authz.Client
	Member     *authz.Member
	Grants     []authz.Grant     // not ended when read, by start; they never overlap
	Portal     *authz.Portal     // without its features
	settings   *authz.Settings   // of Preset and Overrides
	precedents *authz.Precedents // of one question; nil where it is not kept whole
	Offered    []string          // portal features of the practice
	Left       []string          // what the client's narrowing leaves of them; nil: all
	Preset     string
	Overrides  []byte
}

// at returns the facts as they are at a time between now and latest.
func (k *known) at(now, latest time.Time, revision string) authz.Facts {
	return authz.Facts{
		Now: now, Latest: latest, Revision: revision, Practice: k.Practice,
		Client: k.Client, Member: k.Member, Settings: k.settings,
		Grant: grantAt(k.Grants, latest), Portal: k.portal(), Precedents: k.precedents,
	}
}

// portal returns the login's access with its features: those that the practice
// offers and that are not narrowed for the client.
func (k *known) portal() *authz.Portal {
	if k.Portal == nil {
		return nil
	}
	p := *k.Portal
	p.Features = make([]string, 0, len(k.Offered))
	for _, feature := range k.Offered {
		if k.Left == nil || slices.Contains(k.Left, feature) {
			p.Features = append(p.Features, feature)
		}
	}
	return &p
}

// grantAt picks the grant in force at now, else the next to come. A grant that
// is not yet in force is not the fact while another is (DESIGN 11, Facts).
func grantAt(grants []authz.Grant, now time.Time) *authz.Grant {
	for i := range grants {
		if now.Before(grants[i].ExpiresAt) {
			return &grants[i]
		}
	}
	return nil
}

// keys are what k rests on: a change under one of them may make it untrue.
func (k known) keys(a ask) []feed.Key {
	keys := make([]feed.Key, 0, 5)
	if a.client != "" {
		keys = append(keys, clientKey(a.client))
	}
	if id := k.practiceOr(a); id != "" {
		keys = append(keys, settingsKey(id))
		if a.user != "" {
			keys = append(keys, memberKey(id, a.user))
		}
	}
	if a.client != "" && a.user != "" {
		keys = append(keys, grantKey(a.client, a.user))
	}
	if a.client != "" && a.login != "" {
		keys = append(keys, portalKey(a.client, a.login))
	}
	return keys
}

// practiceOr returns the practice of k, or the one that was asked about.
func (k known) practiceOr(a ask) string {
	if k.Practice != "" {
		return k.Practice
	}
	return a.practice
}

func clientKey(id string) feed.Key         { return feed.Key{Kind: feed.KindClient, A: id} }
func settingsKey(practice string) feed.Key { return feed.Key{Kind: feed.KindSettings, A: practice} }
func memberKey(practice, user string) feed.Key {
	return feed.Key{Kind: feed.KindMember, A: practice, B: user}
}
func grantKey(client, user string) feed.Key {
	return feed.Key{Kind: feed.KindGrant, A: client, B: user}
}
func portalKey(client, login string) feed.Key {
	return feed.Key{Kind: feed.KindPortal, A: client, B: login}
}

// revive fills in what is not kept in the stored form.
func (k *known) revive() error {
	if k.Practice == "" {
		return nil
	}
	s, err := readSettings(k.Preset, k.Overrides)
	if err != nil {
		return fmt.Errorf("settings of a practice: %w", err)
	}
	k.settings = s
	return nil
}
