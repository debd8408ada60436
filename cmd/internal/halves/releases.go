package halves

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// Policy says where a sidecar's releases of the policy come from.
type Policy struct {
	ControlURL string   `name:"control-url" env:"CHARTGATE_CONTROL_URL" placeholder:"URL" help:"Where control answers: releases of the policy are fetched there, with CHARTGATE_CONTROL_KEY (scope operate), and what runs here is reported there."`
	PolicyKey  []string `name:"policy-key" env:"CHARTGATE_POLICY_KEY" placeholder:"FILE" help:"Public keys (PEM) that releases are signed with. Without one only the policy that is built in can decide."`
	PolicyDir  string   `name:"policy-dir" env:"CHARTGATE_POLICY_DIR" placeholder:"FOLDER" help:"Where the last known good release is kept: a folder of this sidecar's own, on a volume that stays. Default: ${policy_dir}."`
}

// Faults lists what is wrong with it.
func (p Policy) Faults(secrets Secrets) []error {
	var faults []error
	if p.ControlURL != "" {
		if _, err := pdp.NewControl(p.ControlURL, secrets.ControlKey); err != nil {
			faults = append(faults, fmt.Errorf("--control-url: %w", err))
		}
		if secrets.ControlKey == "" {
			faults = append(faults, errors.New("CHARTGATE_CONTROL_KEY is not set: --control-url needs an API key of control with scope operate"))
		}
	}
	if _, err := p.Keys(); err != nil {
		faults = append(faults, fmt.Errorf("--policy-key: %w", err))
	}
	return faults
}

// Keys reads the keys.
func (p Policy) Keys() (*pdp.Keys, error) {
	texts, err := readAll(p.PolicyKey)
	if err != nil {
		return nil, err
	}
	return pdp.ReadKeys(texts...)
}

func readAll(files []string) ([][]byte, error) {
	var texts [][]byte
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// followReleases makes what follows the activation of releases; o says who
// reports. A fixed policy follows nothing, and there is nil.
func (h *Half) followReleases(c Config, follow *pgxpool.Pool, d *feed.Deployment, o pdp.ReleaseOptions) (*pdp.Releases, error) {
	if c.Fixed || c.Engine.OwnPolicy() {
		h.compilePolicy(c)
		return nil, nil
	}
	shadow := pdp.NewShadow(checkedShare, checkedApart)
	c.Engine.Watch(shadow)
	h.services = append(h.services, shadow.Run)
	o.Shipped, o.Keys, o.Deployment, o.Dir, o.Shadow, o.Log, o.Certify = c.Engine, c.PolicyKeys, d.ID.String(), c.PolicyDir, shadow, c.Log, c.certify
	o.Read = func(ctx context.Context) (feed.Activation, error) { return feed.ReadActivation(ctx, follow) }
	if c.ControlURL != "" {
		var err error
		if o.Control, err = pdp.NewControl(c.ControlURL, c.ControlKey); err != nil {
			return nil, err
		}
	}
	releases := pdp.NewReleases(o)
	h.services = append(h.services, releases.Run)
	return releases, nil
}

// compilePolicy has a policy that stays compiled while OPA decides already, and
// its decisions looked at.
func (h *Half) compilePolicy(c Config) {
	if c.Engine.OwnPolicy() {
		return
	}
	shadow := pdp.NewShadow(checkedShare, checkedApart)
	c.Engine.Watch(shadow)
	h.services = append(h.services, shadow.Run, func(ctx context.Context) error { c.certify(ctx, c.Engine); return nil })
}

// One of so many decisions of the compiled policy is evaluated again by OPA, in
// the background, and at most ten in a second.
const (
	checkedShare = 100
	checkedApart = 100 * time.Millisecond
)

// certify compiles a policy while OPA decides already. A policy that cannot be
// certified stays with OPA, which is right and slower.
func (c Config) certify(ctx context.Context, engine *pdp.Engine) {
	if !c.Fixed && engine.Revision() == builtInRevision() {
		engine.CertifiedBefore()
	}
	report, err := engine.Certify(ctx)
	debug.FreeOSMemory() // a certificate takes several times what is kept of it
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.Log.Error("the compiled policy is not used, OPA decides", "policy", engine.Revision(), "error", err)
	default:
		c.Log.Info("the compiled policy decides", "policy", engine.Revision(), "certified", report.String())
	}
}

// releaseCheck holds while the release that is active decides here.
func releaseCheck(r *pdp.Releases) web.Check {
	return web.Check{Name: "release", Hint: "the active release of the policy does not decide here, so nothing is decided", Probe: r.Check, Says: r.Says}
}
