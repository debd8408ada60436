package record

import (
	"context"
	"fmt"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// AppendDecision writes v in a transaction of the caller's: a decision and the
// change that it allowed become durable together. The ledger chains it when
// the transaction commits.
func AppendDecision(ctx context.Context, tx pgx.Tx, v authz.Verdict) error {
	if err := appendDecision(ctx, tx, v); err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	return nil
}

func appendDecision(ctx context.Context, tx pgx.Tx, v authz.Verdict) error {
	var e encoder
	if err := e.add(&v); err != nil {
		return err
	}
	var w View
	body := e.b[recordHead:]
	if err := w.Read(body); err != nil {
		return err
	}
	if err := putSettings(ctx, tx, e.settings); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertDecision, w.ID, moment(w.At), orNil(w.Practice), string(w.SubjectType), string(w.SubjectID), string(w.Action),
		string(w.ResourceType), string(w.ResourceID), orNil(w.Client()), w.Allow, string(w.Code), w.Bases.strings(), string(w.Release), body)
	return err
}

func orNil(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	s := string(b)
	return &s
}
