package sidecar

import (
	"unicode/utf8"

	"chartgate/internal/authz"
)

// fastQuestion reads the plain form of a single question straight from its
// text: members that are known, once each, strings without escapes. It reports
// false for everything else, which the ordinary reader then judges; where it
// reports true, the two agree (FuzzFastQuestion). Its strings are parts of s.
func fastQuestion(s string) (authz.Request, bool) {
	p := plain{s: s}
	var r authz.Request
	seen := p.object(func(name string) int { return p.entity(&r, name) })
	return r, p.ended() && seen&needed == needed
}

// fastBatch reads the plain form of several questions, as fastQuestion that of
// one (FuzzFastBatch), into room.
func fastBatch(s string, room *batchRoom) (batch, bool) {
	p := plain{s: s}
	b := batch{semantic: executeAll}
	var defaults authz.Request
	named := room.named[:0] // which entities each question names itself
	b.requests = room.requests[:0]
	defer func() { room.named, room.requests = named, b.requests }()
	seen := p.object(func(name string) int {
		switch name {
		case "evaluations":
			p.array(func() {
				var r authz.Request
				named = append(named, uint8(p.object(func(name string) int { return p.entity(&r, name) })))
				b.requests = append(b.requests, r)
				p.odd = p.odd || len(b.requests) > maxEvaluations
			})
			return 16
		case "options":
			p.object(func(name string) int {
				if name != "evaluations_semantic" {
					return 0
				}
				b.semantic = p.text()
				p.odd = p.odd || !knownSemantic(b.semantic)
				return 1
			})
			return 32
		}
		return p.entity(&defaults, name)
	})
	for i := range b.requests {
		r, own := &b.requests[i], int(named[i])
		p.odd = p.odd || (own|seen)&needed != needed
		if own&subjectBit == 0 {
			r.Subject = defaults.Subject
		}
		if own&actionBit == 0 {
			r.Action = defaults.Action
		}
		if own&resourceBit == 0 {
			r.Resource = defaults.Resource
		}
		if own&contextBit == 0 {
			r.Context = defaults.Context
		}
	}
	return b, p.ended() && len(b.requests) > 0
}

// The entities of a question that was read, as bits; needed are those that each must have.
const (
	subjectBit = 1 << iota
	actionBit
	resourceBit
	contextBit
	needed = subjectBit | actionBit | resourceBit
)

// plain walks over JSON text. Once something is odd it stays odd.
type plain struct {
	s   string
	at  int
	odd bool
}

func (p *plain) space() {
	for p.at < len(p.s) {
		switch p.s[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// take reads c, after white space.
func (p *plain) take(c byte) bool {
	p.space()
	if p.odd || p.at >= len(p.s) || p.s[p.at] != c {
		return false
	}
	p.at++
	return true
}

func (p *plain) must(c byte) {
	if !p.take(c) {
		p.odd = true
	}
}

// ended reports whether all was plain, and nothing follows.
func (p *plain) ended() bool {
	p.space()
	return !p.odd && p.at == len(p.s)
}

// entity reads an entity of a question into r and returns its bit, 0 where the
// name is of none.
func (p *plain) entity(r *authz.Request, name string) int {
	switch name {
	case "subject":
		parts := p.object(func(name string) int { return p.named(&r.Subject.Type, &r.Subject.ID, name) })
		return p.require(parts, 1|2, subjectBit)
	case "action":
		parts := p.object(func(name string) int {
			if name != "name" {
				return 0
			}
			r.Action = p.text()
			return 1
		})
		return p.require(parts, 1, actionBit)
	case "resource":
		parts := p.object(func(name string) int {
			if name == "properties" {
				r.Resource.Properties = p.properties()
				return 4
			}
			return p.named(&r.Resource.Type, &r.Resource.ID, name)
		})
		return p.require(parts&^4, 1|2, resourceBit)
	case "context":
		p.object(func(name string) int { return p.context(&r.Context, name) })
		return contextBit
	}
	return 0
}

// named reads the type or the id of a subject or a resource, and returns its bit.
func (p *plain) named(kind, id *string, name string) int {
	switch name {
	case "type":
		*kind = p.text()
		return 1
	case "id":
		*id = p.text()
		return 2
	}
	return 0
}

// array reads an array, of which item reads one value.
func (p *plain) array(item func()) {
	p.must('[')
	if p.take(']') {
		return
	}
	for !p.odd {
		item()
		if p.take(']') {
			return
		}
		p.must(',')
	}
}

// object reads an object and returns the bits of its members. Member reads the
// value of one and returns its bit, 0 for one that is not known.
func (p *plain) object(member func(name string) int) int {
	seen := 0
	p.must('{')
	if p.take('}') {
		return seen
	}
	for !p.odd {
		name := p.text()
		p.must(':')
		if p.odd {
			break
		}
		bit := member(name)
		if bit == 0 || seen&bit != 0 {
			p.odd = true
			break
		}
		seen |= bit
		if p.take('}') {
			return seen
		}
		p.must(',')
	}
	return seen
}

// require returns bit if all wanted members were there.
func (p *plain) require(seen, wanted, bit int) int {
	if seen != wanted {
		p.odd = true
	}
	return bit
}

// text reads a string without escapes.
func (p *plain) text() string {
	p.must('"')
	if p.odd {
		return ""
	}
	ascii := true
	for i := p.at; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			text := p.s[p.at:i]
			p.at = i + 1
			if !ascii && !utf8.ValidString(text) {
				p.odd = true
			}
			return text
		case c == '\\', c < 0x20:
			p.odd = true
			return ""
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	p.odd = true
	return ""
}

func (p *plain) properties() authz.Properties {
	kept := make(authz.Properties, len(authz.PropertyNames))
	p.object(func(name string) int {
		for i, known := range authz.PropertyNames {
			if name == known {
				kept[known] = p.value()
				return 1 << i
			}
		}
		return 0
	})
	return kept
}

// value reads a string, true or false.
func (p *plain) value() any {
	p.space()
	rest := p.s[p.at:]
	switch {
	case len(rest) >= 4 && rest[:4] == "true":
		p.at += 4
		return true
	case len(rest) >= 5 && rest[:5] == "false":
		p.at += 5
		return false
	}
	return p.text()
}

func (p *plain) context(c *authz.Context, name string) int {
	switch name {
	case "purpose":
		c.Purpose = p.text()
		return 1
	case "portal_profile":
		c.PortalProfile = p.text()
		return 2
	case "min_revision":
		c.MinRevision = p.text()
		return 4
	}
	return 0
}
