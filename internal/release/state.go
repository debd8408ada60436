package release

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"chartgate/internal/authz"
)

// State is where a release stands on its way from a draft to the policy that
// decides, and out of use again.
type State string

// The states, in their order. StateAbsent is that of a release that is not there.
const (
	StateAbsent   State = ""
	StateDraft    State = "draft"    // may be changed
	StateVerified State = "verified" // every step that judges it alone has passed
	StateReviewed State = "reviewed" // every step that compares it with the active release has passed
	StateApproved State = "approved" // another person approved it: signed, and never changed again
	StateActive   State = "active"   // it decides
	StateRetired  State = "retired"  // it decided once; activated again, that is a roll-back
)

// States lists them all, in their order.
var States = []State{StateDraft, StateVerified, StateReviewed, StateApproved, StateActive, StateRetired}

// Verb is what is done to a release.
type Verb string

// The verbs.
const (
	DoCreate   Verb = "create"
	DoEdit     Verb = "edit"
	DoDelete   Verb = "delete"
	DoCheck    Verb = "check"    // run a step that judges it alone
	DoCompare  Verb = "compare"  // run a step that compares it
	DoVerify   Verb = "verify"   // what was found suffices
	DoReview   Verb = "review"   // what was found suffices
	DoApprove  Verb = "approve"  // and sign
	DoStage    Verb = "stage"    // make it the candidate: announced, in the shadow, or for a share of the practices
	DoWithdraw Verb = "withdraw" // take the candidate back
	DoActivate Verb = "activate"
	DoRetire   Verb = "retire"
)

// Party is who may do it. The scopes of DESIGN 11 are asked at the door.
type Party string

// The parties.
const (
	Drafter  Party = "whoever drafts"          // scope policy.draft
	Author   Party = "its author"              // scope policy.draft
	Another  Party = "another than its author" // scope policy.approve
	Approver Party = "whoever approves"        // scope policy.approve
	Stopper  Party = "whoever approves, and control where a sidecar saw what was not expected"
	Control  Party = "control, as a consequence" // no person
)

// Transition is one line of the table.
type Transition struct {
	From State
	Verb Verb
	By   Party
	To   State
}

// Transitions is the whole life of a release. What is not in it is refused; the
// drawing in README.md shows the same lines.
var Transitions = []Transition{
	{StateAbsent, DoCreate, Drafter, StateDraft},

	{StateDraft, DoEdit, Author, StateDraft},
	{StateVerified, DoEdit, Author, StateDraft},
	{StateReviewed, DoEdit, Author, StateDraft},
	{StateDraft, DoDelete, Drafter, StateAbsent},
	{StateVerified, DoDelete, Drafter, StateAbsent},
	{StateReviewed, DoDelete, Drafter, StateAbsent},

	{StateDraft, DoCheck, Drafter, StateDraft},
	{StateVerified, DoCheck, Drafter, StateDraft},
	{StateReviewed, DoCheck, Drafter, StateDraft},
	{StateDraft, DoCompare, Drafter, StateDraft},
	{StateVerified, DoCompare, Drafter, StateVerified},
	{StateReviewed, DoCompare, Drafter, StateVerified},
	{StateDraft, DoVerify, Control, StateVerified},
	{StateVerified, DoReview, Control, StateReviewed},

	{StateReviewed, DoApprove, Another, StateApproved},

	{StateApproved, DoStage, Approver, StateApproved},
	{StateRetired, DoStage, Approver, StateRetired},
	{StateApproved, DoWithdraw, Stopper, StateApproved},
	{StateRetired, DoWithdraw, Stopper, StateRetired},
	{StateApproved, DoActivate, Approver, StateActive},
	{StateRetired, DoActivate, Approver, StateActive},
	{StateActive, DoRetire, Control, StateRetired},
}

// next returns where verb leads from a state.
func next(from State, verb Verb) (Transition, error) {
	for _, t := range Transitions {
		if t.From == from && t.Verb == verb {
			return t, nil
		}
	}
	return Transition{}, wrongState(from, verb)
}

// Possible lists what a person can do to a release in this state.
func Possible(from State) []Verb {
	verbs := []Verb{}
	for _, t := range Transitions {
		if t.From == from && t.By != Control && !slices.Contains(verbs, t.Verb) {
			verbs = append(verbs, t.Verb)
		}
	}
	return verbs
}

// wrongState refuses a verb that the table does not have (409).
func wrongState(from State, verb Verb) error {
	var words []string
	for _, v := range Possible(from) {
		words = append(words, string(v))
	}
	possible := strings.Join(words, ", ")
	if possible == "" {
		possible = "nothing"
	}
	return &authz.Problem{Kind: authz.ErrConflict, Type: "release-state",
		Detail: fmt.Sprintf("a release that is %s takes no %s; possible: %s", from, verb, possible),
		Extra:  map[string]any{"state": string(from), "possible": Possible(from)}}
}

// Person is who acts on releases: a JWT's person, or the one that a key was
// made for (DESIGN 11, Callers).
type Person struct {
	ID     string
	Single string // why this one may be author and approver both; "" for everybody else
}

// shippedBy is the author and approver of what ships with the product. No
// person may have that name.
const shippedBy = "chartgate"

// may refuses who is not the party of a transition (403). Author and approver
// of a release are two people (promise P7).
func (p Person) may(t Transition, r *Release) error {
	switch {
	case p.ID == "" || p.ID == shippedBy:
		return refusedPerson("a release is changed by a person only")
	case t.By == Author && p.ID != r.Author:
		return refusedPerson("only its author may change a draft; make one of your own from it")
	case t.By == Another && p.ID == r.Author && p.Single == "":
		return refusedPerson("the author of a release cannot approve it: it takes another person")
	case t.By == Control:
		return refusedPerson("control does this by itself")
	}
	return nil
}

func refusedPerson(detail string) error {
	return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Status: http.StatusForbidden, Detail: detail}
}
