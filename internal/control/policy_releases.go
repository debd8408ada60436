package control

import (
	"encoding/json"
	"slices"
	"time"

	"chartgate/internal/feed"
	"chartgate/internal/release"
	"chartgate/internal/web"
)

// releaseView is a release, without its source.
type releaseView struct {
	ID         string         `json:"id"`
	State      release.State  `json:"state"`
	Title      string         `json:"title"`
	Author     string         `json:"author"`
	MadeAt     time.Time      `json:"made_at"`
	Version    int64          `json:"version"`
	Content    string         `json:"content,omitempty"` // absent while it cannot be built
	Base       string         `json:"base,omitempty"`
	Approver   string         `json:"approver,omitempty"`
	ApprovedAt *time.Time     `json:"approved_at,omitempty"`
	Revision   int64          `json:"revision,omitempty"`
	Candidate  *stageView     `json:"candidate,omitempty"`
	Possible   []release.Verb `json:"possible"`

	// Where one release is shown.
	Evidence       json.RawMessage `json:"evidence,omitempty"`
	EvidenceDigest string          `json:"evidence_digest,omitempty"`
	Steps          []stepName      `json:"steps,omitempty"`
}

// stageView is how far a candidate is.
type stageView struct {
	Stage string `json:"stage"`
	Share int    `json:"share,omitempty"`
}

// stepName is a step that a draft must pass.
type stepName struct {
	Name  string        `json:"name"`
	For   release.State `json:"for"`
	About string        `json:"about"`
}

// activationView says which release decides.
type activationView struct {
	Serial    int64  `json:"serial"`
	Release   string `json:"release"`
	Content   string `json:"content"`
	Revision  int64  `json:"revision"`
	Candidate string `json:"candidate,omitempty"`
	Stage     string `json:"stage,omitempty"`
	Share     int    `json:"share,omitempty"`
}

func viewActivation(a feed.Activation) activationView {
	return activationView{a.Serial, a.Active.Name, a.Active.Content, a.Active.Revision, a.Candidate.Name, a.Stage, a.Share}
}

func viewRelease(r *release.Release, a feed.Activation) releaseView {
	v := releaseView{ID: r.ID, State: r.State, Title: r.Title, Author: r.Author, MadeAt: r.MadeAt.UTC(), Version: r.Version, Content: r.Content, Base: r.Base,
		Approver: r.Approver, Revision: r.Revision, Possible: release.Possible(r.State)}
	if r.ApprovedAt != nil {
		at := r.ApprovedAt.UTC()
		v.ApprovedAt = &at
	}
	if a.Candidate.Name == r.ID {
		v.Candidate = &stageView{a.Stage, a.Share}
	}
	return v
}

// view is a release with its evidence.
func (p *policyCall) view(r *release.Release) (releaseView, error) {
	a, err := feed.ReadActivation(p.ctx, p.o.Pool)
	if err != nil {
		return releaseView{}, err
	}
	v := viewRelease(r, a)
	v.Evidence, v.EvidenceDigest = r.EvidenceText, r.EvidenceDigest
	for _, step := range p.o.Releases.Steps() {
		v.Steps = append(v.Steps, stepName{step.Name, step.For, step.About})
	}
	return v, nil
}

func listReleases(p *policyCall) error {
	state := release.State(web.Copy(p.c.Query("state")))
	if state == "" {
		return p.list("releases", nil)
	}
	if !slices.Contains(release.States, state) {
		return web.Malformed("there is no such state", "/state", "must be draft, verified, reviewed, approved, active or retired")
	}
	return p.list("releases "+string(state), []release.State{state})
}

func showRelease(p *policyCall) error {
	id, err := p.param("release")
	if err != nil {
		return err
	}
	r, err := p.o.Releases.Get(p.ctx, id)
	if err != nil {
		return err
	}
	return p.showRelease(r)
}

func (p *policyCall) showRelease(r *release.Release) error {
	view, err := p.view(r)
	if err != nil {
		return err
	}
	body, err := encode(view)
	if err != nil {
		return err
	}
	return show(p.c, accessTag(r.Version, body), body)
}

func approveRelease(p *policyCall) error {
	id, err := p.param("release")
	if err != nil {
		return err
	}
	var body struct {
		Evidence string `json:"evidence"`
	}
	if err := web.Read(p.c, &body); err != nil {
		return err
	}
	r, err := p.o.Releases.Approve(p.ctx, p.by, id, body.Evidence)
	if err != nil {
		return err
	}
	return p.showRelease(r)
}

func activateRelease(p *policyCall) error {
	id, err := p.param("release")
	if err != nil {
		return err
	}
	body := struct {
		Stage string `json:"stage,omitempty"`
		Share int    `json:"share,omitempty"`
		Force bool   `json:"force,omitempty"`
	}{Stage: release.StageAll}
	if len(p.c.BodyRaw()) > 0 {
		if err := web.Read(p.c, &body); err != nil {
			return err
		}
	}
	a, err := p.o.Releases.Activate(p.ctx, p.by, id, release.Turn{Stage: body.Stage, Share: body.Share, Force: body.Force})
	if err != nil {
		return err
	}
	if err := p.settled(); err != nil {
		return err
	}
	return p.c.JSON(viewActivation(a))
}

func withdrawRelease(p *policyCall) error {
	id, err := p.param("release")
	if err != nil {
		return err
	}
	a, err := p.o.Releases.Withdraw(p.ctx, p.by, id)
	if err != nil {
		return err
	}
	if err := p.settled(); err != nil {
		return err
	}
	return p.c.JSON(viewActivation(a))
}
