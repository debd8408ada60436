package control

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/release"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// prompt is how long a step may take before its call is answered without it.
const prompt = 2 * time.Second

var draftStates = []release.State{release.StateDraft, release.StateVerified, release.StateReviewed}

// draftView is a draft with its source: what a PUT replaces, and more.
type draftView struct {
	releaseView
	Files map[string]string `json:"files"`
}

func listDrafts(p *policyCall) error { return p.list("drafts", draftStates) }

// readDraft reads title, base and source: JSON, or a .tar.gz as the body with
// the rest in the query.
func (p *policyCall) readDraft() (title, base string, source release.Source, err error) {
	if kind := p.c.Get(fiber.HeaderContentType); kind == "application/gzip" {
		source, err = release.ReadSourceArchive(p.c.BodyRaw())
		return web.Copy(p.c.Query("title")), web.Copy(p.c.Query("base")), source, err
	}
	var body struct {
		Title string            `json:"title"`
		Base  string            `json:"base,omitempty"`
		Files map[string]string `json:"files,omitempty"`
	}
	if err := web.Read(p.c, &body); err != nil {
		return "", "", nil, err
	}
	if body.Files != nil {
		source, err = release.ReadSource(body.Files)
	}
	return body.Title, body.Base, source, err
}

func createDraft(p *policyCall) error {
	title, base, source, err := p.readDraft()
	if err != nil {
		return err
	}
	if base != "" && source != nil {
		return web.Malformed("base and files exclude one another", "/base", "names the release whose files are taken where none are sent")
	}
	r, err := p.o.Releases.Create(p.ctx, p.by, title, base, source)
	if err != nil {
		return err
	}
	p.c.Set(fiber.HeaderLocation, policyPath+"/drafts/"+url.PathEscape(r.ID))
	return p.showDraft(r, http.StatusCreated)
}

// showDraft answers with a draft, under a tag that begins with its version.
func (p *policyCall) showDraft(r *release.Release, status int) error {
	source, err := p.o.Releases.Source(p.ctx, r.ID)
	if err != nil {
		return err
	}
	view, err := p.view(r)
	if err != nil {
		return err
	}
	body, err := encode(draftView{view, source.Texts()})
	if err != nil {
		return err
	}
	p.c.Status(status)
	return show(p.c, accessTag(r.Version, body), body)
}

func showDraft(p *policyCall) error {
	id, err := p.param("draft")
	if err != nil {
		return err
	}
	r, err := p.o.Releases.Get(p.ctx, id)
	if err != nil {
		return err
	}
	return p.showDraft(r, http.StatusOK)
}

// current accepts the version that If-Match names.
func (p *policyCall) current() (func(int64) bool, error) {
	seen, err := ifMatch(p.c)
	return func(version int64) bool {
		return seen.strong(func(tag string) bool { return versionOf(tag, version) })
	}, err
}

func editDraft(p *policyCall) error {
	id, err := p.param("draft")
	if err != nil {
		return err
	}
	current, err := p.current()
	if err != nil {
		return err
	}
	title, base, source, err := p.readDraft()
	if err != nil {
		return err
	}
	if base != "" || source == nil {
		return web.Malformed("files are missing", "/files", "must hold the whole source")
	}
	r, err := p.o.Releases.Edit(p.ctx, p.by, id, title, source, current)
	if err != nil {
		return err
	}
	return p.showDraft(r, http.StatusOK)
}

func deleteDraft(p *policyCall) error {
	id, err := p.param("draft")
	if err != nil {
		return err
	}
	current, err := p.current()
	if err != nil {
		return err
	}
	if err := p.o.Releases.Delete(p.ctx, p.by, id, current); err != nil {
		return err
	}
	return p.c.SendStatus(http.StatusNoContent)
}

// stepView is what is known of one step.
type stepView struct {
	Step  string        `json:"step"`
	State release.State `json:"state"` // of the draft
	release.Finished
}

// runStep runs a step. One that takes long goes on by itself: 202, and GET of
// the same address says how far it is.
func runStep(p *policyCall) error {
	id, err := p.param("draft")
	if err != nil {
		return err
	}
	name, err := p.param("step")
	if err != nil {
		return err
	}
	var body struct {
		From *time.Time `json:"from,omitempty"`
		To   *time.Time `json:"to,omitempty"`
	}
	if len(p.c.BodyRaw()) > 0 {
		if err := web.Read(p.c, &body); err != nil {
			return err
		}
	}
	var period release.Period
	if body.From != nil {
		period.From = *body.From
	}
	if body.To != nil {
		period.To = *body.To
	}
	if !period.From.IsZero() && !period.To.IsZero() && !period.From.Before(period.To) {
		return web.Malformed("the period is empty", "/to", "must be later than from")
	}
	_, ended, err := p.o.Releases.Start(p.ctx, p.by, id, name, period)
	if err != nil {
		return err
	}
	p.c.Set(fiber.HeaderLocation, policyPath+"/drafts/"+url.PathEscape(id)+"/"+url.PathEscape(name))
	select {
	case <-ended:
	case <-time.After(prompt):
	}
	return p.step(id, name, http.StatusAccepted)
}

func showStep(p *policyCall) error {
	id, err := p.param("draft")
	if err != nil {
		return err
	}
	name, err := p.param("step")
	if err != nil {
		return err
	}
	return p.step(id, name, http.StatusOK)
}

// step shows a step; running is the status while it has not ended.
func (p *policyCall) step(id, name string, running int) error {
	r, err := p.o.Releases.Get(p.ctx, id)
	if err != nil {
		return err
	}
	found, ok := r.Evidence.Steps[name]
	if !ok {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	if found.EndedAt == nil {
		p.c.Status(running)
	}
	return p.c.JSON(stepView{name, r.State, found})
}

func listSidecars(p *policyCall) error {
	sidecars, err := p.o.Releases.Sidecars(p.ctx)
	if err != nil {
		return err
	}
	type sidecarView struct {
		ID     string          `json:"id"`
		At     time.Time       `json:"at"`
		Age    float64         `json:"age_seconds"`
		Report json.RawMessage `json:"report"`
	}
	list := []sidecarView{}
	for _, s := range sidecars {
		list = append(list, sidecarView{s.ID, s.At.UTC(), s.Age.Seconds(), s.Report})
	}
	return p.c.JSON(fiber.Map{"sidecars": list})
}

func reportSidecar(p *policyCall) error {
	id, err := p.param("sidecar")
	if err != nil {
		return err
	}
	if err := web.RequireJSON(p.c); err != nil {
		return err
	}
	if _, err := web.StrictObject(p.c.BodyRaw()); err != nil {
		return err
	}
	if err := p.o.Releases.Report(p.ctx, id, []byte(strings.Clone(string(p.c.BodyRaw())))); err != nil {
		return err
	}
	return p.c.SendStatus(http.StatusNoContent)
}
