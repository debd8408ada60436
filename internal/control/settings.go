package control

import (
	"context"

	"chartgate/internal/authz"
	"chartgate/internal/grants"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// settingView is one setting: what it is, and whether the preset or the
// practice itself says so.
type settingView struct {
	Value  any    `json:"value"`
	Source string `json:"source"`
}

// viewSettings returns the body of the settings and its tag.
func viewSettings(s grants.Settings) (tag string, body []byte, err error) {
	settings := make(map[string]settingView, len(authz.Catalogue))
	for _, d := range authz.Catalogue {
		source := "preset"
		if _, set := s.Overrides[d.Name]; set {
			source = "override"
		}
		settings[d.Name] = settingView{Value: s.Effective.Show(d), Source: source}
	}
	body, err = encode(fiber.Map{"preset": s.Preset, "settings": settings})
	return digest(body), body, err
}

func showSettings(v *visit) error {
	s, err := v.grants.Settings(v.ctx, v.actor, v.practice)
	if err != nil {
		return err
	}
	tag, body, err := viewSettings(s)
	if err != nil {
		return err
	}
	return v.show(tag, body)
}

// settingsBody is what settings are to become.
type settingsBody struct {
	Preset    string         `json:"preset"`
	Overrides map[string]any `json:"overrides"`
}

// compareSettings shows what would change in the practice, and for whom, before
// anything is changed. Whoever may not save the settings is not told.
func compareSettings(v *visit) error {
	var body settingsBody
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	if _, err := v.grants.Settings(v.ctx, v.actor, v.practice); err != nil {
		return err
	}
	report, err := v.o.Releases.SettingsDifference(v.ctx, v.practice, body.Preset, body.Overrides)
	if err != nil {
		return err
	}
	return v.c.JSON(report)
}

func saveSettings(v *visit) error {
	seen, err := v.ifMatch()
	if err != nil {
		return err
	}
	var body settingsBody
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	s, err := v.grants.SaveSettings(v.ctx, v.actor, v.practice, body.Preset, body.Overrides, func(current grants.Settings) bool {
		tag, _, err := viewSettings(current)
		return err == nil && seen.strong(func(t string) bool { return t == tag })
	}, func(ctx context.Context) any {
		return v.o.Releases.EffectOf(ctx, v.practice, body.Preset, body.Overrides)
	})
	if err != nil {
		return err
	}
	tag, text, err := viewSettings(s)
	if err != nil {
		return err
	}
	if _, err := v.settled(); err != nil {
		return err
	}
	return v.show(tag, text)
}
