package pdp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"chartgate/internal/feed"
)

// acceptedFile says, in the folder of releases, how far the deployment's
// activations have come. Beside it stand the signed bundles that decide.
const acceptedFile = "accepted.json"

type acceptedState struct {
	Deployment string         `json:"deployment"`
	Serial     int64          `json:"serial"`
	Revision   int64          `json:"revision"`
	Bundles    []feed.Release `json:"bundles"`
}

// readAccepted reads how far this deployment had come before the start. What
// cannot be read counts as nothing: the database still says what is active.
func (r *Releases) readAccepted() highest {
	if r.o.Dir == "" {
		return highest{}
	}
	text, err := os.ReadFile(filepath.Join(r.o.Dir, acceptedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return highest{}
	}
	var state acceptedState
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		r.o.Log.Error("the last known good policy cannot be read", "error", err)
		return highest{}
	}
	if state.Deployment != r.o.Deployment {
		return highest{}
	}
	return highest{state.Serial, state.Revision}
}

// bundleFile is where a release is kept.
func bundleFile(of feed.Release) string {
	content := strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' {
			return c
		}
		return '-'
	}, of.Content)
	return fmt.Sprintf("%s-%d.tar.gz", content, of.Revision)
}

// kept returns the signed bundle of a release from disk. It is verified anew
// before it decides.
func (r *Releases) kept(of feed.Release) ([]byte, error) {
	if r.o.Dir == "" {
		return nil, fs.ErrNotExist
	}
	name := filepath.Join(r.o.Dir, bundleFile(of))
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBundle {
		return nil, fmt.Errorf("%s has %d bytes", name, info.Size())
	}
	return os.ReadFile(name)
}

// keep writes the releases that decide to disk, each file at once or not at
// all, and forgets the others.
func (r *Releases) keep() error {
	r.mu.Lock()
	a := r.current.Load().activation
	state := acceptedState{Deployment: r.o.Deployment, Serial: r.accepted.serial, Revision: r.accepted.revision, Bundles: []feed.Release{}}
	raws := map[string][]byte{}
	for _, of := range []feed.Release{a.Active, a.Candidate} {
		for _, l := range r.held {
			if raw := l.seals[of.Revision]; raw != nil && l.content == of.Content {
				state.Bundles = append(state.Bundles, of)
				raws[bundleFile(of)] = raw
			}
		}
	}
	r.mu.Unlock()
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return err
	}
	for name, raw := range raws {
		if info, err := os.Stat(filepath.Join(r.o.Dir, name)); err == nil && info.Size() == int64(len(raw)) {
			continue // it is verified before it is used
		}
		if err := r.write(name, raw); err != nil {
			return err
		}
	}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := r.write(acceptedFile, text); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(r.o.Dir, "*.tar.gz"))
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return raws[filepath.Base(name)] != nil })
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func (r *Releases) write(name string, content []byte) error {
	file, err := os.CreateTemp(r.o.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(r.o.Dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(r.o.Dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
