package authz

import "errors"

// The five errors. Everything that goes wrong in Chartgate is one of them;
// web turns each into a status, in one table.
var (
	ErrMalformed   = errors.New("malformed request")                            // the input cannot be read or is not allowed to look so
	ErrNotAllowed  = errors.New("not allowed")                                  // the policy denies it
	ErrNotFound    = errors.New("not found")                                    // it does not exist, or may not be seen (promise P8)
	ErrConflict    = errors.New("conflicts with what is there")                 // a rule of the domain or a concurrent change forbids it
	ErrUnavailable = errors.New("cannot decide: a part that is needed is down") // facts, policy or record cannot be had
)

// Problem is an error that a caller can act on: which of the five it is, the
// last part of its problem type (DESIGN 11, Errors), and where it is.
type Problem struct {
	Kind   error  // one of the five
	Type   string // such as "grantee-not-eligible"
	Status int    // an HTTP status where the kind's own does not fit; 0 otherwise
	Detail string // one sentence: what is wrong, where, and what to do
	Fields []Field
	// Extra holds further members of the answer, such as "clients" of
	// "successors-missing". Never personal data.
	Extra map[string]any
}

// Field says which part of a request is wrong, by JSON pointer.
type Field struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Type
}

// Unwrap lets errors.Is find which of the five errors it is.
func (p *Problem) Unwrap() error { return p.Kind }
