package compile

import (
	"chartgate/internal/authz"
)

// Guarantee is something that the loaders promise of every live document, and
// that a certificate, or the SQL of lists, rests on.
type Guarantee uint8

// The guarantees, and who keeps each.
const (
	Kept            Guarantee = iota // none is broken
	ClockWritable                    // the clock stands in the years 1 to 9999: what a clock is
	GrantTimes                       // a grant begins before it ends, both in those years: a CHECK of grants
	GrantScope                       // it is to view or to collaborate: a CHECK of grants
	PropertiesJSON                   // properties are JSON: the door
	MemberIsSubject                  // the membership is the subject's own, in the practice of the resource: the loader
	MemberStatus                     // it is invited, active or removed: a CHECK of members
	ClientPractice                   // the client is of the practice of the resource: the loader
	ClientStatus                     // it is active or archived: a CHECK of clients
	Guarantees                       // how many there are, Kept included
)

var guaranteeNames = [Guarantees]string{"kept", "clock", "grant_times", "grant_scope", "properties", "member", "member_status", "client", "client_status"}

// String is the guarantee's name in logs and metrics.
func (g Guarantee) String() string {
	if g < Guarantees {
		return guaranteeNames[g]
	}
	return "unknown"
}

// Broken returns a guarantee that the facts of a live request break, Kept if
// they keep all. It compares a few words and costs some nanoseconds.
//
// The certificate itself takes almost nothing for granted: unknown words and
// facts of several practices are points of its space. The lists do, since their
// SQL asks rows what the tables' CHECKs leave open. Facts that break either are
// no document that was reckoned with, so OPA is to decide on them.
func Broken(r *authz.Request, f *authz.Facts) Guarantee {
	if m := f.Member; m != nil {
		switch {
		case m.Status != authz.MemberActive && m.Status != authz.MemberInvited && m.Status != authz.MemberRemoved:
			return MemberStatus
		case m.User != r.Subject.ID, f.Practice != "" && m.Practice != f.Practice:
			return MemberIsSubject
		}
	}
	if c := f.Client; c != nil {
		switch {
		case c.Status != authz.ClientActive && c.Status != authz.ClientArchived:
			return ClientStatus
		case f.Practice != "" && c.Practice != f.Practice:
			return ClientPractice
		}
	}
	if g := f.Grant; g != nil {
		switch {
		case g.Scope != authz.ScopeView && g.Scope != authz.ScopeCollaborate:
			return GrantScope
		case !g.NotBefore.Before(g.ExpiresAt):
			return GrantTimes
		}
	}
	return Kept
}

// unwritable says which of the guarantees of Program.Decide is broken: those
// that it must look at itself (see guaranteed).
func unwritable(r *authz.Request, f *authz.Facts) Guarantee {
	switch g := f.Grant; {
	case !f.Now.IsZero() && !writable(f.Now), !f.Latest.IsZero() && !writable(f.Latest):
		return ClockWritable
	case g != nil && (!writable(g.NotBefore) || !writable(g.ExpiresAt)):
		return GrantTimes
	}
	for _, v := range r.Resource.Properties {
		if !isJSON(v, 0) {
			return PropertiesJSON
		}
	}
	return Kept
}
