package authz

import "time"

// Decision is the verdict on one request. The zero Decision denies.
type Decision struct {
	Allow       bool
	Code        string     // the most specific basis, or the denial's code
	Bases       []string   // every basis that holds, in the order of BasisOrder; empty on a denial
	ReasonAdmin string     // a sentence for the administrator, in English
	ReasonUser  string     // a sentence for the person who asked, in English
	ValidUntil  *time.Time // set only where every basis that holds has an end: the latest of them
}

// Codes of a denial that the PDP itself must know (DESIGN 11). The policy
// knows them all.
const (
	CodeUnknownAction = "unknown_action"
	CodeBadInput      = "bad_input"
	CodeOtherPractice = "other_practice"
	CodeNoBasis       = "no_basis"
	CodeUnavailable   = "unavailable" // on record only: facts, policy or record could not be had
	CodeListed        = "listed"      // on record only: not one answer, but a list of what is allowed
)

// ActionClientList is the action that says whether a subject may know that a
// client exists (promise P8).
const ActionClientList = "client.list"

// ActionPortalEnter is what says the same of a portal login: a profile that it
// may enter is in its switcher (DESIGN 11, the portal's routes).
const ActionPortalEnter = "portal.profile.enter"

// BasisOrder lists the bases from the most specific to the least (DESIGN 11).
var BasisOrder = []string{
	"assigned", "client_grant", "full_clinical_access", "administrator",
	"scheduler", "biller", "forms_administrator", "practitioner", "portal_own", "portal_access",
}
