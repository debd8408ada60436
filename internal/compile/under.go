package compile

import (
	"maps"
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Under is the policy of a practice with these settings: formulas that ask for
// no setting any more. Two of them tell what a change of settings changes; an
// action that is the same in both is proved to stay as it is.
func (p *Policy) Under(s *authz.Settings) *Policy {
	known := func(path string) (ast.Value, string, bool) {
		name, is := strings.CutPrefix(path, "settings.")
		switch {
		case path == "settings":
			return ast.NewObject(), "", true // that it is there is all that can be asked
		case is:
			return settingValue(s, name).asAST(), "", true
		}
		return nil, "", false
	}
	out := *p
	out.Actions = maps.Clone(p.Actions)
	for name, a := range p.Actions {
		if a.Err != nil {
			continue
		}
		under := *a
		under.Allow = a.Allow.specialise(known)
		under.Bases, under.Refusals, under.Ends = nil, nil, nil
		for _, f := range a.Bases {
			under.Bases = append(under.Bases, f.specialise(known))
		}
		for _, f := range a.Refusals {
			under.Refusals = append(under.Refusals, f.specialise(known))
		}
		for _, end := range a.Ends {
			under.Ends = append(under.Ends, End{Cond: end.Cond.specialise(known), At: end.At})
		}
		out.Actions[name] = &under
	}
	return &out
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
