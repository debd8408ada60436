package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
	"chartgate/internal/record"
)

// judge is one policy, made ready to decide what is on record.
type judge struct {
	engine  *pdp.Engine
	program *compile.Program
	actions map[string]bool
	reads   []string // settings that the policy reads
	unknown string   // what it reads that no record holds; "" for nothing
}

func newJudge(ctx context.Context, e *pdp.Engine) (*judge, error) {
	if e.OwnPolicy() {
		return nil, fmt.Errorf("replay: a policy of one's own decides on what callers send, which is not on record")
	}
	places, unknown, err := compile.Reads(e.Source(), e.Decision())
	if err != nil {
		return nil, err
	}
	j := &judge{engine: e, program: e.Program(), actions: map[string]bool{}}
	for _, path := range places {
		if name, ok := strings.CutPrefix(path, "settings."); ok {
			j.reads = append(j.reads, name)
		}
	}
	if len(unknown) > 0 {
		j.unknown = fmt.Sprintf("policy %s reads input.%s, which the record does not hold", e.Revision(), strings.Join(unknown, ", input."))
	}
	table, _, err := e.Query(ctx, "data.tables.actions", nil)
	if err != nil {
		return nil, err
	}
	known, _ := table.(map[string]any)
	for name := range known {
		j.actions[name] = true
	}
	return j, nil
}

// named is the action, or "" where the policy does not know it: what callers
// make up is unbounded.
func (j *judge) named(action string) string {
	if j.actions[action] {
		return action
	}
	return ""
}

// lacks says what the policy reads and the record of a decision does not hold,
// "" for nothing. A nil judge asks for nothing.
func (j *judge) lacks(s *keptSettings) string {
	switch {
	case j == nil:
		return ""
	case j.unknown != "":
		return j.unknown
	case s.missing:
		return whyNoSettings
	}
	for _, name := range j.reads {
		if s.document == nil {
			break // the facts had none: there was no practice
		}
		if _, ok := s.document[name]; !ok {
			return fmt.Sprintf("policy %s reads the setting %s, which is newer than the record", j.engine.Revision(), name)
		}
	}
	return ""
}

const whyNoSettings = "the settings that it rests on are not at hand"

// decide decides r, or, where the program cannot, the document that v holds.
// slow says that OPA decided. A policy that gives no decision answers
// "unavailable", as it would have done live.
func (j *judge) decide(ctx context.Context, v *record.View, r *record.Rebuilt, s *keptSettings) (a Answer, slow bool, err error) {
	if j.program != nil && (s.exact != nil || s.document == nil) {
		if verdict, ok := j.program.Decide(&r.Request, &r.Facts); ok {
			return answerOf(j.program.Decision(verdict)), false, nil
		}
	}
	document, err := v.Document(s.document)
	if err != nil {
		return a, true, err
	}
	d, err := j.engine.EvaluateDocument(ctx, document)
	if ctx.Err() != nil {
		return a, true, context.Cause(ctx)
	}
	if err != nil {
		return Answer{Code: authz.CodeUnavailable}, true, nil
	}
	return answerOf(d), true, nil
}

func answerOf(d authz.Decision) Answer { return Answer{d.Allow, d.Code, d.Bases} }

// recorded is what v says was decided. Where that is the answer at hand nothing
// is made anew.
func recorded(v *record.View, a Answer) Answer {
	same := v.Allow == a.Allow && string(v.Code) == a.Code && v.Bases.Len() == len(a.Bases)
	if same {
		i := 0
		for basis := range v.Bases.All() {
			same = same && string(basis) == a.Bases[i]
			i++
		}
	}
	if same {
		return a
	}
	return answerOf(v.Decision())
}

// keptSettings are settings as they are on record.
type keptSettings struct {
	exact    *authz.Settings // nil: this build cannot make the very same ones
	document map[string]any  // as a rule reads them; nil: the facts had none
	missing  bool            // the record names them, and nobody has them
}

var noSettings = &keptSettings{}

// settingsOnRecord finds settings by their digest, and keeps what it found.
type settingsOnRecord struct {
	source Recorded
	mu     sync.RWMutex
	kept   map[string]*keptSettings
}

// maxSettings bounds what is kept.
const maxSettings = 4096

func (s *settingsOnRecord) of(ctx context.Context, digest []byte) (*keptSettings, error) {
	if digest == nil {
		return noSettings, nil
	}
	s.mu.RLock()
	k := s.kept[string(digest)]
	s.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	text, err := s.source.Settings(ctx, digest)
	if err != nil {
		return nil, err
	}
	if k, err = readKept(text); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= maxSettings {
		s.kept = map[string]*keptSettings{}
	}
	s.kept[string(digest)] = k
	return k, nil
}

// readKept reads settings on record, and makes the very same ones where this
// build can: its catalogue may have changed since.
func readKept(text []byte) (*keptSettings, error) {
	if text == nil {
		return &keptSettings{missing: true}, nil
	}
	document, err := record.ReadSettings(text)
	if err != nil {
		return nil, err
	}
	overrides := map[string]any{}
	for _, d := range authz.Catalogue {
		if v, ok := document[d.Name]; ok {
			overrides[d.Name] = d.Write(v)
		}
	}
	k := &keptSettings{document: document}
	made, err := authz.NewSettings(authz.DefaultPreset, overrides)
	if errors.Is(err, authz.ErrMalformed) {
		return k, nil // a value that is not allowed any more
	}
	if err != nil {
		return nil, err
	}
	if same, _ := made.JSON(); bytes.Equal(same, text) {
		k.exact = made
	}
	return k, nil
}
