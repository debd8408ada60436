package authz

import (
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// Precedent is a decision that holds again for the same question on the same
// facts, for as long as the clock does not pass a time that matters to it. What
// it holds is shared, and must not be changed.
type Precedent struct {
	By    uint64 // the number of the program that decided
	Grant *Grant // which of the facts it rests on: it is another one once this one ended
	Span  Span
	Exact *Decision
	Shown *Decision
	asked asked

	// Entry is the recorder's: what its entries of such verdicts have in common.
	Entry atomic.Pointer[Entry]
}

// Entry is what entries of the record have in common that differ only in their
// id, their times, their revision and their request id.
type Entry struct {
	Head, Tail []byte
	Policy     [2]int // where in Head the release and the practice stand
}

// Span is all the times at which a decision is the same, by what the clock
// surely has reached (Facts.Now) and what it may have reached (Facts.Latest, or
// Facts.Now where that is later).
type Span struct{ Now, Latest Range }

// Range is times in microseconds since 1970, both ends included.
type Range struct{ From, To int64 }

// Always is every time, Never is none.
var (
	Always = Span{Range{math.MinInt64, math.MaxInt64}, Range{math.MinInt64, math.MaxInt64}}
	Never  = Span{Range{1, 0}, Range{1, 0}}
)

// Meet leaves of s what it has in common with other.
func (s *Span) Meet(other Span) {
	s.Now.meet(other.Now)
	s.Latest.meet(other.Latest)
}

func (r *Range) meet(other Range) { r.From, r.To = max(r.From, other.From), min(r.To, other.To) }

func (r Range) holds(t time.Time) bool {
	at := t.UnixMicro()
	return r.From <= at && at <= r.To
}

// Covers reports whether the clock of f lies in s.
func (s *Span) Covers(f *Facts) bool {
	latest := f.Latest
	if !latest.After(f.Now) {
		latest = f.Now
	}
	return !f.Now.IsZero() && s.Now.holds(f.Now) && s.Latest.holds(latest)
}

// Precedents is the room for precedents that a source keeps beside facts which
// it gives out again and again. Nil is no room.
type Precedents struct {
	rooms [2]atomic.Pointer[Precedent] // of the questions that came first: what the facts rest on is the same in all
}

// Of returns the precedent that program by set for r on f, whose room p is; nil
// if there is none that holds now.
func (p *Precedents) Of(by uint64, r *Request, f *Facts) *Precedent {
	if p == nil || r.Resource.Properties != nil {
		return nil
	}
	for i := range p.rooms {
		if set := p.rooms[i].Load(); set != nil && set.holds(by, f) && set.asked.is(r) {
			return set
		}
	}
	return nil
}

// Set makes a precedent of what program by decided for all of span on f, whose
// room p is: r is exact, and may be answered with shown. It returns nil where
// that is none, or others that hold take all the room.
func (p *Precedents) Set(by uint64, r *Request, f *Facts, span Span, exact, shown Decision) *Precedent {
	if p == nil || r.Resource.Properties != nil || !span.Covers(f) {
		return nil
	}
	for i := range p.rooms {
		old := p.rooms[i].Load()
		if old != nil && old.holds(by, f) {
			continue
		}
		asked, ok := askedOf(r)
		if !ok {
			return nil
		}
		set := &Precedent{By: by, Grant: f.Grant, Span: span, Exact: &exact, Shown: &exact, asked: asked}
		if shown.Code != exact.Code { // else nothing is hidden
			set.Shown = &shown
		}
		if p.rooms[i].CompareAndSwap(old, set) {
			return set
		}
		return nil
	}
	return nil
}

func (p *Precedent) holds(by uint64, f *Facts) bool {
	return p.By == by && p.Grant == f.Grant && p.Span.Covers(f)
}

// asked is a request without properties, packed: its texts may have been parts
// of something larger.
type asked struct {
	ends [8]uint16 // of the texts, in the order of textsOf
	text string
}

func textsOf(r *Request) [8]string {
	return [...]string{r.Action, r.Subject.ID, r.Resource.ID, r.Subject.Type, r.Resource.Type, r.Context.Purpose, r.Context.PortalProfile, r.Context.MinRevision}
}

func askedOf(r *Request) (a asked, ok bool) {
	texts := textsOf(r)
	if a.text = strings.Join(texts[:], ""); len(a.text) > math.MaxUint16 {
		return asked{}, false
	}
	end := 0
	for i, text := range texts {
		end += len(text)
		a.ends[i] = uint16(end)
	}
	return a, true
}

// is reports whether r asks the same.
func (a *asked) is(r *Request) bool {
	start := 0
	for i, text := range textsOf(r) {
		end := int(a.ends[i])
		if text != a.text[start:end] {
			return false
		}
		start = end
	}
	return true
}
