package search

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
)

// Caller is the service that asks, and what it may ask about.
type Caller struct {
	ID    string
	Scope pdp.Scope
}

// cursorPurpose keeps cursors apart from everything else that is sealed.
const cursorPurpose = "search cursor"

// maxCursor is the length of the longest cursor that is looked at, in bytes.
const maxCursor = 2048

// position is the place in a list after which a page begins.
type position struct {
	Practice string `json:"p,omitempty"`
	ID       string `json:"i,omitempty"`
	Limit    *int   `json:"l,omitempty"` // of AuthZEN's pages, which must not change it
}

// binding is what a cursor belongs to: whoever has another one, or another
// question, cannot use it.
type binding struct {
	deployment *feed.Deployment
	question   []byte
	caller     []byte
}

// bind makes the binding of a question that is JSON.
func bind(d *feed.Deployment, question []byte, caller Caller, actor authz.Subject) (binding, error) {
	who, err := json.Marshal([]any{caller, actor})
	if err != nil {
		return binding{}, fmt.Errorf("caller of a list: %w", err)
	}
	return binding{deployment: d, question: question, caller: who}, nil
}

// cursor writes a position.
func (b binding) cursor(at position) (string, error) {
	text, err := json.Marshal(at)
	if err != nil {
		return "", fmt.Errorf("write cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(b.deployment.Seal(cursorPurpose, b.question, b.caller, text), text...)), nil
}

// read returns the position of a cursor; "" is the beginning.
func (b binding) read(cursor string) (position, error) {
	var at position
	if cursor == "" {
		return at, nil
	}
	refused := &authz.Problem{Kind: authz.ErrMalformed, Type: "bad-cursor",
		Detail: "the cursor was altered, or belongs to another list or another caller: begin again without one"}
	if len(cursor) > maxCursor {
		return at, refused
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < feed.SealSize || !b.deployment.Sealed(raw[:feed.SealSize], cursorPurpose, b.question, b.caller, raw[feed.SealSize:]) {
		return at, refused
	}
	if err := json.Unmarshal(raw[feed.SealSize:], &at); err != nil {
		return at, refused
	}
	return at, nil
}
