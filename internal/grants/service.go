// Package grants is who may open what: members, roles, full clinical access,
// assignment, grants and settings, their rules, and who may change them.
//
// It promises that each method is one transaction: it locks the rows it rests
// on, asks the policy on the facts of that very transaction, writes, and leaves
// a change record (DOMAIN rule 126). So whoever was removed meanwhile cannot
// still commit (TestRemovedAdministratorCannotCommit), a refused call changes
// nothing, and two changes of one client's grants take turns.
//
// It does not say who may do what: that is the policy's, asked through
// Authority. It does not wait until a change is seen everywhere, and it writes
// no change feed: triggers do, whoever writes.
package grants

import (
	"context"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Authority answers "may I?" on the facts that tx sees. A denial is a verdict;
// an error means that it could not decide.
type Authority interface {
	May(ctx context.Context, tx pgx.Tx, r authz.Request) (authz.Verdict, error)
}

// Policy is the policy as a pure function. It tells on what bases each member
// stands, which is no decision of anybody's request and is not recorded.
type Policy interface {
	Evaluate(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error)
}

// Service changes and shows members, grants and settings. It keeps no state of
// its own. Errors that a caller can act on are *authz.Problem; every other
// error means that nothing was changed, or that it is not known whether it was.
type Service struct {
	pool      *pgxpool.Pool
	authority Authority
	policy    Policy
}

// New returns a Service on the database of pool.
func New(pool *pgxpool.Pool, authority Authority, policy Policy) *Service {
	return &Service{pool: pool, authority: authority, policy: policy}
}

// call says what a method is about to do: who asks for what, and which rows
// must not change under it.
type call struct {
	actor    authz.Subject
	action   string
	practice string
	client   string // "" when it is about the practice
	members  []string
	hold     hold
}

// act is a call under way: its transaction and the rows it rests on, which
// nobody can change until it ends.
type act struct {
	tx       pgx.Tx
	actor    string
	practice string
	settings Settings
	members  map[string]Member // those named in the call and the actor, by user id
	client   *client           // nil when the call is about the practice
	now      time.Time         // the database's clock when every lock was held
	verdict  authz.Verdict     // what allowed the call
}

// do runs work in one transaction, once the policy has allowed c. Work may run
// again after a deadlock, so it must set its results afresh.
func (s *Service) do(ctx context.Context, c call, work func(a *act) error) error {
	return s.inTx(ctx, c, func(a *act) error {
		var err error
		if a.verdict, err = s.allow(ctx, a.tx, c); err != nil {
			return err
		}
		if c.client != "" && a.client == nil {
			return notFound() // the policy allows nothing on a client that is not there; this holds if it ever does
		}
		return work(a)
	})
}

// inTx is do without asking the policy: only for what a person does about
// himself.
func (s *Service) inTx(ctx context.Context, c call, work func(a *act) error) error {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		a, err := lock(ctx, tx, c)
		if err != nil {
			return err
		}
		return work(a)
	})
}

// allow asks the policy and turns a denial into what the actor may know of it.
func (s *Service) allow(ctx context.Context, tx pgx.Tx, c call) (authz.Verdict, error) {
	r := authz.Request{Subject: c.actor, Action: c.action,
		Resource: authz.Resource{Type: authz.ResourcePractice, ID: c.practice}}
	if c.client != "" {
		r.Resource = authz.Resource{Type: authz.ResourceClient, ID: c.client,
			Properties: authz.Properties{"practice": c.practice}}
	}
	v, err := s.authority.May(ctx, tx, r)
	if err != nil || v.Exact.Allow {
		return v, err
	}
	visible, err := s.visible(ctx, tx, r, v)
	if err != nil {
		return v, err
	}
	if !visible {
		return v, notFound()
	}
	return v, &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: v.Exact.ReasonUser}
}

// visible reports whether an actor who was denied may know that what he asked
// for exists (promise P8): a client if he may list it, a practice if he is an
// active member of it.
func (s *Service) visible(ctx context.Context, tx pgx.Tx, r authz.Request, denied authz.Verdict) (bool, error) {
	if r.Resource.Type == authz.ResourcePractice {
		m := denied.Facts.Member
		return m != nil && m.Status == authz.MemberActive, nil
	}
	r.Action = authz.ActionClientList
	v, err := s.authority.May(ctx, tx, r)
	return v.Exact.Allow, err
}

// change is one change under way, as it is put on record. Before and after
// hold no names, no e-mails and no free text.
type change struct {
	action string // "" for the action that was asked of the policy
	target string
	client string
	before map[string]any
	after  map[string]any
	reason string
}

func (a *act) record(ctx context.Context, c change) error {
	entry := record.Change{Practice: a.practice, Actor: a.actor, Action: c.action, Target: c.target, Client: c.client, Reason: c.reason}
	if c.before != nil {
		entry.Before = c.before
	}
	if c.after != nil {
		entry.After = c.after
	}
	if entry.Action == "" {
		entry.Action = a.verdict.Request.Action
	}
	if a.verdict.Exact.Allow {
		entry.Decision = a.verdict.ID.String()
	}
	return record.AppendChange(ctx, a.tx, entry)
}

func notFound() error {
	return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
}

// changedMeanwhile is the answer to who saves what he read too long ago (DOMAIN
// rule 35).
func changedMeanwhile() error {
	return &authz.Problem{Kind: authz.ErrConflict, Type: "changed-meanwhile", Status: 412,
		Detail: "it was changed since it was read: read it again, then save"}
}
