package authz

import "time"

// TimeLayout is the one form of a time in the facts document: UTC, six
// decimals, "Z" (DESIGN 5). Times of this form compare as text.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// NoEnd stands for "has no end" wherever an end must stand (DESIGN 11, Facts).
var NoEnd = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)

// FormatTime writes t in TimeLayout, cut (not rounded) to microseconds.
func FormatTime(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format(TimeLayout)
}

// Member status, client status and grant scope (DESIGN 11, Words).
const (
	MemberInvited = "invited"
	MemberActive  = "active"
	MemberRemoved = "removed"

	ClientActive   = "active"
	ClientArchived = "archived"

	ScopeView        = "view"
	ScopeCollaborate = "collaborate"
)

// Roles (DESIGN 11, Words).
const (
	RoleAdministrator = "administrator"
	RolePractitioner  = "practitioner"
	RoleScheduler     = "scheduler"
	RoleBiller        = "biller"
	RoleForms         = "forms_administrator"
	RoleSupervisor    = "supervisor"
)

// Roles lists every role that a member can hold.
var Roles = []string{RoleAdministrator, RolePractitioner, RoleScheduler, RoleBiller, RoleForms, RoleSupervisor}

// ContactOwn is the contact that stands for the client himself, with a login of
// his own. It is not relationship "self" (DESIGN 11, Facts).
const ContactOwn = "client"

// RelationshipSelf is that of a client's contact who is the same person, reached
// through another profile of his.
const RelationshipSelf = "self"

// Words of the portal (DESIGN 11, Words).
var (
	// Relationships of a contact to a client. They give nothing by themselves.
	Relationships = []string{RelationshipSelf, "parent", "guardian", "spouse", "other"}
	// PortalPermissions can be given to a contact on one client.
	PortalPermissions = []string{"view_appointments", "online_booking", "manage_information", "demographics", "legal_sex"}
	// PortalFeatures are what a practice can offer in its portal, and narrow for
	// one client.
	PortalFeatures = []string{"view_appointments", "online_booking", "cancel_appointments", "manage_information", "legal_sex", "upload_documents", "messages"}
)

// Facts is what Chartgate knows of a request, as of one snapshot of the
// database. A nil part is unknown or does not exist, and can only take away.
type Facts struct {
	Now      time.Time // the primary's clock is not before this; starts are judged by it
	Latest   time.Time // the primary's clock is not after this; ends are judged by it
	Revision string    // token of the snapshot (DESIGN 11, Headers)
	Practice string    // the practice that the resource belongs to; "" when there is no such resource
	Degraded string    // why the facts could not come from memory; "" when they could (DESIGN 11, Headers)
	// Activation is the serial of the policy's activation in the same snapshot:
	// no older policy may decide on these facts. 0 where the lease that vouches
	// for the facts vouches for the policy too.
	Activation int64

	Member   *Member
	Client   *Client
	Grant    *Grant
	Portal   *Portal
	Settings *Settings

	// Precedents is room beside these facts, as their source gave them out. Whoever
	// changes them must not use it.
	Precedents *Precedents
}

// Lookup is a request, and what is known for it, or why that cannot be told.
type Lookup struct {
	Request  *Request
	Unshared bool // the cache that all share has been asked already, in vain
	Facts    Facts
	Err      error
}

// Member is the subject's membership in the resource's practice.
type Member struct {
	ID                 string // of the membership; new after a re-invitation (DOMAIN rule 58)
	User               string
	Practice           string
	Roles              []string
	Status             string
	Owner              bool
	FullClinicalAccess bool
	BillingEnabled     bool
}

// Client is the client that the resource belongs to.
type Client struct {
	ID       string
	Practice string
	Assigned string // user id of the assigned practitioner; "" when nobody is
	Status   string
}

// Grant is this subject's grant on this client: the one in force, else the
// next to come. One that ended is no fact any more. Its interval is half-open.
type Grant struct {
	Scope     string
	NotBefore time.Time
	ExpiresAt time.Time // NoEnd when it has none
}

// Portal is a portal login's access on this client (DESIGN 11, Facts).
type Portal struct {
	Contact      string
	Enabled      bool
	Own          bool     // the client's own login, which is not relationship "self"
	Relationship string   // "" for the client himself
	Permissions  []string // the effective ones
	Features     []string // on in the practice and not narrowed for this client
}

// Hidden returns the facts of a resource that the asking service may not know
// of: those of one that does not exist (promises P5, P8; DOMAIN rule 109).
func (f Facts) Hidden() Facts {
	return Facts{Now: f.Now, Latest: f.Latest, Revision: f.Revision, Degraded: f.Degraded, Activation: f.Activation}
}
