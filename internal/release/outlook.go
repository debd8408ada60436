package release

import (
	"context"
	"time"

	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// SettingsDifference is SettingsDifference by the release that is active. It
// needs that release's program, and says so where there is none.
func (s *Service) SettingsDifference(ctx context.Context, practice, preset string, overrides map[string]any) (report *SettingsReport, err error) {
	err = postgres.InSnapshot(ctx, s.o.Pool, func(tx pgx.Tx) error {
		engine, err := s.engines.In(ctx, tx, false)
		if err != nil {
			return err
		}
		report, err = SettingsDifference(ctx, tx, engine, practice, preset, overrides)
		return err
	})
	return report, err
}

// Effect is what a record of changes keeps of a SettingsReport: what changes,
// and how many members gain or lose how many clients, without who they are.
type Effect struct {
	Release  string          `json:"release,omitempty"`
	Settings []SettingChange `json:"settings,omitempty"`
	Actions  []string        `json:"actions,omitempty"`
	Changes  []BlastSum      `json:"changes,omitempty"`
	Unknown  string          `json:"unknown,omitempty"` // why nothing can be said
}

// effectTime is how long a change of settings waits to know its effect.
const effectTime = 5 * time.Second

// EffectOf is the effect of other settings, as far as it can be said soon.
func (s *Service) EffectOf(ctx context.Context, practice, preset string, overrides map[string]any) Effect {
	ctx, cancel := context.WithTimeout(ctx, effectTime)
	defer cancel()
	r, err := s.SettingsDifference(ctx, practice, preset, overrides)
	if err != nil {
		s.o.Log.WarnContext(ctx, "the effect of other settings cannot be said", "practice", practice, "error", err)
		return Effect{Unknown: "it could not be found out"}
	}
	return Effect{Release: r.Release, Settings: r.Settings, Actions: r.Actions, Changes: r.Blast.ByAction}
}
