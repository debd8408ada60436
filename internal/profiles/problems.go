package profiles

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"chartgate/internal/authz"
)

func notFound() error {
	return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
}

func notAllowed(detail string) error {
	return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: detail}
}

// conflict is a 409: what is there forbids it.
func conflict(typ, detail string) error {
	return &authz.Problem{Kind: authz.ErrConflict, Type: typ, Detail: detail}
}

// refused is a 422: the request is well formed, and a rule forbids it.
func refused(typ, pointer, detail string) error {
	p := &authz.Problem{Kind: authz.ErrConflict, Type: typ, Status: 422, Detail: detail}
	if pointer != "" {
		p.Detail = strings.TrimPrefix(pointer, "/") + " " + detail
		p.Fields = []authz.Field{{Pointer: pointer, Detail: detail}}
	}
	return p
}

// linkRefused is the answer to a link that cannot be. Of another profile it
// says nothing that the actor could not see before.
func linkRefused(pointer, detail string) error { return refused("link-refused", pointer, detail) }

func malformed(pointer, detail string) error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: strings.TrimSpace(strings.TrimPrefix(pointer, "/") + " " + detail),
		Fields: []authz.Field{{Pointer: pointer, Detail: detail}}}
}

// The longest texts that are kept, in bytes.
const (
	maxName  = 200
	maxEmail = 254
)

// checkName refuses a name that is blank, too long or no plain text.
func checkName(pointer, name string) error {
	if strings.TrimSpace(name) == "" {
		return malformed(pointer, "must not be blank")
	}
	return checkLabel(pointer, name)
}

// checkLabel is checkName for a text that may be blank.
func checkLabel(pointer, text string) error {
	if len(text) > maxName || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return malformed(pointer, fmt.Sprintf("must be a text of at most %d bytes without control characters", maxName))
	}
	return nil
}

// checkEmail asks only what any address has; whether it is one shows when it is
// written to. Blank means none.
func checkEmail(pointer, email string) error {
	if strings.TrimSpace(email) == "" {
		return nil
	}
	at := strings.LastIndexByte(email, '@')
	if at <= 0 || at == len(email)-1 || len(email) > maxEmail || !utf8.ValidString(email) ||
		strings.ContainsFunc(email, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return malformed(pointer, "must be an e-mail address")
	}
	return nil
}

func checkID(pointer, id string) error {
	if !authz.ValidID(id) {
		return malformed(pointer, "must be 1 to 128 bytes of UTF-8 without control characters")
	}
	return nil
}

// inOrder refuses words that are not of all, and returns the others once each,
// in the order of all, so that equal sets look equal.
func inOrder(pointer string, words, all []string) ([]string, error) {
	for n, word := range words {
		if !slices.Contains(all, word) {
			return nil, malformed(fmt.Sprintf("%s/%d", pointer, n), "must be one of "+strings.Join(all, ", "))
		}
	}
	ordered := make([]string, 0, len(words))
	for _, word := range all {
		if slices.Contains(words, word) {
			ordered = append(ordered, word)
		}
	}
	return ordered, nil
}
