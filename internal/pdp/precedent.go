package pdp

import (
	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// leading returns the program whose decisions are precedents; nil where none are.
// A candidate's are not: what may be shown of them rests on the active release too.
func (s *Policies) leading(engine *Engine) *compile.Program {
	if engine != s.active {
		return nil
	}
	return engine.program.Load()
}

// follow decides as the program did before on the same question and the same
// facts, if it did and the clock has passed nothing that matters since.
func (e *Engine) follow(p *compile.Program, v *authz.Verdict) bool {
	if p == nil {
		return false
	}
	set := v.Facts.Precedents.Of(p.Number, &v.Request, &v.Facts)
	if set == nil {
		return false
	}
	v.Exact, v.Shown, v.Precedent = *set.Exact, *set.Shown, set
	e.decided(p, &v.Request, &v.Facts, &v.Exact)
	return true
}

// lead makes v a precedent, which the program decided, unless another took its
// place meanwhile, for all of span.
func (e *Engine) lead(p *compile.Program, v *authz.Verdict, span authz.Span) {
	if p == nil || v.Facts.Precedents == nil || e.program.Load() != p {
		return
	}
	v.Precedent = v.Facts.Precedents.Set(p.Number, &v.Request, &v.Facts, span, v.Exact, v.Shown)
}
