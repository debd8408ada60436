package release

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"pgregory.net/rapid"
)

// drawnCourse is a course as Service writes it, with what stood after each turn.
type drawnCourse struct {
	course
	stood []feed.Activation
}

// drawCourse draws how an activation went over some years.
func drawCourse(t *rapid.T) drawnCourse {
	var d drawnCourse
	var a feed.Activation
	revision := int64(0)
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	add := func(verb Verb, before, after *turned) {
		at = at.Add(time.Duration(rapid.IntRange(1, 90*24*3600).Draw(t, "seconds")) * time.Second)
		d.turns, d.stood = append(d.turns, turn{at: at, verb: verb, before: before, after: after}), append(d.stood, a)
	}
	says := func(r feed.Release) *turned {
		return &turned{Release: r.Name, Content: r.Content, Revision: r.Revision}
	}
	propose := func() {
		revision++
		a.Candidate, a.Stage = feed.Release{Name: fmt.Sprintf("r-%d", rapid.IntRange(1, 3).Draw(t, "release")), Revision: revision}, feed.StagePrepare
		a.Candidate.Content = "content of " + a.Candidate.Name
		after := says(a.Candidate)
		after.Stage = feed.StagePrepare
		add(DoStage, nil, after)
	}
	a.Active = feed.Release{Name: "r-0", Content: "content of r-0"}
	add(DoActivate, nil, says(a.Active))
	for range rapid.IntRange(0, 30).Draw(t, "turns") {
		switch rapid.IntRange(0, 3).Draw(t, "turn") {
		case 0:
			if a.Candidate.Name == "" {
				propose()
			}
		case 1:
			if a.Candidate.Name == "" {
				propose()
			}
			was := &turned{Release: a.Candidate.Name, Stage: a.Stage, Share: a.Share}
			a.Stage, a.Share = feed.StageShadow, 0
			if rapid.Bool().Draw(t, "share") {
				a.Stage, a.Share = feed.StageShare, rapid.IntRange(1, 99).Draw(t, "percent")
			}
			after := says(a.Candidate)
			after.Stage, after.Share = a.Stage, a.Share
			add(DoStage, was, after)
		case 2:
			if a.Candidate.Name == "" {
				continue
			}
			was := says(a.Candidate)
			was.Stage, was.Share = a.Stage, a.Share
			a = feed.Activation{Active: a.Active}
			add(DoWithdraw, was, nil)
		case 3:
			if a.Candidate.Name == "" {
				propose()
			}
			was := says(a.Active)
			a = feed.Activation{Active: a.Candidate}
			add(DoActivate, was, says(a.Active))
		}
	}
	a.Serial = int64(len(d.turns))
	d.activation, d.since = a, at
	return d
}

// at is what stood at t, by the turns one after the other.
func (d drawnCourse) stoodAt(t time.Time) feed.Activation {
	a := feed.Activation{}
	for i, turn := range d.turns {
		if !turn.at.After(t) {
			a = d.stood[i]
		}
	}
	a.Serial = 0
	return a
}

// moments are some to ask about, those of the turns among them.
func (d drawnCourse) moments(t *rapid.T) []time.Time {
	var all []time.Time
	for _, turn := range d.turns {
		all = append(all, turn.at, turn.at.Add(-time.Microsecond), turn.at.Add(time.Duration(rapid.IntRange(1, 40*24*3600).Draw(t, "later"))*time.Second))
	}
	return all
}

func TestTheRecordTellsWhatStoodThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawCourse(t)
		for _, at := range d.moments(t) {
			got, first, err := d.at(at)
			got.Serial = 0
			if want := d.stoodAt(at); err != nil || got != want || (first.after != nil) != (want.Active.Name == "") {
				t.Fatalf("at %v stood %+v, the record says %+v, %v", at, want, got, err)
			}
		}
	})
}

// Where records are missing, what is still told is right.
func TestARecordWithGapsTellsNothingElse(t *testing.T) {
	told, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawCourse(t)
		holed := d.course
		month := func(at time.Time) time.Time { return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC) }
		if rapid.Bool().Draw(t, "purge") {
			until := d.turns[rapid.IntRange(0, len(d.turns)-1).Draw(t, "until")].at
			held := month(d.turns[rapid.IntRange(0, len(d.turns)-1).Draw(t, "held")].at) // under legal hold
			holed.turns = nil
			for _, turn := range d.turns {
				if m := month(turn.at); turn.at.After(until) || m.Equal(held) {
					holed.turns = append(holed.turns, turn)
				} else if !slices.Contains(holed.purged, m) {
					holed.purged = append(holed.purged, m)
				}
			}
		} else {
			gone := rapid.IntRange(0, len(d.turns)-1).Draw(t, "gone")
			for d.turns[gone].verb != DoActivate { // every other turn of that candidate goes with it
				gone--
			}
			holed.turns = slices.Concat(d.turns[:gone], d.turns[gone+1:])
		}
		for _, at := range d.moments(t) {
			got, first, err := holed.at(at)
			var p *authz.Problem
			if errors.As(err, &p) && p.Kind == authz.ErrUnavailable {
				refused++
				continue
			}
			told++
			got.Serial = 0
			if want := d.stoodAt(at); err != nil || got != want || (first.after != nil) != (want.Active.Name == "") {
				t.Fatalf("at %v stood %+v, what is left of the record says %+v, %v", at, want, got, err)
			}
		}
	})
	if told < 100 || refused < 100 {
		t.Errorf("told %d, refused %d: that tries nothing", told, refused)
	}
}
