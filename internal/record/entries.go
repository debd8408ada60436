package record

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Decision is a decision as readers of the record see it.
type Decision struct {
	ID        uuid.UUID       `json:"id"`
	At        time.Time       `json:"at"`
	Practice  string          `json:"practice,omitempty"`
	Subject   Party           `json:"subject"`
	Action    string          `json:"action"`
	Resource  Party           `json:"resource"`
	Client    string          `json:"client,omitempty"`
	Allow     bool            `json:"decision"`
	Code      string          `json:"code"` // the exact one (DOMAIN rule 122)
	Bases     []string        `json:"bases"`
	Release   string          `json:"release"`
	Revision  string          `json:"revision,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	Facts     json.RawMessage `json:"facts,omitempty"`        // the facts document, exactly
	Input     string          `json:"input_digest,omitempty"` // of a user's own bundle: SHA-256 of its input, which is not kept; of a list (code "listed"): of the question and what was listed
	Chain     string          `json:"chain,omitempty"`        // empty: chained by the ledger
	Seq       int64           `json:"seq,omitempty"`

	view *View
}

// Party is the type and the id of a subject or a resource.
type Party struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// read fills in all but the facts, and keeps body for those.
func (d *Decision) read(body []byte) error {
	v := &View{}
	if err := v.Read(body); err != nil {
		return err
	}
	*d = Decision{ID: v.ID, At: moment(v.At), Practice: string(v.Practice), Subject: Party{string(v.SubjectType), string(v.SubjectID)},
		Action: string(v.Action), Resource: Party{string(v.ResourceType), string(v.ResourceID)}, Client: string(v.Client()),
		Allow: v.Allow, Code: string(v.Code), Bases: v.Bases.strings(), Release: string(v.Release), Revision: string(v.Revision),
		RequestID: string(v.RequestID), Input: hex.EncodeToString(v.InputDigest), view: v}
	return nil
}

// fill fills in the facts.
func (d *Decision) fill(settings func(settingsDigest) map[string]any) error {
	if !d.view.Replayable() {
		return nil
	}
	var of map[string]any
	if d.view.SettingsDigest != nil {
		of = settings(settingsDigest(d.view.SettingsDigest))
	}
	document, err := d.view.Document(of)
	if err != nil {
		return err
	}
	d.Facts, err = json.Marshal(document)
	return err
}

// ChangeEntry is a change as readers of the record see it.
type ChangeEntry struct {
	ID          int64           `json:"id"`
	At          time.Time       `json:"at"`
	Practice    string          `json:"practice,omitempty"`
	Actor       string          `json:"actor"`
	Action      string          `json:"action"`
	Target      string          `json:"target,omitempty"`
	Client      string          `json:"client,omitempty"`
	Before      json.RawMessage `json:"before,omitempty"`
	After       json.RawMessage `json:"after,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Correlation string          `json:"correlation,omitempty"`
	Decision    string          `json:"decision,omitempty"`
}

func scanChange(row pgx.CollectableRow) (ChangeEntry, error) {
	var c ChangeEntry
	err := row.Scan(&c.ID, &c.At, &c.Practice, &c.Actor, &c.Action, &c.Target, &c.Client, &c.Before, &c.After, &c.Reason, &c.Correlation, &c.Decision)
	c.At = c.At.UTC()
	return c, err
}
