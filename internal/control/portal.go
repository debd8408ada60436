package control

import (
	"net/http"
	"time"

	"chartgate/internal/profiles"
	"chartgate/internal/web"
)

// headerSession carries the session of the profile that was entered.
const headerSession = "Chartgate-Portal-Session"

// bound reports whether the caller may speak for a practice.
func (v *visit) bound(practice string) bool { return web.CallerOf(v.c).MayAskAbout(practice) }

func acceptPortalInvitation(v *visit) error {
	var body struct {
		Code string `json:"code"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	client, err := v.profiles.Accept(v.ctx, v.actor, body.Code, v.bound)
	if err != nil {
		return err
	}
	return v.changed(http.StatusCreated, struct {
		Client string `json:"client"`
	}{client})
}

// entryView is one line of the switcher.
type entryView struct {
	Client string `json:"client"`
	Label  string `json:"label"`
	Self   bool   `json:"self"`
}

func listPortalProfiles(v *visit) error {
	entries, err := v.profiles.Profiles(v.ctx, v.actor, v.bound)
	if err != nil {
		return err
	}
	body := struct {
		Profiles []entryView `json:"profiles"`
	}{make([]entryView, len(entries))}
	for i, e := range entries {
		body.Profiles[i] = entryView(e)
	}
	return v.c.JSON(body)
}

// sessionView is the profile that a login has entered.
type sessionView struct {
	Session   string    `json:"session"`
	Client    string    `json:"client"`
	ExpiresAt time.Time `json:"expires_at"`
}

func viewSession(s profiles.Session) sessionView {
	return sessionView{Session: s.Token, Client: s.Client, ExpiresAt: s.ExpiresAt}
}

func enterProfile(v *visit) error {
	var body struct {
		Client string `json:"client"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	session, err := v.profiles.Enter(v.ctx, v.actor, body.Client, v.bound)
	if err != nil {
		return err
	}
	return v.c.Status(http.StatusCreated).JSON(viewSession(session))
}

// showSession tells the portal's service which profile a session is of, while
// it may still be entered.
func showSession(v *visit) error {
	session, err := v.profiles.Entered(v.ctx, v.actor, web.Copy(v.c.Get(headerSession)), v.bound)
	if err != nil {
		return err
	}
	return v.c.JSON(viewSession(session))
}
