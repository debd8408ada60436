package pdp

import "chartgate/internal/compile"

// Program returns the certified program that decides, nil where OPA decides
// everything: for whoever decides so many times that he asks it directly.
func (e *Engine) Program() *compile.Program { return e.program.Load() }
