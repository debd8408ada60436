package profiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const actionSecond = "profile.create_second"

// SecondProfile is what the second-profile workflow is to make (DOMAIN 0, 3):
// another profile of the same person for another practitioner.
type SecondProfile struct {
	Practitioner string   `json:"practitioner"`
	Label        string   `json:"label"`
	Manage       bool     `json:"manage"` // the master switch: the person may manage this profile
	Permissions  []string `json:"permissions"`
	Invite       bool     `json:"invite"`
}

// Key makes a call of the workflow the same as an earlier one: who calls, and
// what he calls it.
type Key struct {
	Caller string // the service, not the person: two persons may make one call
	Key    string
}

// Steps of the workflow, in order, and their states.
const (
	stepCreate = "create"
	stepLink   = "link"
	stepPortal = "portal"
	stepAssign = "assign"

	stateDone    = "done"
	stateFailed  = "failed"
	stateWaiting = "waiting"
)

// Step is how far one step has come.
type Step struct {
	Name  string     `json:"name"`
	State string     `json:"state"`
	At    *time.Time `json:"at,omitempty"` // when it was done, or failed last
}

// Workflow is what a finished workflow answers. It holds no invitation code:
// that is shown once, by Invite.
type Workflow struct {
	Profile     Client  `json:"profile"`
	Contact     Contact `json:"contact"`
	Steps       []Step  `json:"steps"`
	Correlation string  `json:"correlation"`
}

// run is one call of the workflow under way.
type run struct {
	*Service
	actor            authz.Subject
	practice, client string
	key              Key
	wanted           SecondProfile
	fingerprint      []byte

	state state
}

// state is the stored row of a workflow.
type state struct {
	id      string // joins the change records of all steps
	profile string // id of the second profile
	steps   []Step
	answer  *Workflow // nil until it is finished
}

// CreateSecond makes a second profile in four steps, each a transaction of its
// own and each allowed by the policy by itself: create, link, portal, assign. If
// one fails, what is done stays, the problem says so, and the same call goes on
// from there; a finished call is answered as it was (DOMAIN rule 150). Two that
// make the same call at once take turns step by step, and get one answer.
func (s *Service) CreateSecond(ctx context.Context, actor authz.Subject, practice, client string, wanted SecondProfile, key Key) (Workflow, error) {
	var err error
	if err = wanted.check(); err != nil {
		return Workflow{}, err
	}
	if wanted.Permissions, err = inOrder("/permissions", wanted.Permissions, authz.PortalPermissions); err != nil {
		return Workflow{}, err
	}
	r := &run{Service: s, actor: actor, practice: practice, client: client, key: key, wanted: wanted}
	text, err := json.Marshal(wanted)
	if err != nil {
		return Workflow{}, fmt.Errorf("second profile: %w", err)
	}
	sum := sha256.Sum256(text)
	r.fingerprint = sum[:]
	if err := r.begin(ctx); err != nil {
		return Workflow{}, err
	}
	for _, step := range []struct {
		name string
		call call
		work func(ctx context.Context, a *act) error
	}{
		{stepCreate, call{action: actionCreate, others: []string{client}}, r.create},
		{stepLink, call{action: actionLinkSelf, client: r.state.profile, others: []string{client}, changing: true}, r.link},
		{stepPortal, call{action: actionPermit, client: r.state.profile, changing: true}, r.portal},
		{stepAssign, call{action: actionReassign, client: r.state.profile, changing: true}, r.assign},
	} {
		if r.state.answer != nil {
			break
		}
		if err := r.step(ctx, step.name, step.call, step.work); err != nil {
			return Workflow{}, err
		}
	}
	return *r.state.answer, nil
}

func (p SecondProfile) check() error {
	if err := checkID("/practitioner", p.Practitioner); err != nil {
		return err
	}
	return checkName("/label", p.Label)
}

// begin finds the workflow of this key, or starts it. What no repetition of the
// call could repair is refused here, before anything is made.
func (r *run) begin(ctx context.Context) error {
	steps := []Step{{Name: stepCreate, State: stateWaiting}, {Name: stepLink, State: stateWaiting}, {Name: stepPortal, State: stateWaiting}, {Name: stepAssign, State: stateWaiting}}
	c := call{actor: r.actor, action: actionSecond, practice: r.practice, client: r.client, members: []string{r.wanted.Practitioner}}
	return r.do(ctx, c, func(a *act) error {
		_, err := a.tx.Exec(ctx, insertWorkflow, r.key.Caller, r.practice, r.client, r.key.Key, r.fingerprint, uuid.NewString(), steps)
		if err != nil {
			return fmt.Errorf("begin second profile: %w", err)
		}
		if err := r.hold(ctx, a.tx); err != nil || r.state.answer != nil {
			return err
		}
		if r.state.steps[0].State == stateDone {
			return nil // it was begun: what stands in its way now, its steps say
		}
		if a.clients[r.client].secondary() {
			return linkRefused("", "this profile is itself linked to another one: begin at the primary profile")
		}
		if m, ok := a.people[r.wanted.Practitioner]; !ok || !m.assignable() {
			return refused("grantee-not-eligible", "/practitioner", "is no active practitioner of the practice")
		}
		return nil
	})
}

// hold locks the row of the workflow, so that one run goes on at a time, and
// reads it.
func (r *run) hold(ctx context.Context, tx pgx.Tx) error {
	var fingerprint, answer []byte
	r.state = state{}
	err := tx.QueryRow(ctx, holdWorkflow, r.key.Caller, r.practice, r.client, r.key.Key).
		Scan(&r.state.id, &fingerprint, &r.state.profile, &r.state.steps, &answer)
	if err != nil {
		return fmt.Errorf("read workflow: %w", err)
	}
	if !bytes.Equal(fingerprint, r.fingerprint) {
		return &authz.Problem{Kind: authz.ErrConflict, Type: "key-reused", Status: 422,
			Detail: "this Idempotency-Key was used for another request"}
	}
	if answer == nil {
		return nil
	}
	r.state.answer = &Workflow{}
	if err := json.Unmarshal(answer, r.state.answer); err != nil {
		return fmt.Errorf("read workflow: %w", err)
	}
	return nil
}

// step does one step, unless it is done, and marks it in the same transaction.
// A step that fails is marked too, and its problem says how far the workflow is.
func (r *run) step(ctx context.Context, name string, c call, work func(ctx context.Context, a *act) error) error {
	c.actor, c.practice, c.members, c.correlation = r.actor, r.practice, []string{r.wanted.Practitioner}, r.state.id
	err := r.do(ctx, c, func(a *act) error {
		if err := r.hold(ctx, a.tx); err != nil {
			return err
		}
		if r.state.answer != nil || r.find(name).State == stateDone {
			return nil
		}
		if err := work(ctx, a); err != nil {
			return err
		}
		return r.mark(ctx, a.tx, name, stateDone)
	})
	if err == nil {
		return nil
	}
	return r.failed(ctx, name, err)
}

func (r *run) find(name string) *Step {
	i := slices.IndexFunc(r.state.steps, func(s Step) bool { return s.Name == name })
	return &r.state.steps[i]
}

// mark writes the state of a step, and the answer once there is one.
func (r *run) mark(ctx context.Context, tx pgx.Tx, name, to string) error {
	step, now := r.find(name), time.Now().UTC().Truncate(time.Microsecond)
	step.State, step.At = to, &now
	if r.state.answer != nil {
		r.state.answer.Steps = r.state.steps
	}
	if _, err := tx.Exec(ctx, updateWorkflow, r.state.id, r.state.steps, r.state.answer); err != nil {
		return fmt.Errorf("mark step %s: %w", name, err)
	}
	return nil
}

// failed marks a step that failed with err, which has been taken back, and
// returns the problem that the caller sees.
func (r *run) failed(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	marked := postgres.InTx(ctx, r.pool, func(tx pgx.Tx) error {
		if err := r.hold(ctx, tx); err != nil {
			return err
		}
		if r.find(name).State == stateDone {
			return nil // another run was quicker
		}
		return r.mark(ctx, tx, name, stateFailed)
	})
	if marked != nil {
		return errors.Join(err, marked)
	}
	p := &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide", Detail: "a part that is needed is down"}
	if known := (*authz.Problem)(nil); errors.As(err, &known) {
		copied := *known
		p = &copied
	}
	p.Detail = fmt.Sprintf("step %s failed: %s; what is done stays, and the same call goes on from there", name, strings.TrimSuffix(p.Detail, "."))
	p.Extra = map[string]any{"steps": r.state.steps, "correlation": r.state.id}
	return &stepFailed{Problem: p, cause: err}
}

// stepFailed is the problem of a failed step, with the cause for the log.
type stepFailed struct {
	*authz.Problem
	cause error
}

func (f *stepFailed) Error() string { return f.cause.Error() }

// Unwrap leads to the problem and to the cause.
func (f *stepFailed) Unwrap() []error { return []error{f.Problem, f.cause} }

// create makes the second profile: the same name, no e-mail, and a label that
// tells the two apart.
func (r *run) create(ctx context.Context, a *act) error {
	first := a.clients[r.client]
	if first == nil {
		return notFound()
	}
	return a.insertClient(ctx, NewClient{ID: r.state.profile, FirstName: first.firstName, LastName: first.lastName, Label: r.wanted.Label})
}

// link makes the first profile's client a contact of the second, as himself.
func (r *run) link(ctx context.Context, a *act) error {
	_, _, err := a.addContact(ctx, NewContact{ExistingClient: r.client, Relationship: authz.RelationshipSelf}, r.client)
	return err
}

// self is the contact that link made.
func (r *run) self(ctx context.Context, a *act) (*Contact, error) {
	contacts, err := a.contacts(ctx, r.state.profile, "")
	if err != nil {
		return nil, err
	}
	for _, k := range contacts {
		if k.Relationship == authz.RelationshipSelf && k.person == r.client {
			return &k, nil
		}
	}
	return nil, linkRefused("", "the profiles were unlinked meanwhile")
}

// portal sets what the person may do with the second profile, and invites him.
// The invitation's code is made when it is asked for, by Invite.
func (r *run) portal(ctx context.Context, a *act) error {
	k, err := r.self(ctx, a)
	if err != nil {
		return err
	}
	if r.wanted.Invite {
		if _, err := a.permit(ctx, actionInvite, r.state.profile); err != nil {
			return err
		}
		if err := a.markInvited(ctx, r.state.profile, *k); err != nil {
			return err
		}
	}
	_, err = a.permitContact(ctx, r.state.profile, *k, r.wanted.Manage, r.wanted.Permissions)
	return err
}

// assign gives the second profile to its practitioner, and makes the answer.
func (r *run) assign(ctx context.Context, a *act) error {
	profile, to := a.clients[r.state.profile], r.wanted.Practitioner
	switch m, ok := a.people[to]; {
	case profile.assigned != "" && profile.assigned != to:
		return conflict("assigned-meanwhile", "the second profile was assigned to another practitioner meanwhile")
	case !ok || !m.assignable():
		return refused("grantee-not-eligible", "/practitioner", "is no active practitioner of the practice")
	}
	if profile.assigned == "" {
		if err := a.assign(ctx, profile, to); err != nil {
			return err
		}
	}
	shown, err := a.view(ctx, r.state.profile)
	if err != nil {
		return err
	}
	k, err := r.self(ctx, a)
	if err != nil {
		return err
	}
	k.login, k.person = "", "" // as it is stored, so that every repetition is the same
	r.state.answer = &Workflow{Profile: shown, Contact: *k, Correlation: r.state.id}
	return nil
}

// assign assigns a client whom nobody is assigned to. A grant that this makes
// needless ends, as with every assignment (setting
// close_redundant_grant_on_assign; DOMAIN rule 53).
func (a *act) assign(ctx context.Context, c *client, to string) error {
	if _, err := a.tx.Exec(ctx, updateAssigned, a.practice, c.id, to); err != nil {
		return fmt.Errorf("assign: %w", err)
	}
	c.assigned = to
	if err := a.record(ctx, change{action: actionReassign, target: to, client: c.id, before: map[string]any{}, after: map[string]any{"assigned": to}}); err != nil {
		return err
	}
	if !a.defaults.On("close_redundant_grant_on_assign") {
		return nil
	}
	rows, err := a.tx.Query(ctx, closeGrantOf, a.practice, c.id, to)
	if err != nil {
		return fmt.Errorf("assign: %w", err)
	}
	closed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("assign: %w", err)
	}
	for _, id := range closed {
		if err := a.record(ctx, change{action: actionReassign, target: to, client: c.id, before: map[string]any{"grant": id}, after: map[string]any{"closed": "superseded"}}); err != nil {
			return err
		}
	}
	return nil
}
