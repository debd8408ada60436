package profiles

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Kinds of notices (DOMAIN rule 155).
const (
	noticeLink       = "link"
	noticeUnlink     = "unlink"
	noticePermission = "permission"
	noticeInvitation = "invitation"
)

// Notice says that a contact of a client, or a member of the practice, is to be
// told something. It names nobody but by id and holds nothing clinical: who
// delivers it looks up where to. The same notice may be delivered twice; its id
// tells.
type Notice struct {
	ID          int64           `json:"id"`
	At          time.Time       `json:"at"`
	Kind        string          `json:"kind"` // link, unlink, permission, invitation; to a member: full_clinical_access
	Practice    string          `json:"practice"`
	Client      string          `json:"client,omitempty"`  // whose portal it is about
	Contact     string          `json:"contact,omitempty"` // who is to be told
	Member      string          `json:"member,omitempty"`  // or this member: his user id
	Details     json.RawMessage `json:"details"`           // person: the client that he is himself; login; permissions
	Correlation string          `json:"correlation,omitempty"`
	Attempt     int             `json:"attempt"` // from 1
}

// notify writes a notice in the transaction of what it tells of.
func (a *act) notify(ctx context.Context, kind, client string, k Contact, details map[string]any) error {
	all := maps.Clone(details)
	if all == nil {
		all = map[string]any{}
	}
	if k.person != "" {
		all["person"] = k.person
	}
	if k.login != "" {
		all["login"] = k.login
	}
	if _, err := a.tx.Exec(ctx, insertNotice, kind, a.practice, client, k.ID, all, a.correlation); err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	return nil
}
