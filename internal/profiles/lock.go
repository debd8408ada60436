package profiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// client is a locked row of clients, with its place in a star.
type client struct {
	id, firstName, lastName, label string
	email                          string // "" when there is none
	assigned                       string // "" when nobody is
	status                         string
	features                       []string // what its narrowing leaves; nil when it is not narrowed
	primary                        string   // the primary profile of its star; its own id when it is the primary one; "" without a star
}

// secondary reports whether c points to another profile of the same person.
func (c *client) secondary() bool { return c.primary != "" && c.primary != c.id }

// member is a locked row of members.
type member struct {
	authz.Member
}

// assignable reports whether m can be the assigned practitioner of a client
// (DOMAIN rule 56).
func (m member) assignable() bool {
	return m.Status == authz.MemberActive && slices.Contains(m.Roles, authz.RolePractitioner)
}

// lock takes the rows of the call, always in the order practice → members, by
// user id → clients, by id, so that two calls cannot wait for each other; what
// else the module writes is held by the client it belongs to. What does not
// exist is left out: the policy denies on it.
func (a *act) lock(ctx context.Context) error {
	a.people, a.clients = map[string]member{}, map[string]*client{}
	practice := sharePractice
	if a.settings {
		practice = holdPractice
	}
	var preset string
	var overrides []byte
	err := a.tx.QueryRow(ctx, practice, a.practice).Scan(&preset, &overrides, &a.offered)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock practice: %w", err)
	}
	var values map[string]any
	if err := json.Unmarshal(overrides, &values); err != nil {
		return fmt.Errorf("settings of practice %s: %w", a.practice, err)
	}
	if a.defaults, err = authz.NewSettings(preset, values); err != nil {
		// What is stored is wrong, not what was sent: it must not look like a 400.
		return fmt.Errorf("settings of practice %s: %s", a.practice, err)
	}
	if err := a.lockMembers(ctx); err != nil {
		return fmt.Errorf("lock members: %w", err)
	}
	if err := a.lockClients(ctx); err != nil {
		return fmt.Errorf("lock clients: %w", err)
	}
	return nil
}

func (a *act) lockMembers(ctx context.Context) error {
	users := slices.DeleteFunc(append(slices.Clone(a.members), a.actor.ID), func(id string) bool { return id == "" })
	if a.actor.Type != authz.SubjectUser {
		users = slices.Clone(a.members)
	}
	rows, err := a.tx.Query(ctx, shareMembers, a.practice, slices.Compact(slices.Sorted(slices.Values(users))))
	if err != nil {
		return err
	}
	var m member
	m.Practice = a.practice
	_, err = pgx.ForEachRow(rows, []any{&m.User, &m.ID, &m.Roles, &m.Status, &m.Owner, &m.FullClinicalAccess, &m.BillingEnabled}, func() error {
		kept := m
		kept.Roles = slices.Clone(m.Roles)
		a.people[m.User] = kept
		return nil
	})
	return err
}

func (a *act) lockClients(ctx context.Context) error {
	ids := slices.DeleteFunc(append(slices.Clone(a.others), a.client), func(id string) bool { return id == "" })
	if len(ids) == 0 {
		return nil
	}
	statement := shareClients
	if a.changing {
		statement = holdClients
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	rows, err := a.tx.Query(ctx, statement, a.practice, ids)
	if err != nil {
		return err
	}
	if _, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return err
	}
	return a.readClients(ctx, ids) // once they are held: the star is read as it is then
}

// readClients reads clients again, after a change of the call's own.
func (a *act) readClients(ctx context.Context, ids []string) error {
	rows, err := a.tx.Query(ctx, selectClients, a.practice, ids)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, readClient)
	for _, c := range found {
		a.clients[c.id] = c
	}
	return err
}

func readClient(row pgx.CollectableRow) (*client, error) {
	var c client
	err := row.Scan(&c.id, &c.firstName, &c.lastName, &c.label, &c.email, &c.assigned, &c.status, &c.features, &c.primary)
	return &c, err
}
