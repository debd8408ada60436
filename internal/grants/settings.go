package grants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"
)

// Settings are what a practice chose: a preset, and what it set differently.
type Settings struct {
	Preset    string
	Overrides map[string]any // by name, as authz.Settings.Show writes them
	Effective *authz.Settings
}

// document is s as it is kept and recorded. Two settings with the same document
// are the same.
func (s Settings) document() ([]byte, error) {
	return json.Marshal(map[string]any{"preset": s.Preset, "overrides": s.Overrides})
}

// Settings returns the settings of a practice.
func (s *Service) Settings(ctx context.Context, actor authz.Subject, practice string) (Settings, error) {
	var settings Settings
	c := call{actor: actor, action: actionSettings, practice: practice, hold: reading}
	err := s.do(ctx, c, func(a *act) error {
		settings = a.settings
		return nil
	})
	return settings, err
}

// SaveSettings replaces preset and overrides, if current accepts the settings
// that stand now; else nothing changes and the problem is "changed-meanwhile".
// What effect says of the change goes on record with it; it is asked only of a
// change that is allowed, and must hold no names and no e-mails.
func (s *Service) SaveSettings(ctx context.Context, actor authz.Subject, practice, preset string, overrides map[string]any,
	current func(Settings) bool, effect func(context.Context) any) (Settings, error) {
	effective, err := authz.NewSettings(preset, overrides)
	if err != nil {
		return Settings{}, err
	}
	saved := Settings{Preset: preset, Overrides: map[string]any{}, Effective: effective}
	for _, d := range authz.Catalogue {
		if _, set := overrides[d.Name]; set {
			saved.Overrides[d.Name] = effective.Show(d)
		}
	}
	after, err := saved.document()
	if err != nil {
		return Settings{}, fmt.Errorf("save settings: %w", err)
	}
	c := call{actor: actor, action: actionSettings, practice: practice, hold: changingPractice}
	err = s.do(ctx, c, func(a *act) error {
		if !current(a.settings) {
			return changedMeanwhile()
		}
		before, err := a.settings.document()
		if err != nil {
			return fmt.Errorf("save settings: %w", err)
		}
		if bytes.Equal(before, after) {
			return nil
		}
		if _, err := a.tx.Exec(ctx, updateSettings, practice, preset, saved.Overrides); err != nil {
			return fmt.Errorf("save settings: %w", err)
		}
		after := map[string]any{"preset": saved.Preset, "overrides": saved.Overrides}
		if said := effect(ctx); said != nil {
			after["effect"] = said
		}
		return a.record(ctx, change{before: map[string]any{"preset": a.settings.Preset, "overrides": a.settings.Overrides}, after: after})
	})
	return saved, err
}
