package roster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"chartgate/internal/authz"
)

const (
	maxText  = 1000 // bytes of a name, a label or a reason
	maxEmail = 254  // bytes, RFC 5321 4.5.3.1.3 as corrected
)

var (
	memberStatuses = []string{authz.MemberInvited, authz.MemberActive, authz.MemberRemoved}
	clientStatuses = []string{authz.ClientActive, authz.ClientArchived}
	scopes         = []string{authz.ScopeView, authz.ScopeCollaborate}
	noEnd          = authz.NoEnd

	errMissing = errors.New("is missing")
)

func readID(s string) (any, error) {
	if !authz.ValidID(s) {
		return nil, fmt.Errorf("must be an id: 1 to %d bytes of UTF-8 without control characters", authz.MaxID)
	}
	return s, nil
}

// readText reads a name, a label or a reason, without the blanks around it.
func readText(s string) (any, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return nil, errors.New("holds only blanks")
	case len(s) > maxText:
		return nil, fmt.Errorf("is longer than %d bytes", maxText)
	case !utf8.ValidString(s):
		return nil, errors.New("is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return nil, errors.New("holds a control character")
	}
	return s, nil
}

// readEmail asks no more of an address than that mail could go there. The
// address itself is not in the error: it is personal data.
func readEmail(s string) (any, error) {
	bad := errors.New("is not an e-mail address")
	s = strings.TrimSpace(s)
	local, domain, _ := strings.Cut(s, "@")
	odd := func(r rune) bool {
		return r == '@' || r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r)
	}
	switch {
	case len(s) > maxEmail || local == "" || domain == "":
		return nil, bad
	case strings.ContainsFunc(local, odd) || strings.ContainsFunc(domain, odd):
		return nil, bad
	case strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(domain, ".."):
		return nil, bad
	}
	return s, nil
}

func oneOf(words []string) func(string) (any, error) {
	return func(s string) (any, error) {
		if !slices.Contains(words, s) {
			return nil, fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}

func readFlag(s string) (any, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, errors.New("must be true or false")
}

func splitRoles(s string) (any, error) {
	return readRoles(strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(";|, ", r) }))
}

// readRoles puts roles into the order of authz.Roles, each once.
func readRoles(list []string) (any, error) {
	for _, role := range list {
		if !slices.Contains(authz.Roles, role) {
			return nil, fmt.Errorf("there is no role %q; there are %s", role, strings.Join(authz.Roles, ", "))
		}
	}
	roles := []string{}
	for _, role := range authz.Roles {
		if slices.Contains(list, role) {
			roles = append(roles, role)
		}
	}
	return roles, nil
}

// readTime reads an RFC 3339 time, cut to microseconds, within what the facts
// can hold.
func readTime(s string) (any, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil, errors.New("must be a time such as 2030-01-31T17:00:00Z")
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 1 || t.After(authz.NoEnd) {
		return nil, errors.New("must lie in the years 0001 to 9999")
	}
	return t, nil
}

func readPreset(s string) (any, error) {
	if _, err := authz.NewSettings(s, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// readOverrides reads the JSON object of a practice's own settings.
func readOverrides(s string) (any, error) {
	decoder := json.NewDecoder(strings.NewReader(s))
	decoder.UseNumber()
	var overrides map[string]any
	if err := decoder.Decode(&overrides); err != nil || overrides == nil || decoder.More() {
		return nil, errors.New(`must be a JSON object of settings, such as {"hide_unassigned": false}`)
	}
	if _, err := authz.NewSettings(authz.DefaultPreset, overrides); err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, []byte(s)); err != nil {
		return nil, err
	}
	return plain.String(), nil
}
