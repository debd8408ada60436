// Package policytest gives tests the policy of the folder policies/, and asks it
// on the facts of a database. Only tests import it.
package policytest

import (
	"context"
	"sync"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/policies"

	"github.com/jackc/pgx/v5"
)

// Edit changes the table of roles.
type Edit func(roles map[string]any)

// Interpreted is the policy with an edited table of roles, nil for the one that
// ships. OPA decides by it.
func Interpreted(edit Edit) (*pdp.Engine, error) {
	b, err := pdp.ReadFolder(policies.Files)
	if err != nil {
		return nil, err
	}
	if edit != nil {
		edit(b.Data["tables"].(map[string]any)["roles"].(map[string]any))
	}
	return pdp.NewEngine(context.Background(), b, pdp.DecisionPath)
}

// Compiled is Interpreted with its program, which decides and of which lists are
// made. It is not certified: the tests of package compile see that it agrees.
func Compiled(edit Edit) (*pdp.Engine, error) {
	e, err := Interpreted(edit)
	if err != nil {
		return nil, err
	}
	formulas, err := compile.Compile(context.Background(), e.Source())
	if err != nil {
		return nil, err
	}
	e.Attach(compile.Assemble(formulas))
	return e, nil
}

// Shipped is Compiled of the policy that ships, made once: it never changes.
var Shipped = sync.OnceValues(func() (*pdp.Engine, error) { return Compiled(nil) })

// Authority asks a policy on the facts of the transaction, and puts nothing on
// record.
type Authority struct {
	Engine     *pdp.Engine
	Deployment *feed.Deployment
	Decided    func(authz.Request) // called between the decision and the change, unless it is nil
}

// May decides.
func (a *Authority) May(ctx context.Context, tx pgx.Tx, r authz.Request) (authz.Verdict, error) {
	v := authz.NewVerdict(r, a.Engine.Revision(), "")
	var err error
	if v.Facts, err = facts.Load(ctx, tx, a.Deployment, v.Request); err != nil {
		return v, err
	}
	if v.Exact, err = a.Engine.Evaluate(ctx, v.Request, v.Facts); err != nil {
		return v, err
	}
	if a.Decided != nil {
		a.Decided(r)
	}
	return v, nil
}

// Listed is told what a list was made of: the tests of control see that it is on
// record.
func (a *Authority) Listed(authz.Verdict) {}
