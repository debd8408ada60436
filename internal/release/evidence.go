package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Outcome is how a step ended.
type Outcome string

// The outcomes. Only a step that passed supports a release.
const (
	Running   Outcome = "running"
	Passed    Outcome = "passed"
	Refused   Outcome = "refused"   // it found what must not be
	Undecided Outcome = "undecided" // it cannot say, which nobody can approve
	Failed    Outcome = "failed"    // it could not be run, or was interrupted
)

// Finished is what one step found, as it is kept with the release.
type Finished struct {
	Outcome   Outcome         `json:"outcome"`
	Summary   string          `json:"summary,omitempty"` // one sentence
	Content   string          `json:"content"`           // what was looked at
	Against   string          `json:"against,omitempty"` // what it was compared with
	By        string          `json:"by"`                // who had it run
	StartedAt time.Time       `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at,omitempty"`
	Detail    json.RawMessage `json:"detail,omitempty"` // the step's own

	// While it runs.
	Run    string     `json:"run,omitempty"` // names the run: a later one makes it void
	BeatAt *time.Time `json:"beat_at,omitempty"`
	Done   int64      `json:"done,omitempty"`
	Total  int64      `json:"total,omitempty"`
}

// Evidence is what stands behind a release: what each step found, by its name,
// and why one person was enough where one was.
type Evidence struct {
	Steps        map[string]Finished
	SingleSigner string
}

const singleSigner = "single_signer" // beside the steps; the database asks for it by name

// MarshalJSON writes the steps by their names, with single_signer beside them.
func (e Evidence) MarshalJSON() ([]byte, error) {
	all := make(map[string]any, len(e.Steps)+1)
	for name, step := range e.Steps {
		all[name] = step
	}
	if e.SingleSigner != "" {
		all[singleSigner] = e.SingleSigner
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Evidence) UnmarshalJSON(text []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	e.Steps, e.SingleSigner = map[string]Finished{}, ""
	for name, part := range all {
		if name == singleSigner {
			if err := json.Unmarshal(part, &e.SingleSigner); err != nil {
				return err
			}
			continue
		}
		var step Finished
		if err := json.Unmarshal(part, &step); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.Steps[name] = step
	}
	return nil
}

// Canonical writes a JSON text in the one form that has a digest: members in
// the order of their names, no space, numbers as they stand, nothing escaped
// that need not be.
func Canonical(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Digest names evidence: what an approver says he has seen, and what the
// signature binds. text is the evidence as Postgres keeps it.
func Digest(text []byte) (string, error) {
	canonical, err := Canonical(text)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// supports is the state that the evidence carries a draft of this content to.
func (e Evidence) supports(content string, steps []Gate) State {
	against := ""
	for _, needed := range []State{StateVerified, StateReviewed} {
		for _, step := range steps {
			if step.For != needed {
				continue
			}
			found := e.Steps[step.Name]
			if found.Outcome != Passed || found.Content != content || content == "" {
				return before(needed)
			}
			if needed == StateReviewed && against != "" && found.Against != against {
				return StateVerified // compared with two different policies
			}
			if needed == StateReviewed {
				against = found.Against
			}
		}
	}
	return StateReviewed
}

func before(s State) State {
	if s == StateVerified {
		return StateDraft
	}
	return StateVerified
}

// against is the content that a reviewed release was compared with.
func (e Evidence) against(steps []Gate) string {
	for _, step := range steps {
		if step.For == StateReviewed {
			return e.Steps[step.Name].Against
		}
	}
	return ""
}
