// Package profiles is the module of client profiles: clients, their contacts,
// the links between the profiles of one person, and who of them may enter which
// profile in the portal (DOMAIN 5, rules 131–155).
//
// It promises that each step is one transaction: it locks the rows it rests on,
// asks "may I?" on the facts of that very transaction, writes, and leaves a
// change record and the notices that are due. A refused call changes nothing
// but the record of the attempt. That profiles form a star, that an address is
// used once in a practice, and that one invitation is open at a time are
// constraints of the database, whoever writes.
//
// It does not say who may do what: staff and portal logins alike are decided
// upon by the policy, asked through Authority. What it writes into
// portal_access, clients and practices are facts; the rest are its own tables.
// So it can be replaced by another writer of those facts, and no sidecar would
// notice. It does not wait until a change is seen everywhere.
package profiles

import (
	"context"
	"errors"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Authority answers "may I?" on the facts that tx sees. A denial is a verdict;
// an error means that it could not decide.
type Authority interface {
	May(ctx context.Context, tx pgx.Tx, r authz.Request) (authz.Verdict, error)
}

// Service does what the module does. It keeps no state of its own. Errors that
// a caller can act on are *authz.Problem; every other error means that nothing
// was changed, or that it is not known whether it was.
type Service struct {
	pool       *pgxpool.Pool
	deployment *feed.Deployment // seals cursors and portal sessions
	authority  Authority
	lister     Lister
}

// New returns a Service on the database of pool.
func New(pool *pgxpool.Pool, deployment *feed.Deployment, authority Authority, lister Lister) *Service {
	return &Service{pool: pool, deployment: deployment, authority: authority, lister: lister}
}

// call says what a method is about to do: who asks for what, and which rows
// must not change under it.
type call struct {
	actor       authz.Subject
	action      string
	practice    string
	client      string   // the one that the action is asked on; "" when it is asked on the practice
	others      []string // further clients that it rests on
	members     []string // members that it rests on, beside the actor
	changing    bool     // the clients are changed, not only read
	settings    bool     // the practice is changed
	correlation string
}

// act is a call under way: its transaction and the rows it rests on, which
// nobody can change until it ends.
type act struct {
	*Service
	call
	tx       pgx.Tx
	defaults *authz.Settings
	offered  []string           // portal features of the practice
	people   map[string]member  // the actor and those named in the call, by user id
	clients  map[string]*client // those named in the call, by id
	verdict  authz.Verdict      // what allowed the call
}

// do runs work in one transaction, once the policy has allowed c. Work may run
// again after a deadlock, so it must set its results afresh.
func (s *Service) do(ctx context.Context, c call, work func(a *act) error) error {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		a := &act{Service: s, call: c, tx: tx}
		if err := a.lock(ctx); err != nil {
			return err
		}
		if err := a.allow(ctx); err != nil {
			return err
		}
		return work(a)
	})
}

// allow asks the policy and turns a denial into what the actor may know of it.
func (a *act) allow(ctx context.Context) error {
	var err error
	if a.client == "" {
		a.verdict, err = a.ask(ctx, a.action, "")
		if err != nil || a.verdict.Exact.Allow {
			return err
		}
		if m := a.verdict.Facts.Member; m == nil || m.Status != authz.MemberActive {
			return notFound()
		}
		return notAllowed(a.verdict.Exact.ReasonUser)
	}
	a.verdict, err = a.permit(ctx, a.action, a.client)
	if err == nil && a.clients[a.client] == nil {
		return notFound() // the policy allows nothing on a client that is not there; this holds if it ever does
	}
	return err
}

// ask asks for one action on a client, or on the practice when client is "".
func (a *act) ask(ctx context.Context, action, client string) (authz.Verdict, error) {
	r := authz.Request{Subject: a.actor, Action: action, Resource: authz.Resource{Type: authz.ResourcePractice, ID: a.practice}}
	if client != "" {
		r.Resource = onClient(a.practice, client)
	}
	return a.authority.May(ctx, a.tx, r)
}

func onClient(practice, client string) authz.Resource {
	return authz.Resource{Type: authz.ResourceClient, ID: client, Properties: authz.Properties{"practice": practice}}
}

// may reports whether the actor may do action to client.
func (a *act) may(ctx context.Context, action, client string) (bool, error) {
	v, err := a.ask(ctx, action, client)
	return v.Exact.Allow, err
}

// permit returns an error unless the actor may do action to client: what a
// client that he may not list and one that does not exist have in common, else
// the policy's reason (promise P8).
func (a *act) permit(ctx context.Context, action, client string) (authz.Verdict, error) {
	v, err := a.ask(ctx, action, client)
	if err != nil || v.Exact.Allow {
		return v, err
	}
	visible, err := a.may(ctx, authz.ActionClientList, client)
	if err != nil {
		return v, err
	}
	if !visible {
		return v, notFound()
	}
	return v, notAllowed(v.Exact.ReasonUser)
}

// change is one change under way, as it is put on record. Before and after hold
// no names, no e-mails and no free text.
type change struct {
	action string // "" for the action that was asked of the policy
	target string
	client string
	before map[string]any
	after  map[string]any
}

func (a *act) record(ctx context.Context, c change) error {
	entry := record.Change{Practice: a.practice, Actor: a.actor.ID, Action: c.action, Target: c.target, Client: c.client, Correlation: a.correlation}
	if c.before != nil {
		entry.Before = c.before
	}
	if c.after != nil {
		entry.After = c.after
	}
	if entry.Action == "" {
		entry.Action = a.action
	}
	if a.verdict.Exact.Allow {
		entry.Decision = a.verdict.ID.String()
	}
	return record.AppendChange(ctx, a.tx, entry)
}

// Constraints that tell which rule a statement broke.
const (
	constraintClientID = "clients_pkey"
	constraintEmail    = "emails_pkey"
	constraintStarMail = "profile_stars_email"
	constraintLogin    = "portal_access_login"
)

// broken returns the name of the constraint that err is about, or "".
func broken(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "23505" || refused.Code == "23503") {
		return refused.ConstraintName
	}
	return ""
}

// emailRefused reports an attempt to use an address that cannot be used, in a
// transaction of its own since the attempt's is gone, and returns what the
// actor is told: the same, whoever has the address (DOMAIN rule 153). The
// record does not hold the address either.
func (s *Service) emailRefused(ctx context.Context, actor authz.Subject, practice, client string) error {
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		return record.AppendChange(ctx, tx, record.Change{Practice: practice, Actor: actor.ID, Action: "email.refused", Client: client})
	})
	if err != nil {
		return fmt.Errorf("record refused e-mail: %w", err)
	}
	return &authz.Problem{Kind: authz.ErrConflict, Type: "email-refused", Detail: "this e-mail address cannot be used here",
		Fields: []authz.Field{{Pointer: "/email", Detail: "cannot be used here"}}}
}
