package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"chartgate/internal/release"
)

const (
	draftsPath   = "/api/v1/policy/drafts"
	releasesPath = "/api/v1/policy/releases"
)

// remoteRelease is a draft or a release as control shows it.
type remoteRelease struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Title    string `json:"title"`
	Author   string `json:"author"`
	Approver string `json:"approver"`
	Content  string `json:"content"`
	Revision int64  `json:"revision"`

	Candidate *struct {
		Stage string `json:"stage"`
		Share int    `json:"share"`
	} `json:"candidate"`
	Evidence       release.Evidence `json:"evidence"`
	EvidenceDigest string           `json:"evidence_digest"`
	Steps          []struct {
		Name string `json:"name"`
	} `json:"steps"`
}

// remoteActivation says which release decides.
type remoteActivation struct {
	Release   string `json:"release"`
	Content   string `json:"content"`
	Revision  int64  `json:"revision"`
	Candidate string `json:"candidate"`
	Stage     string `json:"stage"`
	Share     int    `json:"share"`
}

func (a remoteActivation) String() string {
	text := fmt.Sprintf("active: %s, %s, revision %d", a.Release, a.Content, a.Revision)
	switch {
	case a.Candidate != "" && a.Share > 0:
		text += fmt.Sprintf("; candidate: %s, deciding for %d%% of the practices", a.Candidate, a.Share)
	case a.Candidate != "":
		text += fmt.Sprintf("; candidate: %s, stage %s", a.Candidate, a.Stage)
	}
	return text
}

// list asks for all releases in a state; "" for all.
func (f controlFlags) list(ctx context.Context, state string) (list []remoteRelease, active *remoteActivation, err error) {
	query := url.Values{"limit": {"200"}, "state": {state}}
	for {
		var page struct {
			Activation *remoteActivation `json:"activation"`
			Releases   []remoteRelease   `json:"releases"`
			Next       string            `json:"next"`
		}
		if _, err := f.call(ctx, http.MethodGet, releasesPath+"?"+query.Encode(), nil, &page); err != nil {
			return nil, nil, err
		}
		list, active = append(list, page.Releases...), page.Activation
		if page.Next == "" {
			return list, active, nil
		}
		query.Set("cursor", page.Next)
	}
}

type policyReleases struct {
	State string `placeholder:"STATE" help:"Only those that are draft, verified, reviewed, approved, active or retired."`
	controlFlags
}

// Run lists drafts and releases, the newest first.
func (c *policyReleases) Run(ctx context.Context) error {
	list, active, err := c.list(ctx, c.State)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tREVISION\tAUTHOR\tAPPROVER\tCONTENT\tTITLE")
	for _, r := range list {
		if r.Candidate != nil {
			r.State += ", " + r.Candidate.Stage
		}
		revision := ""
		if r.Revision > 0 {
			revision = fmt.Sprint(r.Revision)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, revision, r.Author, r.Approver, r.Content, r.Title)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if active == nil {
		fmt.Println("no release is active: the policy that came with each program decides")
		return nil
	}
	fmt.Println(active)
	return nil
}

type policySubmit struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	Title  string `required:"" help:"What changes, in a sentence: the approver reads it."`
	Draft  string `placeholder:"ID" help:"Replace the source of this draft of yours. Without it a new one is made."`
	controlFlags
}

// Run sends a folder as a draft and has every step run on it.
func (c *policySubmit) Run(ctx context.Context) error {
	source, err := release.ReadSourceFolder(os.DirFS(c.Folder))
	if err != nil {
		return err
	}
	body := map[string]any{"title": c.Title, "files": source.Texts()}
	var draft remoteRelease
	if c.Draft == "" {
		_, err = c.call(ctx, http.MethodPost, draftsPath, body, &draft)
	} else {
		var header http.Header
		at := draftsPath + "/" + url.PathEscape(c.Draft)
		if header, err = c.call(ctx, http.MethodGet, at, nil, nil); err == nil {
			_, err = c.call(ctx, http.MethodPut, at, body, &draft, "If-Match", header.Get("ETag"))
		}
	}
	if err != nil {
		return err
	}
	fmt.Printf("draft %s, %s\n", draft.ID, cmp.Or(draft.Content, "which cannot be built"))
	state := draft.State
	for _, step := range draft.Steps {
		if state, err = c.step(ctx, draftsPath+"/"+url.PathEscape(draft.ID)+"/"+url.PathEscape(step.Name), step.Name); err != nil {
			return err
		}
	}
	if state != string(release.StateReviewed) {
		return fmt.Errorf("the draft is %s: put right what was found, and submit it again with --draft %s", state, draft.ID)
	}
	fmt.Printf("it is reviewed: another person approves it with\n\tchartgate policy approve %s\n", draft.ID)
	return nil
}

// step runs a step to its end and prints what it found.
func (c *policySubmit) step(ctx context.Context, at, name string) (state string, err error) {
	var found struct {
		State   string          `json:"state"`
		Outcome release.Outcome `json:"outcome"`
		Summary string          `json:"summary"`
	}
	method := http.MethodPost
	for {
		if _, err := c.call(ctx, method, at, nil, &found); err != nil {
			return "", err
		}
		if found.Outcome != release.Running {
			fmt.Printf("%s: %s: %s\n", name, found.Outcome, found.Summary)
			return found.State, nil
		}
		method = http.MethodGet
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

type policyApprove struct {
	ID       string `arg:"" help:"The draft's id."`
	Evidence string `placeholder:"DIGEST" help:"The digest of the evidence that you have seen. Without it the evidence is shown."`
	controlFlags
}

// Run shows what is to be approved; with the digest of it, it approves.
func (c *policyApprove) Run(ctx context.Context) error {
	at := releasesPath + "/" + url.PathEscape(c.ID)
	var r remoteRelease
	if c.Evidence != "" {
		if _, err := c.call(ctx, http.MethodPost, at+"/approve", map[string]any{"evidence": c.Evidence}, &r); err != nil {
			return err
		}
		fmt.Printf("approved %s, revision %d: activate it with\n\tchartgate policy activate %s\n", r.ID, r.Revision, r.ID)
		return nil
	}
	if _, err := c.call(ctx, http.MethodGet, at, nil, &r); err != nil {
		return err
	}
	fmt.Printf("%s: %s\nby %s, %s, %s\n", r.ID, r.Title, r.Author, r.State, r.Content)
	if r.Evidence.SingleSigner != "" {
		fmt.Println("one person only:", r.Evidence.SingleSigner)
	}
	for _, step := range r.Steps {
		found := r.Evidence.Steps[step.Name]
		fmt.Printf("%s: %s: %s\n", step.Name, cmp.Or(found.Outcome, "not run"), found.Summary)
	}
	if r.State != string(release.StateReviewed) {
		return fmt.Errorf("a release that is %s cannot be approved", r.State)
	}
	fmt.Printf("all of it: %s%s\nto approve exactly this:\n\tchartgate policy approve %s --evidence %s\n", c.ControlURL, at, r.ID, r.EvidenceDigest)
	return nil
}

type policyActivate struct {
	ID    string `arg:"" help:"The release's id."`
	Stage string `enum:"prepare,shadow,share,all" default:"all" help:"How far: prepare (sidecars fetch it), shadow (it is asked beside the active one, without effect), share (it decides for a share of the practices), all. Default: ${default}."`
	Share int    `placeholder:"PERCENT" help:"With --stage share: percent of the practices, 1 to 99."`
	Force bool   `help:"Do not wait until the sidecars have it ready."`
	controlFlags
}

// Run activates a release, and returns once it decides everywhere.
func (c *policyActivate) Run(ctx context.Context) error {
	body := map[string]any{"stage": c.Stage, "force": c.Force}
	if c.Share != 0 {
		body["share"] = c.Share
	}
	return c.turn(ctx, c.ID, "activate", body)
}

func (f controlFlags) turn(ctx context.Context, id, verb string, body any) error {
	var a remoteActivation
	if _, err := f.call(ctx, http.MethodPost, releasesPath+"/"+url.PathEscape(id)+"/"+verb, body, &a); err != nil {
		return err
	}
	fmt.Println(a)
	return nil
}

type policyWithdraw struct {
	ID string `arg:"" help:"The candidate's id."`
	controlFlags
}

// Run takes a candidate back.
func (c *policyWithdraw) Run(ctx context.Context) error { return c.turn(ctx, c.ID, "withdraw", nil) }

type policyRollback struct {
	ID    string `arg:"" optional:"" help:"The release to go back to. Default: the one that was active before."`
	Force bool   `help:"Do not wait until the sidecars have it ready."`
	controlFlags
}

// Run activates an earlier release again.
func (c *policyRollback) Run(ctx context.Context) error {
	if c.ID == "" {
		retired, _, err := c.list(ctx, string(release.StateRetired))
		if err != nil {
			return err
		}
		if len(retired) == 0 {
			return errors.New("there is no earlier release")
		}
		c.ID = slices.MaxFunc(retired, func(a, b remoteRelease) int { return cmp.Compare(a.Revision, b.Revision) }).ID
	}
	return c.turn(ctx, c.ID, "activate", map[string]any{"stage": release.StageAll, "force": c.Force})
}

type policyKeygen struct {
	Output string `short:"o" default:"policy-signing-key.pem" placeholder:"FILE" help:"Where the private key goes, for control; the public half goes beside it, as .pub, for sidecars. Default: ${default}."`
}

// Run makes a key pair. It replaces nothing.
func (c *policyKeygen) Run() error {
	signer, err := release.NewSigner()
	if err != nil {
		return err
	}
	for path, half := range map[string]func() ([]byte, error){c.Output: signer.Private, c.Output + ".pub": signer.Public} {
		text, err := half()
		if err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		if _, err = file.Write(text); err == nil {
			err = file.Sync()
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	if err := os.Chmod(c.Output+".pub", 0o644); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	fmt.Printf("key %s\n%s      for control: --policy-signing-key\n%s  for sidecars: --policy-key\n", signer.ID(), c.Output, c.Output+".pub")
	return nil
}
