package pdp

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// Fault is what went wrong inside a policy while it was evaluated, in the form
// of OPA's error answers.
type Fault struct {
	Code     string    `json:"code"` // such as "eval_conflict_error"
	Message  string    `json:"message"`
	Location *Location `json:"location,omitempty"`
}

// Location is a place in a policy.
type Location struct {
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
}

// FaultOf finds the fault of the policy that err tells of, if it does.
func FaultOf(err error) (Fault, bool) {
	var e *topdown.Error
	if !errors.As(err, &e) {
		return Fault{}, false
	}
	f := Fault{Code: e.Code, Message: e.Message}
	if e.Location != nil {
		f.Location = &Location{File: e.Location.File, Row: e.Location.Row, Col: e.Location.Col}
	}
	return f, true
}
