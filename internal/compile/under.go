package compile

import (
	"maps"
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Under is the policy of a practice with these settings: formulas that ask for
// no setting any more.
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
