package record

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Change is one entry about who changed what (DOMAIN 4.1, rule 126).
type Change struct {
	Practice    string
	Actor       string // user id of who did it
	Action      string // the action that was asked of the policy, or what was done, such as "import"
	Target      string // user id of the member concerned, if any
	Client      string // client concerned, if any
	Before      any    // JSON; no names or e-mails
	After       any    // JSON; no names or e-mails
	Reason      string // as the actor gave it
	Correlation string // joins the steps of one workflow
	Decision    string // id of the decision that allowed it
}

// AppendChange writes c in the transaction of the change itself, so that
// neither can be without the other.
func AppendChange(ctx context.Context, tx pgx.Tx, c Change) error {
	before, err := jsonOrNil(c.Before)
	if err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	after, err := jsonOrNil(c.After)
	if err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	var decision *uuid.UUID
	if c.Decision != "" {
		id, err := uuid.Parse(c.Decision)
		if err != nil {
			return fmt.Errorf("record change: decision id: %w", err)
		}
		decision = &id
	}
	if _, err := tx.Exec(ctx, insertChange, c.Practice, c.Actor, c.Action, c.Target, c.Client,
		before, after, c.Reason, c.Correlation, decision); err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	return nil
}

func jsonOrNil(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return json.Marshal(v)
}
