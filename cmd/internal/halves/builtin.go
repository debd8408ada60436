package halves

import (
	"context"
	"fmt"
	"sync"

	"chartgate/bundles"
	"chartgate/internal/pdp"
)

// BuiltIn compiles the policy that is built in; the rule at decision decides,
// which is pdp.DecisionPath unless somebody wants another.
func BuiltIn(ctx context.Context, decision string) (*pdp.Engine, error) {
	policy, err := pdp.ReadArchive(bundles.Default)
	if err != nil {
		return nil, fmt.Errorf("the policy that is built in: %w", err)
	}
	return pdp.NewEngine(ctx, policy, decision)
}

// builtInRevision is the content of the policy that is built in. A test of the
// product certifies it, so that it need not be done before it decides.
var builtInRevision = sync.OnceValue(func() string {
	policy, err := pdp.ReadArchive(bundles.Default)
	if err != nil {
		return "" // nothing has this revision; BuiltIn says what is wrong
	}
	return policy.Revision
})
