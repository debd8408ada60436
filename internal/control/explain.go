package control

import (
	"fmt"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/grants"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/web"

	"github.com/jackc/pgx/v5"
)

// Actions that say who may be told why (DESIGN 11, denials): all of it whoever
// says who has access, of a client or of the practice; that it is allowed
// whoever may know of the client, or of the members.
const (
	actionManage        = "access.manage"
	actionManageMembers = "member.roles"
	actionListMembers   = "member.list"
)

// purposeExplain is the purpose of use of a decision that was made to be
// explained, so that the record tells it from one that somebody acted on. A
// request that is explained can state another.
const purposeExplain = "explain"

// explanation is the answer. WouldAllow stands in it only for whoever may manage
// access, and only of a refusal.
type explanation struct {
	Decision   bool      `json:"decision"`
	Code       string    `json:"code"`
	Sentences  []string  `json:"sentences"`
	Bases      []string  `json:"bases"`
	WouldAllow []pdp.Way `json:"would_allow,omitzero"`
}

// explain says why a request is decided as it is.
//
// Who may manage the client's access is told everything. The subject himself,
// and whoever may list the client, is told of an allowance on what it rests,
// and of a refusal nothing but no_basis. To everybody else the client does not
// exist (promise P8; DOMAIN rules 105, 114, 116).
func explain(v *visit) error {
	r, err := v.explainedRequest()
	if err != nil {
		return err
	}
	var answer explanation
	err = postgres.InTx(v.ctx, v.o.Pool, func(tx pgx.Tx) error {
		var err error
		answer, err = v.explain(tx, r)
		return err
	})
	if err != nil {
		return err
	}
	return v.c.JSON(answer)
}

// explainedRequest reads what is to be explained. It is about the practice of
// the path.
func (v *visit) explainedRequest() (authz.Request, error) {
	var body struct {
		Subject struct {
			Type string `json:"type"`
			ID   string `json:"id"`
		} `json:"subject"`
		Action struct {
			Name string `json:"name"`
		} `json:"action"`
		Resource struct {
			Type       string         `json:"type"`
			ID         string         `json:"id"`
			Properties map[string]any `json:"properties,omitempty"`
		} `json:"resource"`
		Context struct {
			Purpose       string `json:"purpose,omitempty"`
			PortalProfile string `json:"portal_profile,omitempty"`
		} `json:"context,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return authz.Request{}, err
	}
	r := authz.Request{
		Subject: authz.Subject(body.Subject), Action: body.Action.Name,
		Resource: authz.Resource{Type: body.Resource.Type, ID: body.Resource.ID, Properties: body.Resource.Properties},
		Context:  authz.Context{Purpose: body.Context.Purpose, PortalProfile: body.Context.PortalProfile},
	}
	if r.Context.Purpose == "" {
		r.Context.Purpose = purposeExplain
	}
	const foreign = "must be the practice of the path"
	if r.Resource.Type == authz.ResourcePractice {
		if r.Resource.ID != v.practice {
			return r, web.Malformed("resource.id "+foreign, "/resource/id", foreign)
		}
		return r, nil
	}
	if r.Resource.Properties == nil {
		r.Resource.Properties = authz.Properties{}
	}
	if stated, ok := r.Resource.Properties["practice"]; !ok {
		r.Resource.Properties["practice"] = v.practice
	} else if stated != v.practice {
		return r, web.Malformed("resource.properties.practice "+foreign, "/resource/properties/practice", foreign)
	}
	return r, nil
}

// explain decides r, and tells of it what the actor may know.
func (v *visit) explain(tx pgx.Tx, r authz.Request) (explanation, error) {
	decided, err := v.asked.May(v.ctx, tx, r)
	if err != nil {
		return explanation{}, err
	}
	d := decided.Exact
	switch d.Code { // both are about the request alone
	case authz.CodeUnknownAction:
		return explanation{}, web.Malformed(d.ReasonUser, "/action/name", "is no action that there is")
	case authz.CodeBadInput:
		return explanation{}, web.Malformed("what is to be explained does not say, in a form that can be read, who asks and for what", "/resource",
			"must be of the type that the action is asked on, with the properties that it needs")
	}
	manages, lists := actionManage, authz.ActionClientList
	resource := authz.Resource{Type: authz.ResourceClient, ID: decided.Request.Resource.Client(), Properties: authz.Properties{"practice": v.practice}}
	if resource.ID == "" {
		manages, lists = actionManageMembers, actionListMembers
		resource = authz.Resource{Type: authz.ResourcePractice, ID: v.practice}
	}
	manager, err := v.asked.May(v.ctx, tx, authz.Request{Subject: v.actor, Action: manages, Resource: resource})
	if err != nil {
		return explanation{}, err
	}
	if manager.Exact.Allow {
		return v.explainAll(tx, decided)
	}
	himself := v.actor == r.Subject
	if !himself {
		listed, err := v.asked.May(v.ctx, tx, authz.Request{Subject: v.actor, Action: lists, Resource: resource})
		if err != nil {
			return explanation{}, err
		}
		if !listed.Exact.Allow {
			return explanation{}, &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
		}
	}
	if !d.Allow {
		d = v.asked.policy.Refusal()
	}
	said := d.ReasonAdmin
	if himself {
		said = d.ReasonUser
	}
	return explanation{Decision: d.Allow, Code: d.Code, Sentences: []string{said}, Bases: d.Bases}, nil
}

// explainAll explains to somebody who may manage access. What is found on the
// way, by changing facts, is nobody's request and is not recorded.
func (v *visit) explainAll(tx pgx.Tx, decided authz.Verdict) (explanation, error) {
	x, err := v.asked.policy.Explain(v.ctx, decided.Request, decided.Facts)
	if err != nil {
		return explanation{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	display := pdp.Display{}
	if f := decided.Facts; f.Grant != nil {
		by, reason, err := grants.Given(v.ctx, tx, v.practice, f.Client.ID, decided.Request.Subject.ID, f.Grant.NotBefore)
		if err != nil {
			return explanation{}, err
		}
		display["grant.granted_by"], display["grant.reason"] = by, strings.Join(strings.Fields(reason), " ")
	}
	d := x.Decision
	answer := explanation{Decision: d.Allow, Code: d.Code, Sentences: x.Sentences(display), Bases: d.Bases}
	if !d.Allow {
		answer.WouldAllow = append([]pdp.Way{}, x.Ways...)
	}
	return answer, nil
}
