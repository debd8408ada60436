package compile

import (
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// UnderSettings is p for practices with these settings: the formulas with the
// settings put in. Two of them tell what a change of settings changes; an
// action whose formulas are equal in both is proved to stay as it is.
func (p *Policy) UnderSettings(s *authz.Settings) *Policy {
	l := Listing{Facts: authz.Facts{Settings: s}}
	known := func(path string) (ast.Value, string, bool) {
		if path != "settings" && !strings.HasPrefix(path, "settings.") {
			return nil, "", false
		}
		return l.read(path)
	}
	out := &Policy{Actions: make(map[string]*Action, len(p.Actions)), Bases: p.Bases, Denials: p.Denials, reasons: p.reasons}
	for name, a := range p.Actions {
		under := &Action{Name: a.Name, On: a.On, Err: a.Err}
		if a.Err == nil {
			under.Allow = a.Allow.specialise(known)
			for _, f := range a.Bases {
				under.Bases = append(under.Bases, f.specialise(known))
			}
			for _, f := range a.Refusals {
				under.Refusals = append(under.Refusals, f.specialise(known))
			}
			for _, end := range a.Ends {
				under.Ends = append(under.Ends, End{Cond: end.Cond.specialise(known), At: end.At})
			}
		}
		out.Actions[name] = under
	}
	return out
}

// Same reports whether two actions are decided by the same formulas. False
// proves nothing.
func (a *Action) Same(b *Action) bool {
	return a.Err == nil && b.Err == nil && a.On == b.On && a.key() == b.key()
}

// key names the formulas of an action.
func (a *Action) key() string {
	keys := []string{a.Allow.key}
	for _, f := range a.Bases {
		keys = append(keys, f.key)
	}
	for _, f := range a.Refusals {
		keys = append(keys, f.key)
	}
	for _, end := range a.Ends {
		keys = append(keys, end.Cond.key, end.At.String())
	}
	return strings.Join(keys, "\n")
}
