package compile

import (
	"slices"
	"time"

	"chartgate/internal/authz"
)

// verdictParts is a decision before it is put together: all bases and all
// refusals, also those that another one hides.
type verdictParts struct {
	Allow    bool
	Bases    uint32
	refusals uint32
	Until    string
}

// parts evaluates every part of a decision.
func (a *runnable) parts(fr *frame) verdictParts {
	v := verdictParts{Allow: a.code.eval(fr, a.allow)}
	for i, s := range a.bases {
		if a.code.eval(fr, a.bases[i].node) {
			v.Bases |= 1 << s.what
		}
	}
	for i, s := range a.refusals {
		if a.code.eval(fr, a.refusals[i].node) {
			v.refusals |= 1 << (int(s.what) - a.refusalBase)
		}
	}
	for i := range a.ends {
		if s := &a.ends[i]; a.code.eval(fr, s.node) {
			if end := s.at.read(fr); end.sort == instant {
				v.Until = authz.FormatTime(time.UnixMicro(end.num))
			}
		}
	}
	return v
}

// read reads the same of OPA's answer.
func (p *Policy) read(bindings map[string]any) verdictParts {
	var v verdictParts
	v.Allow, _ = bindings["allow"].(bool)
	v.Bases = bitsOf(p.Bases, bindings["bases"])
	v.refusals = bitsOf(p.Denials, bindings["refusals"])
	end, _ := bindings["end"].(map[string]any)
	v.Until, _ = end["valid_until"].(string)
	return v
}

func bitsOf(names []string, set any) (out uint32) {
	list, _ := set.([]any)
	for _, one := range list {
		if s, ok := one.(string); ok {
			if i := slices.Index(names, s); i >= 0 {
				out |= 1 << i
			}
		}
	}
	return out
}
