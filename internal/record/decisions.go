package record

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// row returns the values of decisionColumns. The exact decision is kept, also
// where the caller was shown less (DOMAIN 4.1, rule 122).
func row(v authz.Verdict) ([]any, error) {
	r := v.Request
	var facts, digest []byte
	if v.Input != nil {
		sum := sha256.Sum256(v.Input)
		digest = sum[:]
	} else {
		var err error
		if facts, err = json.Marshal(authz.Document(r, v.Facts)); err != nil {
			return nil, fmt.Errorf("record decision: %w", err)
		}
	}
	bases := v.Exact.Bases
	if bases == nil {
		bases = []string{}
	}
	var requestID *string
	if authz.ValidID(v.RequestID) {
		requestID = &v.RequestID
	}
	return []any{v.ID, v.At, orNil(v.Facts.Practice), r.Subject.Type, r.Subject.ID, r.Action, r.Resource.Type, r.Resource.ID,
		orNil(r.Resource.Client()), v.Exact.Allow, v.Exact.Code, bases, v.Release, v.Facts.Revision, requestID, facts, digest}, nil
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// AppendDecision writes v in a transaction of the caller's: a decision and the
// change that it allowed become durable together.
func AppendDecision(ctx context.Context, tx pgx.Tx, v authz.Verdict) error {
	values, err := row(v)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertDecision, values...); err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	return nil
}
