package pdp

import (
	"context"
	"log/slog"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// byProgram decides with the program, if the facts keep all that its certificate
// and the lists rest on. Where they do not, OPA has to decide, and somebody has
// to look: it is logged once for each guarantee, and counted.
func (e *Engine) byProgram(ctx context.Context, p *compile.Program, r *authz.Request, f *authz.Facts) (authz.Decision, authz.Span, bool) {
	broken := compile.Broken(r, f)
	if broken == compile.Kept {
		if d, span, ok := p.EvaluateFor(r, f); ok {
			return d, span, true
		}
		broken = p.Left(r, f)
	}
	if broken != compile.Kept && e.counts.Broken[broken].Add(1) == 1 {
		slog.ErrorContext(ctx, "facts break what the compiled policy rests on; OPA decides on such facts, and lists may be wrong: "+
			"look at the constraints of the database, and at who writes to it", "guarantee", broken.String(), "revision", e.revision)
	}
	return authz.Decision{}, authz.Never, false
}

// Compiled reports whether a certified program decides; else OPA does.
func (e *Engine) Compiled() bool { return e.program.Load() != nil }
